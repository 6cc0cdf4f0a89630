/* memory.c: buffers of the GPU, and copies by way of pinned memory: the driver copies that without
 * the processor, so the next piece is filled while the last one travels. */
#include "backend/cuda/cuda.h"

#include <stdio.h>
#include <string.h>

#define RESERVE_BYTES ((size_t)128 << 20) /* left to the driver and the libraries */
#define LOOK_BYTES    ((size_t)1 << 20)

/* Looks how much of the GPU is in use: where something large was asked for, and at the end. */
static void look(struct sdw_cuda *cuda)
{
    size_t left = 0, all = 0;
    if (cuda->driver.cuMemGetInfo(&left, &all) == CUDA_SUCCESS && all - left > cuda->peak_bytes)
        cuda->peak_bytes = all - left;
}

CUdeviceptr sdw_cuda_memory_new(struct sdw_cuda *cuda, size_t bytes)
{
    CUdeviceptr memory = 0;
    if (cuda->driver.cuMemAlloc(&memory, bytes) != CUDA_SUCCESS)
        return 0;
    look(cuda);
    return memory;
}

size_t sdw_cuda_memory_peak(struct sdw_device *dev)
{
    struct sdw_cuda *cuda = (struct sdw_cuda *)dev;
    sdw_cuda_enter(cuda);
    look(cuda);
    return cuda->peak_bytes;
}

void *sdw_cuda_buffer_new(struct sdw_device *dev, size_t bytes)
{
    struct sdw_cuda *cuda = (struct sdw_cuda *)dev;
    CUdeviceptr buffer = 0;
    char what[64];
    sdw_cuda_enter(cuda);
    CUresult result = cuda->driver.cuMemAlloc(&buffer, bytes ? bytes : 1);
    if (bytes >= LOOK_BYTES)
        look(cuda);
    snprintf(what, sizeof what, "asking for %zu MB", bytes >> 20);
    return sdw_cuda_ok(dev, result, what) ? (void *)(uintptr_t)buffer : NULL;
}

/* Waits for the queue: a kernel may still read what is freed. */
void sdw_cuda_buffer_free(struct sdw_device *dev, void *buffer)
{
    struct sdw_cuda *cuda = (struct sdw_cuda *)dev;
    if (!buffer)
        return;
    sdw_cuda_enter(cuda);
    cuda->driver.cuStreamSynchronize(cuda->stream); /* what it finds, the next sync tells */
    cuda->driver.cuMemFree(sdw_cuda_address(buffer));
}

/* When this returns, from_host has been read; the copy is queued. */
void sdw_cuda_upload(struct sdw_device *dev, void *to, const void *from_host, size_t bytes)
{
    struct sdw_cuda *cuda = (struct sdw_cuda *)dev;
    const struct sdw_cuda_driver *driver = &cuda->driver;
    sdw_cuda_enter(cuda);
    for (size_t at = 0, piece; at < bytes; at += piece) {
        struct sdw_cuda_staging *staging = &cuda->staging[cuda->next_staging];
        cuda->next_staging = 1 - cuda->next_staging;
        piece = bytes - at < SDW_CUDA_STAGING_BYTES ? bytes - at : SDW_CUDA_STAGING_BYTES;
        if (!sdw_cuda_ok(dev, driver->cuEventSynchronize(staging->done), "copying to the GPU"))
            return;
        memcpy(staging->host, (const char *)from_host + at, piece);
        CUresult result = driver->cuMemcpyHtoDAsync(sdw_cuda_address(to) + at, staging->host, piece,
                                                    cuda->stream);
        if (result == CUDA_SUCCESS)
            result = driver->cuEventRecord(staging->done, cuda->stream);
        if (!sdw_cuda_ok(dev, result, "copying to the GPU"))
            return;
    }
}

/* When this returns, to_host has been written. */
void sdw_cuda_download(struct sdw_device *dev, void *to_host, const void *from, size_t bytes)
{
    struct sdw_cuda *cuda = (struct sdw_cuda *)dev;
    const struct sdw_cuda_driver *driver = &cuda->driver;
    struct sdw_cuda_staging *staging = &cuda->staging[cuda->next_staging];
    cuda->next_staging = 1 - cuda->next_staging;
    sdw_cuda_enter(cuda);
    for (size_t at = 0, piece; at < bytes; at += piece) {
        piece = bytes - at < SDW_CUDA_STAGING_BYTES ? bytes - at : SDW_CUDA_STAGING_BYTES;
        CUresult result = driver->cuMemcpyDtoHAsync(staging->host, sdw_cuda_address(from) + at,
                                                    piece, cuda->stream);
        if (result == CUDA_SUCCESS)
            result = driver->cuStreamSynchronize(cuda->stream);
        if (!sdw_cuda_ok(dev, result, "copying from the GPU"))
            return;
        memcpy((char *)to_host + at, staging->host, piece);
    }
}

/* May be asked by another thread than the one that computes. */
size_t sdw_cuda_memory_free(struct sdw_device *dev)
{
    const struct sdw_cuda *cuda = (const struct sdw_cuda *)dev;
    size_t left = 0, all = 0;
    sdw_cuda_enter(cuda);
    if (cuda->driver.cuMemGetInfo(&left, &all) != CUDA_SUCCESS)
        return 0;
    return left > RESERVE_BYTES ? left - RESERVE_BYTES : 0;
}
