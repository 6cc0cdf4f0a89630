/* download.h: a model from the hub into its cache on this machine.
 *
 * Files come several at once, resume where they broke off, and become part of the cache only after
 * their size and checksum were right; refs/main, which makes a snapshot a model, is written last.
 * Environment: HF_ENDPOINT, HF_TOKEN, HF_HUB_OFFLINE, and the cache's (cache.h). */
#ifndef SDW_HUB_DOWNLOAD_H
#define SDW_HUB_DOWNLOAD_H

#include "base/status.h"
#include "hub/catalogue.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct sdw_hub_state {
    const char *repository;
    const char *file; /* one of those that are on their way, "" when none is */
    int files_done, files_total;
    int64_t bytes_done, bytes_total; /* done: with what was there before */
    double bytes_s;                  /* rate of this call */
    double left_s;                   /* negative while unknown */
};

struct sdw_hub_progress {
    /* About ten times a second, from the thread that called; may be NULL. */
    void (*tell)(void *context, const struct sdw_hub_state *state);
    void *context;
    const atomic_bool *cancel; /* may be NULL; once true, the call ends with SDW_CANCELLED */
};

/* Downloads `model` (an alias or owner/name) as far as it is not there, and writes its folder to
 * path[SDW_MODEL_PATH_MAX]. `progress` may be NULL. What arrived before a failure stays, and the
 * next call goes on from there. */
enum sdw_status sdw_hub_pull(char *path, const char *model, const struct sdw_hub_progress *progress,
                             struct sdw_error *err);

#endif
