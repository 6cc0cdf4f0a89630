/* text_cache.h: what text encoders said to chunks of tokens, kept from job to job: negative prompts
 * and batches ask the same again. The least recently used goes. */
#ifndef SDW_PIPELINE_TEXT_CACHE_H
#define SDW_PIPELINE_TEXT_CACHE_H

#include "base/status.h"

#include <stdbool.h>
#include <stdint.h>

#define SDW_TEXT_CACHE_ENTRIES 16 /* some 400 KB each */

struct sdw_text_cached {
    int encoder, skip, length; /* length 0: an empty entry */
    uint64_t used;             /* larger: later */
    int32_t *id;               /* [length]; owned, with the next two */
    float *hidden;             /* [length,width] */
    float *pooled;             /* [projection] */
};

struct sdw_text_cache {
    struct sdw_text_cached entry[SDW_TEXT_CACHE_ENTRIES];
    uint64_t uses;
};

/* The entry of these tokens, or NULL. */
const struct sdw_text_cached *sdw_text_cache_find(struct sdw_text_cache *cache, int encoder,
                                                  int skip, const int32_t *id, int length);

/* An entry to be filled in by the caller, with room for all; NULL when there is no memory. Forget
 * it when filling it in fails. */
struct sdw_text_cached *sdw_text_cache_add(struct sdw_text_cache *cache, int encoder, int skip,
                                           const int32_t *id, int length, int width,
                                           int projection);
void sdw_text_cache_forget(struct sdw_text_cached *entry);
void sdw_text_cache_free(struct sdw_text_cache *cache);

#endif
