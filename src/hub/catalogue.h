/* catalogue.h: the models that have a name of their own, one row each, and where a model lies on
 * this machine. */
#ifndef SDW_HUB_CATALOGUE_H
#define SDW_HUB_CATALOGUE_H

#include "base/status.h"

#include <stddef.h>

#define SDW_MODEL_PATH_MAX 4096 /* bytes of a path, its NUL included */

struct sdw_catalogue_row {
    const char *aliases;    /* separated by blanks, lower case; the first is the canonical id */
    const char *repository; /* owner/name on the hub */
    int size;               /* native width and height, pixels */
    int steps;
    double guidance_scale;
};

extern const struct sdw_catalogue_row sdw_catalogue[];
extern const int sdw_catalogue_count;

/* The row that `name` means (an alias in any case, or a repository id), or NULL. */
const struct sdw_catalogue_row *sdw_catalogue_find(const char *name);

/* Where the weights of `model` lie: a path is taken as it is; an alias or owner/name is looked for
 * in the hub's cache
 * ($HF_HUB_CACHE, $HF_HOME/hub, or ~/.cache/huggingface/hub). Writes to path[SDW_MODEL_PATH_MAX].
 * SDW_NOT_FOUND's sentence says where it looked and how to get the model. */
enum sdw_status sdw_model_locate(char *path, const char *model, struct sdw_error *err);

#endif
