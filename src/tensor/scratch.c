/* scratch.c: first-fit over a short sorted list of live blocks. */
#include "tensor/scratch.h"

#include "tensor/backend.h"

#include <assert.h>
#include <string.h>

void sdw_scratch_reserve(struct sdw_device *dev, size_t bytes)
{
    struct sdw_scratch *scratch = &dev->scratch;
    assert(scratch->count == 0);
    scratch->peak = 0;
    if (bytes <= scratch->capacity || dev->failure.status)
        return;
    sdw_scratch_release(dev);
    scratch->base = dev->ops->buffer_new(dev, bytes);
    scratch->capacity = scratch->base ? bytes : 0;
}

void sdw_scratch_release(struct sdw_device *dev)
{
    if (dev->scratch.base)
        dev->ops->buffer_free(dev, dev->scratch.base);
    dev->scratch = (struct sdw_scratch){0};
}

void sdw_scratch_reset(struct sdw_device *dev)
{
    dev->scratch.count = 0;
}

/* The lowest gap of `bytes` bytes; *at is the index that the new block takes. */
static size_t find_gap(const struct sdw_scratch *scratch, size_t bytes, int *at)
{
    size_t offset = 0;
    int i = 0;
    for (; i < scratch->count; i++) {
        if (scratch->block[i].offset - offset >= bytes)
            break;
        offset = scratch->block[i].offset + scratch->block[i].bytes;
    }
    *at = i;
    return offset;
}

struct sdw_tensor sdw_tensor_new(struct sdw_device *dev, enum sdw_dtype dtype, int n, int h, int w,
                                 int c)
{
    struct sdw_scratch *scratch = &dev->scratch;
    struct sdw_tensor tensor = {.dtype = dtype, .n = n, .h = h, .w = w, .c = c};
    assert(n > 0 && h > 0 && w > 0 && c > 0);
    if (dev->failure.status)
        return tensor;

    size_t bytes =
        (sdw_tensor_bytes(&tensor) + SDW_SCRATCH_ALIGN - 1) & ~(size_t)(SDW_SCRATCH_ALIGN - 1);
    int at;
    size_t offset = find_gap(scratch, bytes, &at);
    if (offset + bytes > scratch->capacity || scratch->count == SDW_SCRATCH_BLOCKS_MAX) {
        sdw_device_fail(
            dev, SDW_MEMORY,
            "%s: scratch memory of %zu bytes is full: no room for a tensor [%d,%d,%d,%d] of %s",
            dev->id, scratch->capacity, n, h, w, c, sdw_dtype_name(dtype));
        return tensor;
    }
    memmove(&scratch->block[at + 1], &scratch->block[at],
            (size_t)(scratch->count - at) * sizeof scratch->block[0]);
    scratch->block[at] = (struct sdw_scratch_block){offset, bytes};
    scratch->count++;
    if (offset + bytes > scratch->peak)
        scratch->peak = offset + bytes;
    tensor.data = scratch->base + offset;
    return tensor;
}

void sdw_tensor_free(struct sdw_device *dev, struct sdw_tensor *tensor)
{
    struct sdw_scratch *scratch = &dev->scratch;
    if (!tensor->data)
        return;
    size_t offset = (size_t)((char *)tensor->data - scratch->base);
    tensor->data = NULL;
    for (int i = 0; i < scratch->count; i++) {
        if (scratch->block[i].offset != offset)
            continue;
        scratch->count--;
        memmove(&scratch->block[i], &scratch->block[i + 1],
                (size_t)(scratch->count - i) * sizeof scratch->block[0]);
        return;
    }
    assert(!"a live tensor of this device");
}
