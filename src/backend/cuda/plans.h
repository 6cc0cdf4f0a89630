/* plans.h: what the users of NVIDIA's libraries share: a table that remembers how a shape is
 * computed, and a clock for the ways to compute it. */
#ifndef SDW_BACKEND_CUDA_PLANS_H
#define SDW_BACKEND_CUDA_PLANS_H

#include "backend/cuda/cuda.h"

#define SDW_CUDA_PLANS_MAX 512 /* shapes; the table is open: kept half empty */
#define SDW_CUDA_KEY_MAX   16

/* A shape, as the numbers that tell it from others; unused ones are zero. Zeroed: none. */
struct sdw_cuda_key {
    int64_t number[SDW_CUDA_KEY_MAX]; /* the first is never zero */
};

struct sdw_cuda_plans {
    struct sdw_cuda_key key[2 * SDW_CUDA_PLANS_MAX];
    int count;
};

/* FNV-1a. */
uint64_t sdw_cuda_hash(const void *bytes, size_t count);

/* Where in the table a shape stands or, when *fresh, may stand: it does once the caller has written
 * it to key[place] and counted it. -1: the table is full. */
int sdw_cuda_plans_find(const struct sdw_cuda_plans *plans, const struct sdw_cuda_key *key,
                        bool *fresh);
void sdw_cuda_plans_keep(struct sdw_cuda_plans *plans, int place, const struct sdw_cuda_key *key);

/* One way of several to do a piece of work; false when it could not be queued. */
struct sdw_cuda_trial {
    bool (*run)(void *context, int way);
    void *context;
};

/* Milliseconds of a run of that way, the mean of a few behind one that is not counted; negative
 * where it fails. Waits for the GPU: not while a step is recorded. */
float sdw_cuda_time(struct sdw_cuda *cuda, const struct sdw_cuda_trial *trial, int way);

#endif
