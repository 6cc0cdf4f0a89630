/* check_threads [--isa ISA] [--dtype T]: every layer writes the same bytes whatever the number of
 * threads, on the shapes at which a library is tempted to divide sums between them: few outputs and
 * long sums. Layers are packed anew for each number, as in a process of its own. Threads may be
 * more than there are processors. */
#include "backend/registry.h"
#include "base/half.h"
#include "base/pool.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const int thread_counts[] = {1, 2, 3, 4, 7};
#define COUNTS (sizeof thread_counts / sizeof thread_counts[0])

struct layer {
    int n, h, w, in, out;
    int kernel, stride, pad_end; /* as in matrix.c */
    bool residual;
};

static const struct layer layers[] = {
    /* linear: rows of texts, of time embeddings, of feed-forwards */
    {1, 77, 1, 768, 768, 0, 1, 0, true},
    {1, 77, 1, 3072, 768, 0, 1, 0, true},
    {2, 1, 1, 1280, 1280, 0, 1, 0, false},
    {2, 64, 1, 5120, 1280, 0, 1, 0, true},
    {1, 13, 1, 33, 65, 0, 1, 0, true},
    /* 3x3 */
    {2, 64, 64, 4, 320, 3, 1, 0, false},
    {2, 64, 64, 320, 4, 3, 1, 0, false},
    {2, 16, 16, 320, 640, 3, 1, 0, false},
    {2, 8, 8, 2560, 1280, 3, 1, 0, true},
    {1, 8, 8, 1280, 1280, 3, 1, 0, true},
    {2, 4, 4, 1280, 1280, 3, 1, 0, false},
    {1, 64, 64, 128, 3, 3, 1, 0, false},
    {2, 7, 5, 96, 80, 3, 1, 0, true},
    /* 3x3 with stride 2: of the UNet, of the encoder, odd ones */
    {2, 64, 64, 320, 320, 3, 2, 0, false},
    {2, 16, 16, 1280, 1280, 3, 2, 0, false},
    {2, 8, 8, 320, 320, 3, 2, 0, false},
    {1, 8, 8, 640, 640, 3, 2, 0, false},
    {2, 4, 4, 1280, 1280, 3, 2, 0, false},
    {1, 64, 64, 128, 128, 3, 2, 1, false},
    {1, 17, 15, 256, 256, 3, 2, 1, false},
    {2, 9, 7, 17, 19, 3, 2, 0, true},
    {1, 16, 16, 32, 64, 3, 2, 0, false},
    {1, 8, 8, 96, 192, 3, 2, 0, false},
    /* 1x1 */
    {2, 16, 16, 2560, 1280, 1, 1, 0, false},
};

static float *random_values(int64_t count, float spread, uint64_t state)
{
    float *values = malloc((size_t)count * sizeof *values);
    for (int64_t i = 0; i < count; i++) {
        state = state * 6364136223846793005u + 1442695040888963407u; /* Knuth's MMIX */
        values[i] = spread * ((float)(state >> 40) * 0x1p-23f - 1);
    }
    return values;
}

static struct sdw_tensor tensor_of(struct sdw_device *dev, enum sdw_dtype dtype, int n, int h,
                                   int w, int c, uint64_t seed)
{
    struct sdw_tensor tensor = sdw_tensor_new(dev, dtype, n, h, w, c);
    int64_t count = sdw_tensor_count(&tensor);
    float *values = random_values(count, 1, seed);
    uint16_t *half = malloc((size_t)count * sizeof *half);
    sdw_bf16_from_f32_row(half, values, count);
    sdw_upload(dev, &tensor, dtype == SDW_F32 ? (const void *)values : half);
    free(half);
    free(values);
    return tensor;
}

/* The layer's output, from the same inputs every time; NULL when the device failed. */
static void *run(struct sdw_device *dev, const struct layer *l, enum sdw_dtype dtype, size_t *bytes)
{
    int k = l->kernel ? l->kernel : 1, before = k == 3 && !l->pad_end, after = k == 3;
    int oh = (l->h + before + after - k) / l->stride + 1;
    int ow = (l->w + before + after - k) / l->stride + 1;
    int64_t sum = (int64_t)l->in * k * k;
    float *values = random_values(l->out * sum, sqrtf(3.0f / (float)sum), 1);
    float *biases = random_values(l->out, 1, 2);
    struct sdw_array weight = {
        .data = values, .rank = l->kernel ? 4 : 2, .dim = {l->out, l->in, k, k}};
    struct sdw_array bias = {.data = biases, .rank = 1, .dim = {l->out}};
    struct sdw_conv_geometry g = {l->stride, before, before, after, after, false};
    struct sdw_weight *packed = l->kernel ? dev->ops->pack_conv(dev, &weight, &bias, g)
                                          : dev->ops->pack_linear(dev, &weight, &bias);
    struct sdw_tensor in = tensor_of(dev, dev->compute, l->n, l->h, l->w, l->in, 3);
    struct sdw_tensor extra = tensor_of(dev, dtype, l->n, oh, ow, l->out, 4);
    struct sdw_tensor out = sdw_tensor_new(dev, dtype, l->n, oh, ow, l->out);
    const struct sdw_tensor *residual = l->residual ? &extra : NULL;
    if (l->kernel)
        sdw_conv2d(dev, &out, &in, packed, residual);
    else
        sdw_linear(dev, &out, &in, packed, SDW_ACT_NONE, residual);
    struct sdw_error err;
    *bytes = sdw_tensor_bytes(&out);
    void *result = malloc(*bytes);
    sdw_download(dev, result, &out);
    if (sdw_sync(dev, &err)) {
        printf("%s\n", err.message);
        free(result);
        result = NULL;
    }
    sdw_scratch_reset(dev);
    dev->ops->weight_free(dev, packed);
    free(values);
    free(biases);
    return result;
}

static bool same(struct sdw_device *dev, const struct layer *l, enum sdw_dtype dtype)
{
    void *first = NULL;
    bool same = true;
    printf("%s [%d,%d,%d,%d] -> %d, kernel %d, stride %d, %s:", l->kernel ? "conv2d" : "linear",
           l->n, l->h, l->w, l->in, l->out, l->kernel, l->stride, sdw_dtype_name(dtype));
    for (size_t i = 0; i < COUNTS; i++) {
        size_t bytes;
        sdw_pool_threads_set(thread_counts[i]);
        void *result = run(dev, l, dtype, &bytes);
        bool equal = result && (!first || memcmp(first, result, bytes) == 0);
        if (!equal)
            printf(" OTHER BYTES with %d threads", thread_counts[i]);
        same = same && equal;
        if (first)
            free(result);
        else
            first = result;
    }
    printf("%s\n", same ? " same bytes" : "");
    free(first);
    return same;
}

int main(int argc, char **argv)
{
    struct sdw_device_options options = {.dtype = SDW_DTYPE_COUNT};
    struct sdw_device *dev;
    struct sdw_error err;
    sdw_pool_settle(argv); /* more threads than processors must not spin */
    for (int i = 1; i + 1 < argc; i += 2) {
        if (strcmp(argv[i], "--isa") == 0)
            options.isa = argv[i + 1];
        for (int t = 0; t < SDW_DTYPE_COUNT && strcmp(argv[i], "--dtype") == 0; t++)
            if (strcmp(sdw_dtype_name((enum sdw_dtype)t), argv[i + 1]) == 0)
                options.dtype = (enum sdw_dtype)t;
    }
    if (sdw_device_open(&dev, "cpu", &options, &err)) {
        printf("check_threads: skipped: %s\n", err.message);
        return 77; /* ctest's word for a test that cannot run here */
    }
    sdw_scratch_reserve(dev, (size_t)256 << 20);
    int failed = 0;
    for (size_t i = 0; i < sizeof layers / sizeof layers[0]; i++) {
        failed += !same(dev, &layers[i], dev->stream);
        if (dev->compute != dev->stream)
            failed += !same(dev, &layers[i], dev->compute);
    }
    sdw_device_close(dev);
    printf("%d layers depend on the number of threads\n", failed);
    return failed > 0;
}
