/* text_cache.c: see text_cache.h. */
#include "pipeline/text_cache.h"

#include <stdlib.h>
#include <string.h>

const struct sdw_text_cached *sdw_text_cache_find(struct sdw_text_cache *cache, int encoder,
                                                  int skip, const int32_t *id, int length)
{
    for (int i = 0; i < SDW_TEXT_CACHE_ENTRIES; i++) {
        struct sdw_text_cached *entry = &cache->entry[i];
        if (entry->length != length || entry->encoder != encoder || entry->skip != skip ||
            memcmp(entry->id, id, (size_t)length * sizeof *id) != 0)
            continue;
        entry->used = ++cache->uses;
        return entry;
    }
    return NULL;
}

void sdw_text_cache_forget(struct sdw_text_cached *entry)
{
    free(entry->id);
    free(entry->hidden);
    free(entry->pooled);
    *entry = (struct sdw_text_cached){0};
}

struct sdw_text_cached *sdw_text_cache_add(struct sdw_text_cache *cache, int encoder, int skip,
                                           const int32_t *id, int length, int width, int projection)
{
    struct sdw_text_cached *entry = &cache->entry[0];
    for (int i = 1; i < SDW_TEXT_CACHE_ENTRIES; i++)
        if (cache->entry[i].used < entry->used)
            entry = &cache->entry[i];
    sdw_text_cache_forget(entry);
    entry->id = malloc((size_t)length * sizeof *id);
    entry->hidden = malloc((size_t)length * (size_t)width * sizeof(float));
    entry->pooled = malloc((size_t)(projection > 0 ? projection : 1) * sizeof(float));
    if (!entry->id || !entry->hidden || !entry->pooled) {
        sdw_text_cache_forget(entry);
        return NULL;
    }
    memcpy(entry->id, id, (size_t)length * sizeof *id);
    entry->encoder = encoder;
    entry->skip = skip;
    entry->length = length;
    entry->used = ++cache->uses;
    return entry;
}

void sdw_text_cache_free(struct sdw_text_cache *cache)
{
    for (int i = 0; i < SDW_TEXT_CACHE_ENTRIES; i++)
        sdw_text_cache_forget(&cache->entry[i]);
}
