/* attention.c: which kernel of attention.cu takes a head's width, where cuDNN is not faster. */
#include "backend/cuda/cudnn.h"

#define WIDE_MAX 512 /* columns of the widest head */

/* Bytes of attention.cu's struct wide_shared: q and kv [32][520], p [32][40], score [32][33] f32,
 * three columns of 32 f32. */
#define WIDE_SHARED (2 * 32 * 520 * 2 + 32 * 40 * 2 + 32 * 33 * 4 + 3 * 32 * 4)

/* The narrowest that fits; columns, and queries of a block. */
static const struct {
    int columns, queries, threads;
    size_t shared_bytes;
    enum sdw_cuda_kernel f16, bf16;
} forms[] = {
#define NARROW(columns)                                                                            \
    {                                                                                              \
        columns, 64, 128, (size_t)3 * 64 * (columns + 8) * 2,                                      \
            SDW_CUDA_KERNEL_attention_f16_##columns, SDW_CUDA_KERNEL_attention_bf16_##columns      \
    }
    NARROW(48),
    NARROW(64),
    NARROW(80),
    NARROW(160),
    {WIDE_MAX, 32, 256, WIDE_SHARED, SDW_CUDA_KERNEL_attention_f16_512,
     SDW_CUDA_KERNEL_attention_bf16_512},
};

void sdw_cuda_attention_own(struct sdw_device *dev, const struct sdw_tensor *out,
                            const struct sdw_tensor *q, const struct sdw_tensor *k,
                            const struct sdw_tensor *v, struct sdw_attention_geometry geometry)
{
    int width = q->c / geometry.heads;
    if (width > WIDE_MAX) {
        sdw_device_fail(dev, SDW_DEVICE, "%s: attention heads of %d; %d is the widest", dev->id,
                        width, WIDE_MAX);
        return;
    }
    bool aligned =
        ((uintptr_t)q->data | (uintptr_t)k->data | (uintptr_t)v->data | (uintptr_t)out->data) %
            16 ==
        0;
    struct sdw_cuda_attention a = {
        .out = out->data,
        .q = q->data,
        .k = k->data,
        .v = v->data,
        .queries = q->h * q->w,
        .keys = k->h * k->w,
        .heads = geometry.heads,
        .width = width,
        .scale_log2 = geometry.scale * 1.44269504088896340736f,
        .causal = geometry.causal,
        .vector = width % 8 == 0 && aligned,
    };
    if (dev->compute == SDW_F32) {
        struct sdw_cuda_grid grid = {(a.queries + 3) / 4, geometry.heads, q->n, 128,
                                     4 * (size_t)width * sizeof(float)};
        sdw_cuda_launch(dev, SDW_CUDA_KERNEL_attention_f32, grid, &a);
        return;
    }
    int form = 0;
    while (forms[form].columns < width)
        form++;
    struct sdw_cuda_grid grid = {(a.queries + forms[form].queries - 1) / forms[form].queries,
                                 geometry.heads, q->n, forms[form].threads,
                                 forms[form].shared_bytes};
    sdw_cuda_launch(dev, dev->compute == SDW_F16 ? forms[form].f16 : forms[form].bf16, grid, &a);
}

void sdw_cuda_attention(struct sdw_device *dev, const struct sdw_tensor *out,
                        const struct sdw_tensor *q, const struct sdw_tensor *k,
                        const struct sdw_tensor *v, struct sdw_attention_geometry geometry)
{
    if (!sdw_cudnn_attention(dev, out, q, k, v, geometry))
        sdw_cuda_attention_own(dev, out, q, k, v, geometry);
}
