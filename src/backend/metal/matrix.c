/* matrix.c: launches linear layers and convolutions (matrix.metal). */
#include "backend/metal/metal.h"

static size_t tiles(int64_t count)
{
    return (size_t)((count + SDW_METAL_TILE - 1) / SDW_METAL_TILE);
}

static void launch(struct sdw_device *dev, const struct sdw_tensor *out,
                   const struct sdw_tensor *in, const struct sdw_weight *weight,
                   const struct sdw_tensor *residual, struct sdw_metal_matrix params)
{
    const struct sdw_metal_weight *packed = (const struct sdw_metal_weight *)weight;
    int64_t rows = sdw_tensor_rows(out);
    if (rows > INT32_MAX - SDW_METAL_TILE) {
        sdw_device_fail(dev, SDW_MEMORY, "%s: a product of %lld rows is beyond its kernels",
                        dev->id, (long long)rows);
        return;
    }
    params.rows = (int)rows;
    params.out = out->c;
    params.out_type = (int)out->dtype;
    params.residual = residual != NULL;
    size_t group_floats = 2 * SDW_METAL_TILE_STEP * (SDW_METAL_TILE + 1);
    struct sdw_metal_dispatch dispatch = {
        .kernel =
            dev->compute == SDW_F32 ? SDW_METAL_KERNEL_matrix_f32 : SDW_METAL_KERNEL_matrix_narrow,
        .buffer = {out->data, in->data, packed->weight, packed->bias,
                   residual ? residual->data : out->data},
        .buffers = 5,
        .params = &params,
        .params_bytes = sizeof params,
        .group_bytes = group_floats * sizeof(float),
        .groups_x = tiles(out->c),
        .groups_y = tiles(rows),
        .groups_z = 1,
        .operations = 2.0 * (double)rows * params.in * params.out,
    };
    sdw_metal_run(dev, &dispatch);
}

void sdw_metal_linear(struct sdw_device *dev, const struct sdw_tensor *out,
                      const struct sdw_tensor *in, const struct sdw_weight *weight,
                      enum sdw_act act, const struct sdw_tensor *residual)
{
    launch(dev, out, in, weight, residual, (struct sdw_metal_matrix){.in = in->c, .act = (int)act});
}

void sdw_metal_conv2d(struct sdw_device *dev, const struct sdw_tensor *out,
                      const struct sdw_tensor *in, const struct sdw_weight *weight,
                      const struct sdw_tensor *residual)
{
    const struct sdw_conv_geometry *g = &weight->geometry;
    struct sdw_metal_matrix params = {
        .in = weight->kernel * weight->kernel * in->c,
        .taps = weight->kernel,
        .channels = in->c,
        .h = g->doubled ? out->h : in->h,
        .w = g->doubled ? out->w : in->w,
        .oh = out->h,
        .ow = out->w,
        .stride = g->stride,
        .top = g->top,
        .left = g->left,
        .doubled = g->doubled,
    };
    launch(dev, out, in, weight, residual, params);
}
