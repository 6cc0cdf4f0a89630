/* norm.c: launches norm.cu. */
#include "backend/cuda/cuda.h"

#include <assert.h>

#define THREADS    256 /* of norm.cu */
#define ROWS       8   /* of a layer norm, a block: a warp each */
#define SLICES_MAX 128 /* of a picture; each block of the second kernel reads all their sums */

void sdw_cuda_layer_norm(struct sdw_device *dev, const struct sdw_tensor *out,
                         const struct sdw_tensor *in, const struct sdw_norm *norm)
{
    int width = sdw_cuda_width(in->c);
    struct sdw_cuda_layer_norm a = {
        .out = out->data,
        .in = in->data,
        .weight = norm->weight,
        .bias = norm->bias,
        .rows = sdw_tensor_rows(in),
        .out_type = (int)out->dtype,
        .in_type = (int)in->dtype,
        .width = width,
        .packs = in->c / width,
        .epsilon = norm->epsilon,
    };
    struct sdw_cuda_grid grid = {(a.rows + ROWS - 1) / ROWS, 1, 1, THREADS, 0};
    sdw_cuda_launch(dev, SDW_CUDA_KERNEL_layer_norm, grid, &a);
}

/* Slices enough to fill the GPU twice, each of the same number of pixels but the last. */
static void divide(struct sdw_cuda_group_norm *a, const struct sdw_cuda *cuda, int n)
{
    int wanted = 2 * cuda->card.processors / n;
    wanted = wanted < 1 ? 1 : wanted > SLICES_MAX ? SLICES_MAX : wanted;
    a->slice = (a->pixels + wanted - 1) / wanted;
    a->slices = (a->pixels + a->slice - 1) / a->slice;
    size_t sums = 2 * (size_t)n * (size_t)a->slices * (size_t)a->groups;
    a->shifts = a->sums + sums;
    assert((sums + (size_t)n * (size_t)a->groups) * sizeof(float) <= SDW_CUDA_WORKSPACE_BYTES);
}

void sdw_cuda_group_norm(struct sdw_device *dev, const struct sdw_tensor *out,
                         const struct sdw_tensor *in, const struct sdw_norm *norm, enum sdw_act act,
                         const struct sdw_tensor *add)
{
    const struct sdw_cuda *cuda = (const struct sdw_cuda *)dev;
    int width = sdw_cuda_width(in->c);
    struct sdw_cuda_group_norm a = {
        .out = out->data,
        .in = in->data,
        .add = add ? add->data : NULL,
        .weight = norm->weight,
        .bias = norm->bias,
        .sums = cuda->workspace,
        .out_type = (int)out->dtype,
        .in_type = (int)in->dtype,
        .add_type = add ? (int)add->dtype : 0,
        .act = (int)act,
        .pixels = in->h * in->w,
        .packs = in->c / width,
        .width = width,
        .c = in->c,
        .groups = norm->groups,
        .epsilon = norm->epsilon,
    };
    divide(&a, cuda, in->n);
    int down = a.packs < THREADS ? THREADS / a.packs : 1; /* pixels of a block at a time */
    size_t channel_bytes = 2 * (size_t)in->c * sizeof(float);
    struct sdw_cuda_grid sums = {a.slices, in->n, 1, THREADS,
                                 (size_t)down * channel_bytes + (size_t)a.groups * sizeof(float)};
    struct sdw_cuda_grid apply = {a.slices, in->n, 1, THREADS, channel_bytes};
    sdw_cuda_launch(dev, SDW_CUDA_KERNEL_group_sums, sums, &a);
    sdw_cuda_launch(dev, SDW_CUDA_KERNEL_group_norm, apply, &a);
}
