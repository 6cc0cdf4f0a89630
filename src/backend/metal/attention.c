/* attention.c: launches attention.metal: picks tiles of queries and keys that fit the memory of a
 * group and the registers of its threads. */
#include "backend/metal/metal.h"

/* Floats of threadgroup memory, as attend() lays them out. */
static size_t room_floats(int queries, int keys, int width)
{
    return (size_t)(queries + keys) * (size_t)(width + 1) + (size_t)queries * (size_t)keys +
           3 * (size_t)queries;
}

/* The largest tiles, queries first: every key and value is read once a tile of queries. */
static bool choose_tiles(const struct sdw_metal *metal, struct sdw_metal_attention *params)
{
    for (int queries = 16; queries >= 1; queries /= 2)
        for (int keys = 32; keys >= 4; keys /= 2)
            if (queries * params->width <= SDW_METAL_THREADS * SDW_METAL_ATTENTION_SUMS &&
                room_floats(queries, keys, params->width) * sizeof(float) <=
                    metal->group_bytes_max) {
                params->query_tile = queries;
                params->key_tile = keys;
                return true;
            }
    return false;
}

void sdw_metal_attention(struct sdw_device *dev, const struct sdw_tensor *out,
                         const struct sdw_tensor *q, const struct sdw_tensor *k,
                         const struct sdw_tensor *v, struct sdw_attention_geometry geometry)
{
    struct sdw_metal_attention params = {
        .queries = q->h * q->w,
        .keys = k->h * k->w,
        .channels = q->c,
        .width = q->c / geometry.heads,
        .causal = geometry.causal,
        .scale = geometry.scale,
    };
    if (!choose_tiles((struct sdw_metal *)dev, &params)) {
        sdw_device_fail(dev, SDW_DEVICE, "%s: attention with heads %d wide does not fit a group",
                        dev->id, params.width);
        return;
    }
    struct sdw_metal_dispatch dispatch = {
        .kernel = dev->compute == SDW_F32 ? SDW_METAL_KERNEL_attention_f32
                                          : SDW_METAL_KERNEL_attention_narrow,
        .buffer = {out->data, q->data, k->data, v->data},
        .buffers = 4,
        .params = &params,
        .params_bytes = sizeof params,
        .group_bytes =
            room_floats(params.query_tile, params.key_tile, params.width) * sizeof(float),
        .groups_x = (size_t)((params.queries + params.query_tile - 1) / params.query_tile),
        .groups_y = (size_t)geometry.heads,
        .groups_z = (size_t)q->n,
        .operations = 4.0 * q->n * params.queries * params.keys * params.channels,
    };
    sdw_metal_run(dev, &dispatch);
}
