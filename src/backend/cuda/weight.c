/* weight.c: packing: the file's bytes go to the GPU as they are, once, and a kernel there turns
 * them round ([o,i,k,k] to [o,k,k,i]) and into the compute type. */
#include "backend/cuda/cuda.h"

#include <assert.h>
#include <stdlib.h>

#define THREADS 256
#define ALIGN   256 /* bytes, of each part of a weight */

static size_t aligned(size_t bytes)
{
    return (bytes + ALIGN - 1) & ~(size_t)(ALIGN - 1);
}

void sdw_cuda_weight_free(struct sdw_device *dev, struct sdw_weight *weight)
{
    struct sdw_cuda_weight *w = (struct sdw_cuda_weight *)weight;
    if (!w)
        return;
    sdw_cuda_buffer_free(dev, w->weight);
    free(w);
}

/* to [rows,positions,i] of `type` from an array on the host [rows,i,positions], as many rows at a
 * time as the work space holds. */
static void bring(struct sdw_device *dev, void *to, enum sdw_dtype type,
                  const struct sdw_array *from, int64_t rows, int i, int positions)
{
    struct sdw_cuda *cuda = (struct sdw_cuda *)dev;
    size_t row = (size_t)i * (size_t)positions, row_bytes = row * sdw_dtype_bytes(from->dtype);
    int64_t most = (int64_t)(SDW_CUDA_WORKSPACE_BYTES / row_bytes);
    assert(from->dtype <= SDW_BF16 && type <= SDW_BF16 && most > 0);
    if (from->dtype == type && (positions == 1 || i == 1)) {
        sdw_cuda_upload(dev, to, from->data, (size_t)rows * row_bytes);
        return;
    }
    for (int64_t at = 0; at < rows && !dev->failure.status; at += most) {
        int64_t n = rows - at < most ? rows - at : most;
        sdw_cuda_upload(dev, cuda->workspace, (const char *)from->data + (size_t)at * row_bytes,
                        (size_t)n * row_bytes);
        struct sdw_cuda_pack arguments = {
            .out = (char *)to + (size_t)at * row * sdw_dtype_bytes(type),
            .in = cuda->workspace,
            .count = n * (int64_t)row,
            .out_type = (int)type,
            .in_type = (int)from->dtype,
            .i = i,
            .positions = positions,
        };
        struct sdw_cuda_grid grid = {(arguments.count + THREADS - 1) / THREADS, 1, 1, THREADS, 0};
        sdw_cuda_launch(dev, SDW_CUDA_KERNEL_pack, grid, &arguments);
    }
}

static struct sdw_weight *pack(struct sdw_device *dev, const struct sdw_array *array,
                               const struct sdw_array *bias, int kernel,
                               struct sdw_conv_geometry geometry)
{
    struct sdw_cuda_weight *w = calloc(1, sizeof *w);
    float *zeros = bias ? NULL : calloc((size_t)array->dim[0], sizeof *zeros);
    int in = (int)array->dim[1], out = (int)array->dim[0], positions = kernel ? kernel * kernel : 1;
    if (!w || (!bias && !zeros)) {
        sdw_device_fail(dev, SDW_MEMORY, "%s: no memory for a weight", dev->id);
        free(w);
        free(zeros);
        return NULL;
    }
    w->base = (struct sdw_weight){.in = in, .out = out, .kernel = kernel, .geometry = geometry};
    size_t element = sdw_dtype_bytes(dev->compute);
    size_t bytes = aligned((size_t)sdw_array_count(array) * element),
           bias_bytes = aligned((size_t)out * sizeof(float));
    w->base.bytes = bytes + bias_bytes + aligned((size_t)out * element);
    char *memory = sdw_cuda_buffer_new(dev, w->base.bytes);
    struct sdw_array none = {.data = zeros, .rank = 1, .dim = {out}};
    if (memory) {
        w->weight = memory;
        w->bias = (float *)(void *)(memory + bytes);
        w->bias_narrow = memory + bytes + bias_bytes;
        bring(dev, w->weight, dev->compute, array, out, in, positions);
        bring(dev, w->bias, SDW_F32, bias ? bias : &none, out, 1, 1);
        bring(dev, w->bias_narrow, dev->compute, bias ? bias : &none, out, 1, 1);
    }
    free(zeros);
    if (memory && !dev->failure.status)
        return &w->base;
    sdw_cuda_weight_free(dev, &w->base);
    return NULL;
}

struct sdw_weight *sdw_cuda_pack_linear(struct sdw_device *dev, const struct sdw_array *weight,
                                        const struct sdw_array *bias)
{
    return pack(dev, weight, bias, 0, (struct sdw_conv_geometry){.stride = 1});
}

struct sdw_weight *sdw_cuda_pack_conv(struct sdw_device *dev, const struct sdw_array *weight,
                                      const struct sdw_array *bias,
                                      struct sdw_conv_geometry geometry)
{
    assert(weight->rank == 4 && weight->dim[2] == weight->dim[3] &&
           (weight->dim[2] == 1 || weight->dim[2] == 3));
    return pack(dev, weight, bias, (int)weight->dim[2], geometry);
}
