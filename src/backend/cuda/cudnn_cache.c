/* cudnn_cache.c: see cudnn_cache.h. A file is a head, which must be byte for byte the one that
 * would be written now, and the text. It is written beside its place and then renamed: a reader
 * sees all of it or none. */
#include "backend/cuda/cudnn_cache.h"

#include "base/log.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define HEAD_BYTES_MAX 1024

void sdw_cudnn_cache_open(struct sdw_cudnn_cache *cache, const char *maker)
{
    const char *named = getenv("SDW_CUDA_PLANS"), *base = getenv("XDG_CACHE_HOME"),
               *home = getenv("HOME");
    snprintf(cache->maker, sizeof cache->maker, "%s", maker);
    cache->folder[0] = '\0';
    if (named)
        snprintf(cache->folder, sizeof cache->folder, "%s", named);
    else if (base && *base)
        snprintf(cache->folder, sizeof cache->folder, "%s/sd-worker/plans", base);
    else if (home && *home)
        snprintf(cache->folder, sizeof cache->folder, "%s/.cache/sd-worker/plans", home);
}

/* Whose choice, of which shape. */
static int head_of(char head[HEAD_BYTES_MAX], const struct sdw_cudnn_cache *cache,
                   const struct sdw_cuda_key *key)
{
    int length = snprintf(head, HEAD_BYTES_MAX, "sd-worker plan 1\n%s\n", cache->maker);
    for (int i = 0; i < SDW_CUDA_KEY_MAX; i++)
        length += snprintf(head + length, HEAD_BYTES_MAX - (size_t)length, "%" PRId64 "%c",
                           key->number[i], i + 1 < SDW_CUDA_KEY_MAX ? ' ' : '\n');
    return length;
}

/* Named by the head's hash. */
static void path_of(char *path, size_t size, const struct sdw_cudnn_cache *cache, const char *head)
{
    snprintf(path, size, "%s/%016" PRIx64, cache->folder, sdw_cuda_hash(head, strlen(head)));
}

char *sdw_cudnn_cache_read(const struct sdw_cudnn_cache *cache, const struct sdw_cuda_key *key,
                           size_t *length)
{
    char head[HEAD_BYTES_MAX], path[sizeof cache->folder + 32];
    size_t head_length = (size_t)head_of(head, cache, key), all = 0;
    if (!cache->folder[0])
        return NULL;
    path_of(path, sizeof path, cache, head);
    FILE *file = fopen(path, "rb");
    char *text = file ? malloc(head_length + SDW_CUDNN_CACHE_BYTES_MAX + 1) : NULL;
    if (text)
        all = fread(text, 1, head_length + SDW_CUDNN_CACHE_BYTES_MAX + 1, file);
    if (file)
        fclose(file);
    if (!text || all < head_length || all > head_length + SDW_CUDNN_CACHE_BYTES_MAX ||
        memcmp(text, head, head_length) != 0) {
        free(text);
        return NULL;
    }
    *length = all - head_length;
    memmove(text, text + head_length, *length);
    return text;
}

/* The folder and those above it. */
static bool make_folder(const char *folder)
{
    char path[512];
    snprintf(path, sizeof path, "%s", folder);
    for (char *slash = strchr(path + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
        *slash = '\0';
        mkdir(path, 0700);
        *slash = '/';
    }
    return mkdir(path, 0700) == 0 || errno == EEXIST;
}

void sdw_cudnn_cache_write(const struct sdw_cudnn_cache *cache, const struct sdw_cuda_key *key,
                           const char *text, size_t length)
{
    char head[HEAD_BYTES_MAX], path[sizeof cache->folder + 32], beside[sizeof path + 32];
    size_t head_length = (size_t)head_of(head, cache, key);
    if (!cache->folder[0] || length > SDW_CUDNN_CACHE_BYTES_MAX || !make_folder(cache->folder))
        return;
    path_of(path, sizeof path, cache, head);
    snprintf(beside, sizeof beside, "%s.%ld", path, (long)getpid());
    FILE *file = fopen(beside, "wb");
    bool fine = file && fwrite(head, 1, head_length, file) == head_length &&
                fwrite(text, 1, length, file) == length;
    if (file)
        fine &= fclose(file) == 0;
    if (!fine || rename(beside, path) != 0) {
        sdw_log_debug("a plan cannot be kept in %s: %s", cache->folder, strerror(errno));
        unlink(beside);
    }
}
