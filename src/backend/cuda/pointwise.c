/* pointwise.c: launches pointwise.cu: a thread a pack of 8 elements, or of one where rows do not
 * divide. */
#include "backend/cuda/cuda.h"

#include <assert.h>

#define THREADS 256

static struct sdw_cuda_grid grid_of(int64_t count)
{
    assert(count <= UINT32_MAX); /* kernels divide in 32 bits */
    return (struct sdw_cuda_grid){(count + THREADS - 1) / THREADS, 1, 1, THREADS, 0};
}

void sdw_cuda_act(struct sdw_device *dev, const struct sdw_tensor *out, const struct sdw_tensor *in,
                  enum sdw_act act)
{
    int64_t count = sdw_tensor_count(in);
    int width = count % 8 == 0 ? 8 : 1; /* rows do not matter */
    struct sdw_cuda_map a = {.out = out->data,
                             .in = in->data,
                             .count = count / width,
                             .out_type = (int)out->dtype,
                             .in_type = (int)in->dtype,
                             .act = (int)act,
                             .width = width};
    sdw_cuda_launch(dev, SDW_CUDA_KERNEL_map, grid_of(a.count), &a);
}

void sdw_cuda_cast(struct sdw_device *dev, const struct sdw_tensor *out,
                   const struct sdw_tensor *in)
{
    sdw_cuda_act(dev, out, in, SDW_ACT_NONE);
}

void sdw_cuda_add(struct sdw_device *dev, const struct sdw_tensor *out, const struct sdw_tensor *a,
                  const struct sdw_tensor *b)
{
    int width = sdw_cuda_width(a->c), pixels = b->h * b->w;
    struct sdw_cuda_add arguments = {.out = out->data,
                                     .a = a->data,
                                     .b = b->data,
                                     .count = sdw_tensor_count(a) / width,
                                     .out_type = (int)out->dtype,
                                     .a_type = (int)a->dtype,
                                     .b_type = (int)b->dtype,
                                     .width = width,
                                     .pixels = a->h * a->w,
                                     .packs = a->c / width,
                                     .b_image = b->n == 1 ? 0 : pixels,
                                     .b_pixel = pixels == 1 ? 0 : 1};
    sdw_cuda_launch(dev, SDW_CUDA_KERNEL_add, grid_of(arguments.count), &arguments);
}

void sdw_cuda_concat(struct sdw_device *dev, const struct sdw_tensor *out,
                     const struct sdw_tensor *a, const struct sdw_tensor *b)
{
    int width = a->c % 8 == 0 && b->c % 8 == 0 ? 8 : 1;
    struct sdw_cuda_concat arguments = {.out = out->data,
                                        .a = a->data,
                                        .b = b->data,
                                        .count = sdw_tensor_count(out) / width,
                                        .out_type = (int)out->dtype,
                                        .a_type = (int)a->dtype,
                                        .b_type = (int)b->dtype,
                                        .width = width,
                                        .a_packs = a->c / width,
                                        .b_packs = b->c / width};
    sdw_cuda_launch(dev, SDW_CUDA_KERNEL_concat, grid_of(arguments.count), &arguments);
}

void sdw_cuda_embed(struct sdw_device *dev, const struct sdw_tensor *out,
                    const struct sdw_tensor *table, const struct sdw_tensor *ids)
{
    int width = sdw_cuda_width(out->c);
    struct sdw_cuda_embed a = {.out = out->data,
                               .table = table->data,
                               .ids = ids->data,
                               .count = sdw_tensor_count(out) / width,
                               .out_type = (int)out->dtype,
                               .table_type = (int)table->dtype,
                               .width = width,
                               .packs = out->c / width};
    sdw_cuda_launch(dev, SDW_CUDA_KERNEL_embed, grid_of(a.count), &a);
}

void sdw_cuda_geglu(struct sdw_device *dev, const struct sdw_tensor *out,
                    const struct sdw_tensor *in)
{
    int width = sdw_cuda_width(out->c);
    struct sdw_cuda_geglu a = {.out = out->data,
                               .in = in->data,
                               .count = sdw_tensor_count(out) / width,
                               .out_type = (int)out->dtype,
                               .in_type = (int)in->dtype,
                               .width = width,
                               .packs = out->c / width};
    sdw_cuda_launch(dev, SDW_CUDA_KERNEL_geglu, grid_of(a.count), &a);
}
