/* pointwise.c: launches pointwise.metal: a thread for each element of out. */
#include "backend/metal/metal.h"

static void launch(struct sdw_device *dev, enum sdw_metal_kernel kernel,
                   const struct sdw_tensor *out, const struct sdw_tensor *a,
                   const struct sdw_tensor *b, struct sdw_metal_pointwise params)
{
    int64_t count = sdw_tensor_count(out);
    if (count > UINT32_MAX - SDW_METAL_THREADS) {
        sdw_device_fail(dev, SDW_MEMORY, "%s: a tensor of %lld elements is beyond its kernels",
                        dev->id, (long long)count);
        return;
    }
    params.count = (unsigned)count;
    params.in_type = (int)a->dtype;
    params.out_type = (int)out->dtype;
    params.other_type = b ? (int)b->dtype : 0;
    params.channels = out->c;
    struct sdw_metal_dispatch dispatch = {
        .kernel = kernel,
        .buffer = {out->data, a->data, b ? b->data : NULL},
        .buffers = b ? 3 : 2,
        .params = &params,
        .params_bytes = sizeof params,
        .groups_x = (size_t)((count + SDW_METAL_THREADS - 1) / SDW_METAL_THREADS),
        .groups_y = 1,
        .groups_z = 1,
    };
    sdw_metal_run(dev, &dispatch);
}

void sdw_metal_geglu(struct sdw_device *dev, const struct sdw_tensor *out,
                     const struct sdw_tensor *in)
{
    launch(dev, SDW_METAL_KERNEL_geglu, out, in, NULL, (struct sdw_metal_pointwise){0});
}

void sdw_metal_act(struct sdw_device *dev, const struct sdw_tensor *out,
                   const struct sdw_tensor *in, enum sdw_act act)
{
    struct sdw_metal_pointwise params = {.act = (int)act};
    launch(dev, SDW_METAL_KERNEL_act, out, in, NULL, params);
}

void sdw_metal_cast(struct sdw_device *dev, const struct sdw_tensor *out,
                    const struct sdw_tensor *in)
{
    sdw_metal_act(dev, out, in, SDW_ACT_NONE);
}

void sdw_metal_add(struct sdw_device *dev, const struct sdw_tensor *out, const struct sdw_tensor *a,
                   const struct sdw_tensor *b)
{
    struct sdw_metal_pointwise params = {
        .h = a->h,
        .w = a->w,
        .repeat_images = b->n == 1,
        .repeat_pixels = b->h == 1 && b->w == 1,
    };
    launch(dev, SDW_METAL_KERNEL_add, out, a, b, params);
}

void sdw_metal_concat(struct sdw_device *dev, const struct sdw_tensor *out,
                      const struct sdw_tensor *a, const struct sdw_tensor *b)
{
    struct sdw_metal_pointwise params = {.other_channels = b->c};
    launch(dev, SDW_METAL_KERNEL_concat, out, a, b, params);
}

void sdw_metal_embed(struct sdw_device *dev, const struct sdw_tensor *out,
                     const struct sdw_tensor *table, const struct sdw_tensor *ids)
{
    launch(dev, SDW_METAL_KERNEL_embed, out, table, ids, (struct sdw_metal_pointwise){0});
}
