/* attention.c: launches attention.metal, or attention_simdgroups.metal: picks tiles of queries and
 * keys that fit the memory of a group and the registers of its threads. */
#include "backend/metal/metal.h"

/* Floats of threadgroup memory, as attend() lays them out. */
static size_t room_floats(int queries, int keys, int width)
{
    return (size_t)(queries + keys) * (size_t)(width + 1) + (size_t)queries * (size_t)keys +
           3 * (size_t)queries;
}

/* As matrix_tiles_of() does. */
static size_t matrix_room_floats(int queries, int keys, int width)
{
    size_t stride = ((size_t)width + 7) / 8 * 8 + 4;
    return (size_t)(queries + keys) * stride + (size_t)queries * (size_t)keys +
           10 * (size_t)queries + 2 * SDW_METAL_THREADS;
}

/* The largest tiles, queries first: every key and value is read once a tile of queries. Gives the
 * bytes of threadgroup memory that they take, or 0. */
static size_t choose_tiles(const struct sdw_metal *metal, struct sdw_metal_attention *params)
{
    for (int queries = 16; queries >= 1; queries /= 2)
        for (int keys = 32; keys >= 4; keys /= 2) {
            size_t bytes = room_floats(queries, keys, params->width) * sizeof(float);
            if (queries * params->width <= SDW_METAL_THREADS * SDW_METAL_ATTENTION_SUMS &&
                bytes <= metal->group_bytes_max) {
                params->query_tile = queries;
                params->key_tile = keys;
                return bytes;
            }
        }
    return 0;
}

/* In matrices of 8 x 8; a lane of a simdgroup has a key, hence no more than 32. */
static size_t choose_matrix_tiles(const struct sdw_metal *metal, struct sdw_metal_attention *params)
{
    int parts = (params->width + 7) / 8;
    for (int queries = 32; queries >= 8; queries /= 2)
        for (int keys = 32; keys >= 8; keys /= 2) {
            size_t bytes = matrix_room_floats(queries, keys, params->width) * sizeof(float);
            if (queries / 8 * parts <= SDW_METAL_ATTENTION_MATRICES &&
                bytes <= metal->group_bytes_max) {
                params->query_tile = queries;
                params->key_tile = keys;
                return bytes;
            }
        }
    return 0;
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
    const struct sdw_metal *metal = (struct sdw_metal *)dev;
    size_t matrix_bytes = metal->simdgroups ? choose_matrix_tiles(metal, &params) : 0;
    size_t bytes = matrix_bytes ? matrix_bytes : choose_tiles(metal, &params);
    if (!bytes) {
        sdw_device_fail(dev, SDW_DEVICE, "%s: attention with heads %d wide does not fit a group",
                        dev->id, params.width);
        return;
    }
    static const enum sdw_metal_kernel kernels[2][2] = {
        {SDW_METAL_KERNEL_attention_f32, SDW_METAL_KERNEL_attention_narrow},
        {SDW_METAL_KERNEL_attention_simdgroups_f32, SDW_METAL_KERNEL_attention_simdgroups_narrow},
    };
    struct sdw_metal_dispatch dispatch = {
        .kernel = kernels[matrix_bytes != 0][dev->compute != SDW_F32],
        .buffer = {out->data, q->data, k->data, v->data},
        .buffers = 4,
        .params = &params,
        .params_bytes = sizeof params,
        .group_bytes = bytes,
        .groups_x = (size_t)((params.queries + params.query_tile - 1) / params.query_tile),
        .groups_y = (size_t)geometry.heads,
        .groups_z = (size_t)q->n,
        .operations = 4.0 * q->n * params.queries * params.keys * params.channels,
    };
    sdw_metal_run(dev, &dispatch);
}
