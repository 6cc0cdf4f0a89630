/* cudnn_cache.h: choices that outlive the process, a small file each: the next one need not compile
 * and measure again, and computes with the same engines.
 *
 * They lie in the folder that the environment's SDW_CUDA_PLANS names (empty: nothing is kept), else
 * in $XDG_CACHE_HOME/sd-worker/plans or ~/.cache/sd-worker/plans. What cannot be read or written is
 * measured anew. */
#ifndef SDW_BACKEND_CUDA_CUDNN_CACHE_H
#define SDW_BACKEND_CUDA_CUDNN_CACHE_H

#include "backend/cuda/plans.h"

#define SDW_CUDNN_CACHE_BYTES_MAX ((size_t)4 << 20) /* of a plan as text */

struct sdw_cudnn_cache {
    char folder[512]; /* empty: nothing is kept */
    char maker[192];  /* the GPU and the library: choices of others are none */
};

void sdw_cudnn_cache_open(struct sdw_cudnn_cache *cache, const char *maker);

/* The text that was kept for a shape, *length bytes, owned by the caller; empty where our own
 * kernel was chosen. NULL: nothing is known. */
char *sdw_cudnn_cache_read(const struct sdw_cudnn_cache *cache, const struct sdw_cuda_key *key,
                           size_t *length);
void sdw_cudnn_cache_write(const struct sdw_cudnn_cache *cache, const struct sdw_cuda_key *key,
                           const char *text, size_t length);

#endif
