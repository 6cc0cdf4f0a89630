/* cache.h: the hub's cache on this machine, in the layout that its own tools share:
 *
 *   models--OWNER--NAME/blobs/DIGEST               bytes, checked
 *   models--OWNER--NAME/blobs/DIGEST.incomplete    bytes on their way
 *   models--OWNER--NAME/snapshots/COMMIT/PATH      links into blobs
 *   models--OWNER--NAME/refs/main                  the commit; written last */
#ifndef SDW_HUB_CACHE_H
#define SDW_HUB_CACHE_H

#include "base/status.h"
#include "hub/catalogue.h"

#include <stdbool.h>
#include <stdint.h>

#define SDW_REPOSITORY_MAX 200 /* bytes of owner/name, its NUL included */

/* owner/name in letters, digits, '-', '_' and '.': what may become part of a path and an address.
 */
bool sdw_repository_valid(const char *name);
/* The repository that `model` (an alias or owner/name) means, or NULL. */
const char *sdw_repository_of(const char *model);

/* $HF_HUB_CACHE, $HF_HOME/hub or ~/.cache/huggingface/hub, into path[SDW_MODEL_PATH_MAX]. */
void sdw_cache_folder(char *path);
/* The same, and models--OWNER--NAME in it. */
void sdw_cache_repository(char *path, const char *repository);

struct sdw_cached_model {
    char repository[SDW_REPOSITORY_MAX];
    int64_t bytes; /* on disk, partial downloads included */
    bool complete; /* refs/main is there */
};

/* Calls tell() for each model in the cache, in no order. A cache that is not there has none. */
enum sdw_status sdw_cache_list(void (*tell)(void *context, const struct sdw_cached_model *model),
                               void *context, struct sdw_error *err);
/* Removes a model (an alias or owner/name) with all its files, and says how many bytes that freed.
 */
enum sdw_status sdw_cache_remove(const char *model, int64_t *bytes, struct sdw_error *err);

#endif
