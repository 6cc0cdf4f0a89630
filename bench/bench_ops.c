/* bench_ops [--device NAME] [--dtype T] [--isa ISA] [--threads N] [--repeats N] [FILTER]: times
 * every operator of a device (the CPU unless told) on the shapes of a step and a decode of SD 1.5
 * at 512x512, the median of repeats.
 *
 * Beside each stands what it is measured against: oneDNN where a layer runs through Winograd's form
 * or on AMX's tiles of our own, and the plain reference, on as few rows as take it some 50
 * milliseconds. Matrix products are counted in GF/s (an operation is half a multiply-add, of the
 * direct form), the rest in GB/s of what it must read and write. */
#include "backend/cpu/onednn.h"
#include "backend/registry.h"
#include "base/clock.h"
#include "base/pool.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define REPEATS_MAX     99
#define REFERENCE_WORK  4e7 /* operations, or bytes, that the reference is given */
#define SCRATCH_BYTES   ((size_t)1 << 30)
#define NUMBERS_OF_HOST (1 << 16) /* random numbers that fill every tensor over and over */

enum operation {
    LINEAR,
    CONV,
    CONV_DOUBLED, /* of a picture read at twice its size */
    ATTENTION,
    GROUP_NORM,
    LAYER_NORM,
    GEGLU,
    ADD,
    CONCAT,
    CAST
};
static const char *const names[] = {"linear",     "conv2d", "conv2d x2", "attention", "group_norm",
                                    "layer_norm", "geglu",  "add",       "concat",    "cast"};

/* `more` is the outputs of linear and conv2d, the keys of attention, the other channels of concat.
 */
struct shape {
    enum operation op;
    int n, h, w, c, more, heads;
};

static const struct shape shapes[] = {
    {LINEAR, 2, 64, 64, 320, 320, 0},
    {LINEAR, 2, 64, 64, 320, 2560, 0},
    {LINEAR, 2, 64, 64, 1280, 320, 0},
    {LINEAR, 2, 32, 32, 640, 640, 0},
    {LINEAR, 2, 32, 32, 640, 5120, 0},
    {LINEAR, 1, 16, 32, 1280, 1280, 0},
    {LINEAR, 1, 16, 32, 1280, 10240, 0},
    {LINEAR, 1, 1, 77, 768, 3072, 0},
    {LINEAR, 1, 1, 2, 1280, 1280, 0},
    {CONV, 2, 64, 64, 320, 320, 0},
    {CONV, 2, 64, 64, 960, 320, 0},
    {CONV, 2, 32, 32, 640, 640, 0},
    {CONV, 2, 32, 32, 1920, 640, 0},
    {CONV, 2, 16, 16, 1280, 1280, 0},
    {CONV, 2, 16, 16, 2560, 1280, 0},
    {CONV, 2, 8, 8, 1280, 1280, 0},
    {CONV, 1, 64, 64, 512, 512, 0},
    {CONV, 1, 128, 128, 512, 512, 0},
    {CONV, 1, 256, 256, 256, 256, 0},
    {CONV, 1, 512, 512, 128, 128, 0},
    {CONV, 1, 512, 512, 128, 3, 0},
    {CONV_DOUBLED, 2, 8, 8, 1280, 1280, 0},
    {CONV_DOUBLED, 2, 16, 16, 1280, 1280, 0},
    {CONV_DOUBLED, 2, 32, 32, 640, 640, 0},
    {CONV_DOUBLED, 1, 128, 128, 512, 512, 0},
    {CONV_DOUBLED, 1, 256, 256, 256, 256, 0},
    {ATTENTION, 2, 64, 64, 320, 4096, 8},
    {ATTENTION, 2, 32, 32, 640, 1024, 8},
    {ATTENTION, 2, 16, 16, 1280, 256, 8},
    {ATTENTION, 2, 64, 64, 320, 77, 8},
    {ATTENTION, 1, 64, 64, 512, 4096, 1},
    {ATTENTION, 1, 128, 128, 512, 16384, 1},
    {GROUP_NORM, 2, 64, 64, 320, 32, 0},
    {GROUP_NORM, 1, 512, 512, 128, 32, 0},
    {LAYER_NORM, 2, 64, 64, 320, 0, 0},
    {GEGLU, 2, 64, 64, 2560, 0, 0},
    {ADD, 2, 64, 64, 320, 0, 0},
    {CONCAT, 2, 64, 64, 320, 320, 0},
    {CAST, 2, 64, 64, 320, 0, 0},
};

/* An operator with all that it works on. */
struct setup {
    struct sdw_device *dev;
    const struct shape *shape;
    struct sdw_tensor out, a, b;
    struct sdw_weight *weight;
    float *norm; /* weight, then bias */
};

static float numbers[NUMBERS_OF_HOST]; /* uniform in -1..1 */

static bool is_product(enum operation op)
{
    return op <= ATTENTION;
}

/* Operations of a product, bytes of another operator, for `h` rows of pixels. */
static double work(const struct shape *s, int h, size_t in_bytes, size_t out_bytes)
{
    double pixels = (double)s->n * h * s->w, channels = s->c, out = channels;
    switch (s->op) {
    case LINEAR: return 2 * pixels * channels * s->more;
    case CONV: return 18 * pixels * channels * s->more;
    case CONV_DOUBLED: return 72 * pixels * channels * s->more;
    case ATTENTION: return 4 * pixels * channels * s->more;
    case GEGLU: out = channels / 2; break;
    case ADD: channels *= 2; break;
    case CONCAT: channels = out = channels + s->more; break;
    default: break;
    }
    return pixels * (channels * (double)in_bytes + out * (double)out_bytes);
}

static struct sdw_tensor filled(struct sdw_device *dev, enum sdw_dtype dtype, int n, int h, int w,
                                int c)
{
    struct sdw_tensor t = sdw_tensor_new(dev, dtype, n, h, w, c);
    struct sdw_tensor part = {.dtype = SDW_F32, .n = 1, .h = 1, .w = 1};
    for (int64_t at = 0, all = sdw_tensor_count(&t); at < all; at += part.c) {
        part.c = (int)(all - at < NUMBERS_OF_HOST ? all - at : NUMBERS_OF_HOST);
        part.data = numbers;
        struct sdw_tensor to = part;
        to.dtype = dtype;
        to.data = (char *)t.data + (size_t)at * sdw_dtype_bytes(dtype);
        sdw_cast(dev, &to, &part);
    }
    return t;
}

/* A random weight [out,in,k,k], on the host; the caller frees it. */
static float *random_weight(const struct shape *s, struct sdw_array *array)
{
    int k = s->op == LINEAR ? 1 : 3;
    *array = (struct sdw_array){.rank = s->op == LINEAR ? 2 : 4, .dim = {s->more, s->c, k, k}};
    int64_t count = sdw_array_count(array);
    float *values = malloc((size_t)count * sizeof *values);
    for (int64_t i = 0; values && i < count; i++)
        values[i] = numbers[i % NUMBERS_OF_HOST] / sqrtf((float)(s->c * k * k));
    array->data = values;
    return values;
}

static bool is_layer(enum operation op)
{
    return op <= CONV_DOUBLED;
}

static void prepare(struct setup *u, struct sdw_device *dev, const struct shape *s, int h)
{
    enum sdw_dtype stream = dev->stream, compute = dev->compute;
    bool product = is_product(s->op), narrow_in = product || s->op == GEGLU;
    int out_c = is_layer(s->op)   ? s->more
                : s->op == CONCAT ? s->c + s->more
                : s->op == GEGLU  ? s->c / 2
                                  : s->c;
    int scale = s->op == CONV_DOUBLED ? 2 : 1;
    *u = (struct setup){.dev = dev, .shape = s};
    u->a = filled(dev, narrow_in ? compute : stream, s->n, h, s->w, s->c);
    u->out = filled(dev, s->op == ADD || is_layer(s->op) ? stream : compute, s->n, h * scale,
                    s->w * scale, out_c);
    if (s->op == ATTENTION)
        u->b = filled(dev, compute, s->n, s->more, 1, s->c);
    if (s->op == ADD || s->op == CONCAT)
        u->b = filled(dev, stream, s->n, h, s->w, s->op == CONCAT ? s->more : s->c);
    if (s->op == GROUP_NORM || s->op == LAYER_NORM) {
        u->norm = dev->ops->buffer_new(dev, 2 * (size_t)s->c * sizeof *u->norm);
        dev->ops->upload(dev, u->norm, numbers, 2 * (size_t)s->c * sizeof *u->norm);
    }
    if (is_layer(s->op)) {
        struct sdw_array array;
        struct sdw_conv_geometry geometry = {1, 1, 1, 1, 1, s->op == CONV_DOUBLED};
        float *values = random_weight(s, &array);
        u->weight = s->op == LINEAR ? dev->ops->pack_linear(dev, &array, NULL)
                                    : dev->ops->pack_conv(dev, &array, NULL, geometry);
        free(values);
    }
}

static void release(struct setup *u)
{
    if (u->weight)
        u->dev->ops->weight_free(u->dev, u->weight);
    if (u->norm)
        u->dev->ops->buffer_free(u->dev, u->norm);
    sdw_scratch_reset(u->dev);
}

static void compute_device(const struct setup *u)
{
    struct sdw_device *dev = u->dev;
    struct sdw_norm norm = {u->norm, u->norm ? u->norm + u->shape->c : NULL, 1e-5f, u->shape->more};
    struct sdw_attention_geometry heads = {u->shape->heads, 0.1f, false};
    switch (u->shape->op) {
    case LINEAR: sdw_linear(dev, &u->out, &u->a, u->weight, SDW_ACT_NONE, NULL); break;
    case CONV:
    case CONV_DOUBLED: sdw_conv2d(dev, &u->out, &u->a, u->weight, NULL); break;
    case ATTENTION: sdw_attention(dev, &u->out, &u->a, &u->b, &u->b, heads); break;
    case GROUP_NORM: sdw_group_norm(dev, &u->out, &u->a, &norm, SDW_ACT_SILU, NULL); break;
    case LAYER_NORM: sdw_layer_norm(dev, &u->out, &u->a, &norm); break;
    case GEGLU: sdw_geglu(dev, &u->out, &u->a); break;
    case ADD: sdw_add(dev, &u->out, &u->a, &u->b); break;
    case CONCAT: sdw_concat(dev, &u->out, &u->a, &u->b); break;
    case CAST: sdw_cast(dev, &u->out, &u->a); break;
    }
}

/* Without the copy that a doubled picture would cost it. */
static void compute_onednn(const struct setup *u)
{
    sdw_onednn_run(u->dev, &u->out, &u->a, (const struct sdw_cpu_weight *)u->weight, SDW_ACT_NONE,
                   NULL);
}

static int by_size(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Something to time. */
struct rival {
    void (*compute)(const struct setup *);
    struct setup setup;
    double seconds; /* median of a call, after one that is not counted */
};

/* They take turns, so that a busy neighbour slows all alike. */
static void race(struct rival *rivals, int count, int repeats)
{
    double seconds[2][REPEATS_MAX];
    for (int i = -1; i < repeats; i++)
        for (int j = 0; j < count; j++) {
            double start = sdw_clock_seconds();
            rivals[j].compute(&rivals[j].setup);
            sdw_sync(rivals[j].setup.dev, NULL);
            if (i >= 0)
                seconds[j][i] = sdw_clock_seconds() - start;
        }
    for (int j = 0; j < count; j++) {
        qsort(seconds[j], (size_t)repeats, sizeof seconds[j][0], by_size);
        rivals[j].seconds = seconds[j][repeats / 2];
    }
}

/* The layer of rivals[0] in oneDNN's direct form as rivals[1], from a weight packed into `direct`;
 * false where the device runs that anyway. */
static bool challenge(struct rival *rivals, struct sdw_cpu_weight *direct)
{
    const struct setup *u = &rivals[0].setup;
    const struct sdw_cpu_weight *used = (const struct sdw_cpu_weight *)u->weight;
    if (strcmp(u->dev->ops->name, "cpu") != 0 || !used || (!used->winograd && !used->amx) ||
        !((struct sdw_cpu *)u->dev)->onednn)
        return false;
    *direct = (struct sdw_cpu_weight){.base = used->base, .bias = used->bias};
    rivals[1] = (struct rival){compute_onednn, *u, 0};
    rivals[1].setup.weight = &direct->base;
    struct sdw_array array;
    float *values = random_weight(u->shape, &array);
    if (u->shape->op == CONV_DOUBLED)
        rivals[1].setup.a = filled(u->dev, u->a.dtype, u->out.n, u->out.h, u->out.w, u->a.c);
    bool packed = sdw_onednn_pack(u->dev, direct, &array);
    free(values);
    return packed;
}

/* Seconds of a call, and of oneDNN beside it where that is something else; else 0. */
static void time_call(const struct setup *u, int repeats, double *seconds, double *onednn)
{
    struct rival rivals[2] = {{compute_device, *u, 0}};
    struct sdw_cpu_weight direct = {0};
    bool two = challenge(rivals, &direct);
    race(rivals, 1 + two, repeats);
    *seconds = rivals[0].seconds;
    *onednn = two ? rivals[1].seconds : 0;
    if (two && rivals[1].setup.a.data != u->a.data)
        sdw_tensor_free(u->dev, &rivals[1].setup.a);
    sdw_onednn_weight_free(direct.onednn);
}

static void bench(const struct shape *s, struct sdw_device *fast, struct sdw_device *plain,
                  int repeats, const char *filter)
{
    char name[80], against[64] = "";
    if (s->op == LINEAR)
        snprintf(name, sizeof name, "linear [%d,%d] -> %d", s->n * s->h * s->w, s->c, s->more);
    else
        snprintf(name, sizeof name, s->more ? "%s [%d,%d,%d,%d] x %d" : "%s [%d,%d,%d,%d]",
                 names[s->op], s->n, s->h, s->w, s->c, s->more);
    if (filter && !strstr(name, filter))
        return;
    struct setup u, r;
    prepare(&u, fast, s, s->h);
    size_t in_bytes = sdw_dtype_bytes(u.a.dtype), out_bytes = sdw_dtype_bytes(u.out.dtype);
    double amount = work(s, s->h, in_bytes, out_bytes);
    double seconds, direct, alone, nothing;
    time_call(&u, repeats, &seconds, &direct);
    release(&u);

    struct shape few = *s; /* one picture and as many of its rows as the reference can do quickly */
    few.n = 1;
    int h = (int)(REFERENCE_WORK / work(&few, 1, 4, 4));
    h = h < 1 ? 1 : h > s->h ? s->h : h;
    prepare(&r, plain, &few, h);
    time_call(&r, 1, &alone, &nothing);
    double reference = work(&few, h, 4, 4) / alone;
    release(&r);
    if (direct > 0)
        snprintf(against, sizeof against, "%7.2f x oneDNN's %4.0f", direct / seconds,
                 amount / direct / 1e9);
    printf("%-38s %9.3f ms %7.1f %s %8.0f x reference %s\n", name, seconds * 1e3,
           amount / seconds / 1e9, is_product(s->op) ? "GF/s" : "GB/s",
           amount / seconds / reference, against);
    fflush(stdout);
}

static struct sdw_device *open_device(const char *backend, const char *isa, const char *dtype)
{
    struct sdw_device_options options = {.dtype = SDW_DTYPE_COUNT, .isa = isa};
    struct sdw_device *dev;
    struct sdw_error err;
    for (int i = 0; dtype && i < SDW_DTYPE_COUNT; i++)
        if (strcmp(sdw_dtype_name((enum sdw_dtype)i), dtype) == 0)
            options.dtype = (enum sdw_dtype)i;
    if (sdw_device_open(&dev, backend, &options, &err)) {
        fprintf(stderr, "bench_ops: %s\n", err.message);
        exit(1);
    }
    sdw_scratch_reserve(dev, SCRATCH_BYTES);
    return dev;
}

int main(int argc, char **argv)
{
    const char *filter = NULL, *isa = NULL, *dtype = NULL, *device = "cpu";
    int repeats = 9;
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--dtype") == 0 && i + 1 < argc)
            dtype = argv[++i];
        else if (strcmp(argv[i], "--device") == 0 && i + 1 < argc)
            device = argv[++i];
        else if (strcmp(argv[i], "--isa") == 0 && i + 1 < argc)
            isa = argv[++i];
        else if (strcmp(argv[i], "--threads") == 0 && i + 1 < argc)
            sdw_pool_threads_set(atoi(argv[++i]));
        else if (strcmp(argv[i], "--repeats") == 0 && i + 1 < argc)
            repeats = atoi(argv[++i]);
        else
            filter = argv[i];
    }
    repeats = repeats < 1 ? 1 : repeats > REPEATS_MAX ? REPEATS_MAX : repeats;
    uint32_t state = 1;
    for (int i = 0; i < NUMBERS_OF_HOST; i++) {
        state =
            state * 1664525u + 1013904223u; /* Numerical Recipes' generator is good enough here */
        numbers[i] = (float)(state >> 8) * 0x1p-23f - 1;
    }
    struct sdw_device *fast = open_device(device, isa, dtype),
                      *plain = open_device("cpu", "reference", "f32");
    printf("%s, %s, median of %d\n%s\n", fast->description, sdw_dtype_name(fast->compute), repeats,
           fast->kernels);
    for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++)
        bench(&shapes[i], fast, plain, repeats, filter);
    sdw_device_close(fast);
    sdw_device_close(plain);
    return 0;
}
