/* scratch.h: memory for activations, without a malloc inside a step.
 *
 * One buffer of the device, handed out first-fit. The order of allocations of a forward pass
 * depends on shapes alone, so addresses repeat from step to step (a captured graph stays valid),
 * and a run on the trace device, whose buffer is boundless, tells the peak in advance. A size that
 * does not fit fails the device. */
#ifndef SDW_TENSOR_SCRATCH_H
#define SDW_TENSOR_SCRATCH_H

#include "tensor/tensor.h"

#define SDW_SCRATCH_ALIGN      256 /* bytes */
#define SDW_SCRATCH_BLOCKS_MAX 512 /* live tensors; a UNet needs about 30 */

struct sdw_device;

struct sdw_scratch {
    char *base;
    size_t capacity; /* bytes */
    size_t peak;     /* bytes: the highest end of a block since the last reserve */
    int count;
    struct sdw_scratch_block {
        size_t offset, bytes;
    } block[SDW_SCRATCH_BLOCKS_MAX]; /* live blocks, by offset */
};

/* Makes the device's scratch memory at least `bytes` large. No tensor may be live. A failure fails
 * the device. */
void sdw_scratch_reserve(struct sdw_device *dev, size_t bytes);
void sdw_scratch_release(struct sdw_device *dev); /* gives the memory back */

/* A tensor with undefined contents. On failure its data is NULL and the device has failed. */
struct sdw_tensor sdw_tensor_new(struct sdw_device *dev, enum sdw_dtype dtype, int n, int h, int w,
                                 int c);
/* Frees it and clears its data pointer; freeing a tensor without data does nothing. Any order. */
void sdw_tensor_free(struct sdw_device *dev, struct sdw_tensor *tensor);

/* Frees whatever is live: after a failure, when the code that owned the tensors has returned. */
void sdw_scratch_reset(struct sdw_device *dev);

#endif
