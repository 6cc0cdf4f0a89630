/* vocabulary.h: CLIP's vocabulary for a checkpoint file, which brings none. */
#ifndef SDW_WORKER_VOCABULARY_H
#define SDW_WORKER_VOCABULARY_H

#include "base/status.h"

/* Where vocab.json and merges.txt lie, into folder[SDW_MODEL_PATH_MAX]: DIR or DIR/tokenizer.
 * SDW_NOT_FOUND when there are none. */
enum sdw_status sdw_vocabulary_in(char *folder, const char *dir, struct sdw_error *err);

/* CLIP's own, for the checkpoint at `path`: beside it, or in the hub's cache with any model. The
 * sentence of SDW_NOT_FOUND says how to get it. */
enum sdw_status sdw_vocabulary_find(char *folder, const char *path, struct sdw_error *err);

#endif
