/* norm.c: launches norm.metal: one kernel for both norms. */
#include "backend/metal/metal.h"

static void launch(struct sdw_device *dev, const struct sdw_tensor *out,
                   const struct sdw_tensor *in, const struct sdw_norm *norm,
                   const struct sdw_tensor *add, struct sdw_metal_norm params, size_t runs,
                   size_t images)
{
    params.channels = in->c;
    params.in_type = (int)in->dtype;
    params.out_type = (int)out->dtype;
    params.epsilon = norm->epsilon;
    if (add) {
        params.add = 1;
        params.add_type = (int)add->dtype;
    }
    struct sdw_metal_dispatch dispatch = {
        .kernel = SDW_METAL_KERNEL_norm,
        .buffer = {out->data, in->data, norm->weight, norm->bias, add ? add->data : in->data},
        .buffers = 5,
        .params = &params,
        .params_bytes = sizeof params,
        .group_bytes = SDW_METAL_THREADS * sizeof(float),
        .groups_x = runs,
        .groups_y = images,
        .groups_z = 1,
    };
    sdw_metal_run(dev, &dispatch);
}

void sdw_metal_group_norm(struct sdw_device *dev, const struct sdw_tensor *out,
                          const struct sdw_tensor *in, const struct sdw_norm *norm,
                          enum sdw_act act, const struct sdw_tensor *add)
{
    struct sdw_metal_norm params = {
        .pixels = in->h * in->w, .width = in->c / norm->groups, .act = (int)act};
    launch(dev, out, in, norm, add, params, (size_t)norm->groups, (size_t)in->n);
}

void sdw_metal_layer_norm(struct sdw_device *dev, const struct sdw_tensor *out,
                          const struct sdw_tensor *in, const struct sdw_norm *norm)
{
    struct sdw_metal_norm params = {.pixels = 1, .width = in->c};
    launch(dev, out, in, norm, NULL, params, 1, (size_t)sdw_tensor_rows(in));
}
