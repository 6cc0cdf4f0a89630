/* matrix.c: linear layers and convolutions. */
#include "check_ops.h"

#include "base/half.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A random weight [out,in,k,k] of a spread that keeps outputs near 1, in the compute type's
 * precision. */
static float *random_weight(struct check *c, int out, int in, int k)
{
    int64_t count = (int64_t)out * in * k * k;
    float *values = malloc((size_t)count * sizeof *values),
          spread = sqrtf(3.0f / (float)(in * k * k));
    for (int64_t i = 0; i < count; i++) {
        values[i] = spread * check_random(&c->seed);
        if (c->fast->compute != SDW_F32)
            values[i] = sdw_bf16_to_f32(sdw_f32_to_bf16(values[i]));
    }
    return values;
}

struct layer {
    int n, h, w, in, out;
    int kernel, stride,
        pad_end; /* kernel 0: linear; pad_end: right and bottom only, as the VAE's downsampler */
    enum sdw_act act;
    int residual; /* 0 none, 1 elsewhere, 2 in place */
    int doubled;  /* 1: the picture is read at twice its size; 2: less its last row and column */
};

static void check_layer(struct check *c, const struct layer *l, enum sdw_dtype out_dtype)
{
    char name[128];
    snprintf(name, sizeof name,
             "%s [%d,%d,%d,%d] -> %d, kernel %d, stride %d, act %d, residual %d, doubled %d, %s",
             l->kernel ? "conv2d" : "linear", l->n, l->h, l->w, l->in, l->out, l->kernel, l->stride,
             l->act, l->residual, l->doubled, sdw_dtype_name(out_dtype));
    if (!check_wanted(c, name))
        return;
    c->products = true;
    int k = l->kernel ? l->kernel : 1, before = l->kernel == 3 && !l->pad_end,
        after = l->kernel == 3;
    struct sdw_conv_geometry g = {l->stride, before, before, after, after, l->doubled > 0};
    float *values = random_weight(c, l->out, l->in, k), *biases = random_weight(c, l->out, 1, 1);
    struct sdw_array weight = {
        .data = values, .rank = l->kernel ? 4 : 2, .dim = {l->out, l->in, k, k}};
    struct sdw_array bias = {.data = biases, .rank = 1, .dim = {l->out}};
    struct sdw_weight *packed[2];
    struct sdw_device *devices[2] = {c->fast, c->plain};
    for (int i = 0; i < 2; i++)
        packed[i] = l->kernel ? devices[i]->ops->pack_conv(devices[i], &weight, &bias, g)
                              : devices[i]->ops->pack_linear(devices[i], &weight, &bias);
    int oh = (l->h + before + after - k) / l->stride + 1,
        ow = (l->w + before + after - k) / l->stride + 1;
    if (l->doubled) {
        oh = 2 * l->h - (l->doubled == 2);
        ow = 2 * l->w - (l->doubled == 2);
    }
    struct pair in = pair_random(c, c->fast->compute, l->n, l->h, l->w, l->in, 1);
    struct pair extra = pair_random(c, out_dtype, l->n, oh, ow, l->out, 1);
    struct pair out = l->residual == 2 ? extra : pair_new(c, out_dtype, l->n, oh, ow, l->out);
    const struct sdw_tensor *residual[2] = {l->residual ? &extra.fast : NULL,
                                            l->residual ? &extra.plain : NULL};
    if (l->kernel) {
        sdw_conv2d(c->fast, &out.fast, &in.fast, packed[0], residual[0]);
        sdw_conv2d(c->plain, &out.plain, &in.plain, packed[1], residual[1]);
    } else {
        sdw_linear(c->fast, &out.fast, &in.fast, packed[0], l->act, residual[0]);
        sdw_linear(c->plain, &out.plain, &in.plain, packed[1], l->act, residual[1]);
    }
    pair_check(c, &out, "%s", name);
    if (l->residual != 2)
        pair_free(c, &extra);
    pair_free(c, &in);
    for (int i = 0; i < 2; i++)
        devices[i]->ops->weight_free(devices[i], packed[i]);
    free(values);
    free(biases);
    c->products = false;
}

/* With sums in the stream's type, then in the compute type. */
static void check_layers(struct check *c, const struct layer *layers, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        check_layer(c, &layers[i], c->fast->stream);
        if (c->fast->compute != c->fast->stream)
            check_layer(c, &layers[i], c->fast->compute);
    }
}

void check_matrix(struct check *c)
{
    static const struct layer layers[] = {
        /* SD 1.5 and XL, fewer rows */
        {1, 77, 1, 768, 768, 0, 1, 0, SDW_ACT_NONE, 2, 0},
        {1, 64, 1, 320, 2560, 0, 1, 0, SDW_ACT_NONE, 0, 0},
        {1, 32, 1, 1280, 320, 0, 1, 0, SDW_ACT_NONE, 1, 0},
        {2, 1, 1, 320, 1280, 0, 1, 0, SDW_ACT_SILU, 0, 0},
        {1, 77, 1, 768, 3072, 0, 1, 0, SDW_ACT_QUICK_GELU, 0, 0},
        {1, 77, 1, 3072, 768, 0, 1, 0, SDW_ACT_NONE, 2, 0}, /* a sum that oneDNN splits in f32 */
        {1, 16, 1, 1024, 640, 0, 1, 0, SDW_ACT_GELU, 1, 0},
        {1, 8, 8, 320, 320, 3, 1, 0, SDW_ACT_NONE, 0, 0},
        {2, 6, 6, 640, 320, 3, 1, 0, SDW_ACT_NONE, 1, 0},
        {1, 5, 5, 960, 640, 1, 1, 0, SDW_ACT_NONE, 2, 0},
        {1, 8, 8, 320, 320, 3, 2, 0, SDW_ACT_NONE, 0, 0},
        {1, 12, 12, 4, 320, 3, 1, 0, SDW_ACT_NONE, 0, 0},
        {1, 8, 8, 320, 4, 3, 1, 0, SDW_ACT_NONE, 0, 0},
        {1, 16, 16, 128, 128, 3, 2, 1, SDW_ACT_NONE, 0, 0},
        {1, 12, 12, 128, 3, 3, 1, 0, SDW_ACT_NONE, 0, 0},
        {2, 5, 4, 640, 640, 3, 1, 0, SDW_ACT_NONE, 0, 1},
        {2, 3, 4, 1280, 1280, 3, 1, 0, SDW_ACT_NONE, 0, 2},
        {2, 6, 8, 1280, 1280, 3, 1, 0, SDW_ACT_NONE, 0, 0},
        {1, 9, 8, 128, 256, 3, 1, 0, SDW_ACT_NONE, 0, 1},
        /* odd */
        {1, 1, 1, 1, 1, 0, 1, 0, SDW_ACT_NONE, 0, 0},
        {1, 1, 1, 7, 3, 0, 1, 0, SDW_ACT_GELU, 2, 0},
        {3, 13, 1, 33, 65, 0, 1, 0, SDW_ACT_SILU, 1, 0},
        {1, 1, 1, 32, 16, 3, 1, 0, SDW_ACT_NONE, 0, 0},
        {1, 1, 9, 32, 48, 3, 1, 0, SDW_ACT_NONE, 1, 0},
        {2, 7, 5, 96, 80, 3, 1, 0, SDW_ACT_NONE, 2, 0},
        {1, 4, 4, 16, 16, 3, 1, 0, SDW_ACT_NONE, 0, 0},
        {3, 5, 6, 16, 144, 3, 1, 0, SDW_ACT_NONE, 1, 0},
        {1, 21, 35, 48, 64, 3, 1, 0, SDW_ACT_NONE, 2, 0},
        {1, 2, 30, 112, 208, 3, 1, 0, SDW_ACT_NONE, 0, 0},
        {1, 15, 13, 24, 40, 3, 1, 0, SDW_ACT_NONE, 0, 0},
        {2, 9, 7, 17, 19, 3, 2, 0, SDW_ACT_NONE, 1, 0},
        {1, 7, 11, 5, 6, 3, 2, 1, SDW_ACT_NONE, 0, 0},
        {1, 3, 3, 9, 4, 1, 1, 0, SDW_ACT_NONE, 0, 0},
        {1, 1, 1, 32, 16, 3, 1, 0, SDW_ACT_NONE, 1, 1},
        {1, 1, 1, 32, 16, 3, 1, 0, SDW_ACT_NONE, 0, 2},
        {3, 13, 7, 96, 48, 3, 1, 0, SDW_ACT_NONE, 2, 2},
        {2, 5, 9, 16, 32, 3, 1, 0, SDW_ACT_NONE, 1, 2},
        {1, 3, 5, 17, 9, 3, 1, 0, SDW_ACT_NONE, 0, 2},
        {2, 4, 3, 20, 6, 3, 1, 0, SDW_ACT_NONE, 0, 1},
    };
    /* More than a block of rows, a band of a picture, a group of pictures, a piece of weights; too
     * large for a GPU that is played by this processor. */
    static const struct layer large[] = {
        {1, 300, 1, 320, 96, 0, 1, 0, SDW_ACT_SILU, 1, 0},
        {1, 130, 1, 2592, 100, 0, 1, 0, SDW_ACT_NONE, 2, 0},
        {1, 9, 300, 320, 5, 3, 1, 0, SDW_ACT_NONE, 1, 0},
        {1, 9, 301, 320, 17, 3, 2, 0, SDW_ACT_NONE, 0, 0},
        {1, 10, 300, 320, 16, 3, 2, 1, SDW_ACT_NONE, 0, 0},
        {1, 7, 300, 320, 3, 3, 1, 0, SDW_ACT_NONE, 1, 1},
        {1, 7, 300, 320, 3, 3, 1, 0, SDW_ACT_NONE, 0, 2},
        {3, 16, 16, 640, 33, 3, 1, 0, SDW_ACT_NONE, 2, 0},
    };
    check_layers(c, layers, sizeof layers / sizeof layers[0]);
    if (strcmp(c->fast->ops->name, "cpu") == 0)
        check_layers(c, large, sizeof large / sizeof large[0]);
}
