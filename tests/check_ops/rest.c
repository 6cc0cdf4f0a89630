/* rest.c: norms and the operators that touch each element once. */
#include "check_ops.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static enum sdw_dtype types[2][2]; /* in, out */

/* Norm weights live in buffers of each device. */
struct norm_pair {
    struct sdw_norm fast, plain;
};

static const float *norm_values(struct sdw_device *dev, const float *values, int channels)
{
    float *buffer = dev->ops->buffer_new(dev, (size_t)channels * sizeof *buffer);
    dev->ops->upload(dev, buffer, values, (size_t)channels * sizeof *buffer);
    return buffer;
}

static struct norm_pair norm_new(struct check *c, int channels, int groups, float epsilon)
{
    float *weight = malloc((size_t)channels * sizeof *weight),
          *bias = malloc((size_t)channels * sizeof *bias);
    for (int i = 0; i < channels; i++) {
        weight[i] = 1 + 0.3f * check_random(&c->seed);
        bias[i] = 0.3f * check_random(&c->seed);
    }
    struct norm_pair norm = {{norm_values(c->fast, weight, channels),
                              norm_values(c->fast, bias, channels), epsilon, groups},
                             {norm_values(c->plain, weight, channels),
                              norm_values(c->plain, bias, channels), epsilon, groups}};
    free(weight);
    free(bias);
    return norm;
}

static void norm_free(struct check *c, struct norm_pair *norm)
{
    c->fast->ops->buffer_free(c->fast, (void *)norm->fast.weight);
    c->fast->ops->buffer_free(c->fast, (void *)norm->fast.bias);
    c->plain->ops->buffer_free(c->plain, (void *)norm->plain.weight);
    c->plain->ops->buffer_free(c->plain, (void *)norm->plain.bias);
}

static void check_group_norm(struct check *c, int n, int h, int w, int channels, int groups,
                             enum sdw_act act, bool add)
{
    for (int t = 0; t < 2; t++) {
        char name[128];
        snprintf(name, sizeof name, "group_norm [%d,%d,%d,%d], %d groups, act %d, add %d, %s -> %s",
                 n, h, w, channels, groups, act, add, sdw_dtype_name(types[t][0]),
                 sdw_dtype_name(types[t][1]));
        if (!check_wanted(c, name))
            continue;
        struct norm_pair norm = norm_new(c, channels, groups, 1e-5f);
        struct pair in = pair_random(c, types[t][0], n, h, w, channels, 4);
        struct pair more = pair_random(c, types[t][0], n, 1, 1, channels, 9);
        struct pair out = pair_new(c, types[t][1], n, h, w, channels);
        sdw_group_norm(c->fast, &out.fast, &in.fast, &norm.fast, act, add ? &more.fast : NULL);
        sdw_group_norm(c->plain, &out.plain, &in.plain, &norm.plain, act, add ? &more.plain : NULL);
        pair_check(c, &out, "%s", name);
        if (types[t][0] == types[t][1]) {
            sdw_group_norm(c->fast, &in.fast, &in.fast, &norm.fast, act, NULL);
            sdw_group_norm(c->plain, &in.plain, &in.plain, &norm.plain, act, NULL);
            pair_check(c, &in, "%s, in place", name);
        } else {
            pair_free(c, &in);
        }
        pair_free(c, &more);
        norm_free(c, &norm);
    }
}

static void check_layer_norm(struct check *c, int rows, int channels)
{
    for (int t = 0; t < 2; t++) {
        char name[128];
        snprintf(name, sizeof name, "layer_norm [%d,%d], %s -> %s", rows, channels,
                 sdw_dtype_name(types[t][0]), sdw_dtype_name(types[t][1]));
        if (!check_wanted(c, name))
            continue;
        struct norm_pair norm = norm_new(c, channels, 1, 1e-5f);
        struct pair in = pair_random(c, types[t][0], 1, rows, 1, channels, 5);
        struct pair out = pair_new(c, types[t][1], 1, rows, 1, channels);
        sdw_layer_norm(c->fast, &out.fast, &in.fast, &norm.fast);
        sdw_layer_norm(c->plain, &out.plain, &in.plain, &norm.plain);
        pair_check(c, &out, "%s", name);
        pair_free(c, &in);
        norm_free(c, &norm);
    }
}

static void check_pointwise(struct check *c, int n, int h, int w, int channels)
{
    for (int t = 0; t < 2; t++) {
        enum sdw_dtype from = types[t][0], to = types[t][1];
        char shape[96];
        snprintf(shape, sizeof shape, "[%d,%d,%d,%d] %s -> %s", n, h, w, channels,
                 sdw_dtype_name(from), sdw_dtype_name(to));
        if (!check_wanted(c, shape) && !check_wanted(c, "pointwise"))
            continue;
        struct pair a = pair_random(c, from, n, h, w, channels, 6),
                    b = pair_random(c, to, n, h, w, channels, 6);
        struct pair row = pair_random(c, from, 1, 1, 1, channels, 1);
        struct pair out = pair_new(c, to, n, h, w, channels);
        sdw_add(c->fast, &out.fast, &a.fast, &b.fast);
        sdw_add(c->plain, &out.plain, &a.plain, &b.plain);
        pair_check(c, &out, "pointwise add %s", shape);
        out = pair_new(c, to, n, h, w, channels);
        sdw_add(c->fast, &out.fast, &a.fast, &row.fast);
        sdw_add(c->plain, &out.plain, &a.plain, &row.plain);
        pair_check(c, &out, "pointwise add a row %s", shape);
        out = pair_new(c, to, n, h, w, channels);
        sdw_cast(c->fast, &out.fast, &a.fast);
        sdw_cast(c->plain, &out.plain, &a.plain);
        pair_check(c, &out, "pointwise cast %s", shape);
        for (int act = 0; act < SDW_ACT_COUNT; act++) {
            out = pair_new(c, to, n, h, w, channels);
            sdw_act(c->fast, &out.fast, &a.fast, (enum sdw_act)act);
            sdw_act(c->plain, &out.plain, &a.plain, (enum sdw_act)act);
            pair_check(c, &out, "pointwise act %d %s", act, shape);
        }
        out = pair_new(c, to, n, h, w, 2 * channels);
        sdw_concat(c->fast, &out.fast, &a.fast, &b.fast);
        sdw_concat(c->plain, &out.plain, &a.plain, &b.plain);
        pair_check(c, &out, "pointwise concat %s", shape);
        pair_free(c, &b);
        b = pair_random(c, from, n, h, w, 2 * channels, 6);
        out = pair_new(c, to, n, h, w, channels);
        sdw_geglu(c->fast, &out.fast, &b.fast);
        sdw_geglu(c->plain, &out.plain, &b.plain);
        pair_check(c, &out, "pointwise geglu %s", shape);
        pair_free(c, &a);
        pair_free(c, &b);
        pair_free(c, &row);
    }
}

static void check_embed(struct check *c)
{
    static const int32_t ids[] = {0, 9, 3, 3, 8};
    if (!check_wanted(c, "embed"))
        return;
    struct pair table = pair_random(c, SDW_F32, 1, 10, 1, 33, 1),
                out = pair_new(c, c->fast->stream, 1, 5, 1, 33);
    struct pair id = pair_new(c, SDW_I32, 1, 5, 1, 1);
    id.plain.dtype = SDW_I32;
    sdw_upload(c->fast, &id.fast, ids);
    sdw_upload(c->plain, &id.plain, ids);
    sdw_embed(c->fast, &out.fast, &table.fast, &id.fast);
    sdw_embed(c->plain, &out.plain, &table.plain, &id.plain);
    pair_check(c, &out, "embed 5 of 10, 33 wide");
    pair_free(c, &table);
    pair_free(c, &id);
}

void check_rest(struct check *c)
{
    types[0][0] = types[0][1] = types[1][0] = c->fast->stream;
    types[1][1] = c->fast->compute;
    check_group_norm(c, 2, 16, 16, 320, 32, SDW_ACT_SILU, true);
    check_group_norm(c, 1, 8, 8, 1280, 32, SDW_ACT_NONE, false);
    check_group_norm(c, 1, 64, 64, 128, 32, SDW_ACT_SILU, false);
    check_group_norm(c, 1, 8, 8, 2560, 32, SDW_ACT_SILU, true);
    check_group_norm(c, 3, 5, 7, 33, 3, SDW_ACT_SILU, true);
    check_group_norm(c, 1, 1, 1, 6, 1, SDW_ACT_NONE, false);
    check_group_norm(c, 2, 3, 1, 10, 10, SDW_ACT_NONE, true);
    check_layer_norm(c, 77, 768);
    check_layer_norm(c, 64, 320);
    check_layer_norm(c, 3, 1280);
    check_layer_norm(c, 1, 1);
    check_layer_norm(c, 5, 37);
    check_pointwise(c, 2, 8, 8, 320);
    check_pointwise(c, 1, 3, 5, 7);
    check_pointwise(c, 3, 1, 1, 33);
    check_embed(c);
}
