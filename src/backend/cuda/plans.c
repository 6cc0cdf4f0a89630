/* plans.c: see plans.h. */
#include "backend/cuda/plans.h"

#include <string.h>

#define REPEATS 5

uint64_t sdw_cuda_hash(const void *bytes, size_t count)
{
    const unsigned char *byte = bytes;
    uint64_t hash = 0xcbf29ce484222325u;
    for (size_t i = 0; i < count; i++)
        hash = (hash ^ byte[i]) * 0x100000001b3u;
    return hash;
}

int sdw_cuda_plans_find(const struct sdw_cuda_plans *plans, const struct sdw_cuda_key *key,
                        bool *fresh)
{
    for (uint64_t i = sdw_cuda_hash(key, sizeof *key);; i++) {
        int place = (int)(i % (2 * SDW_CUDA_PLANS_MAX));
        *fresh = plans->key[place].number[0] == 0;
        if (*fresh)
            return plans->count < SDW_CUDA_PLANS_MAX ? place : -1;
        if (memcmp(&plans->key[place], key, sizeof *key) == 0)
            return place;
    }
}

void sdw_cuda_plans_keep(struct sdw_cuda_plans *plans, int place, const struct sdw_cuda_key *key)
{
    plans->key[place] = *key;
    plans->count++;
}

/* Between two events: what the GPU took, not what it took to tell it. */
static bool time_between(struct sdw_cuda *cuda, const struct sdw_cuda_trial *trial, int way,
                         CUevent start, CUevent end)
{
    const struct sdw_cuda_driver *driver = &cuda->driver;
    bool fine = trial->run(trial->context, way); /* not counted */
    fine = fine && driver->cuEventRecord(start, cuda->stream) == CUDA_SUCCESS;
    for (int i = 0; i < REPEATS && fine; i++)
        fine = trial->run(trial->context, way);
    fine = fine && driver->cuEventRecord(end, cuda->stream) == CUDA_SUCCESS;
    return fine && driver->cuEventSynchronize(end) == CUDA_SUCCESS;
}

float sdw_cuda_time(struct sdw_cuda *cuda, const struct sdw_cuda_trial *trial, int way)
{
    const struct sdw_cuda_driver *driver = &cuda->driver;
    CUevent start = NULL, end = NULL;
    float ms = -1;
    if (driver->cuEventCreate(&start, CU_EVENT_DEFAULT) == CUDA_SUCCESS &&
        driver->cuEventCreate(&end, CU_EVENT_DEFAULT) == CUDA_SUCCESS &&
        time_between(cuda, trial, way, start, end) &&
        driver->cuEventElapsedTime(&ms, start, end) != CUDA_SUCCESS)
        ms = -1;
    if (end)
        driver->cuEventDestroy(end);
    if (start)
        driver->cuEventDestroy(start);
    return ms < 0 ? -1 : ms / REPEATS;
}
