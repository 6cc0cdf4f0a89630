/* check_ops [--device NAME] [--isa ISA] [--dtype T] [--threads N] [FILTER]: every operator of a
 * device against the plain reference, on shapes of real models (fewer pixels where the reference
 * would take minutes) and on odd ones. Inputs are rounded to the device's types before either side
 * reads them, so the error is the arithmetic's alone. The digest at the end is of all outputs: it
 * must be the same with one thread and with two (tests/check_ops/threads). */
#include "check_ops.h"

#include "base/half.h"
#include "base/pool.h"
#include "cuda_host/device.h"
#include "metal_host/device.h"

#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* SplitMix64 (Steele et al. 2014): the same inputs everywhere. */
float check_random(uint64_t *state)
{
    uint64_t a = *state += 0x9E3779B97F4A7C15u;
    a = (a ^ a >> 30) * 0xBF58476D1CE4E5B9u;
    a = (a ^ a >> 27) * 0x94D049BB133111EBu;
    return (float)((a ^ a >> 31) >> 40) * 0x1p-23f - 1;
}

static float rounded(float value, enum sdw_dtype dtype)
{
    if (dtype == SDW_BF16)
        return sdw_bf16_to_f32(sdw_f32_to_bf16(value));
    return dtype == SDW_F16 ? sdw_f16_to_f32(sdw_f32_to_f16(value)) : value;
}

static void upload(struct sdw_device *dev, const struct sdw_tensor *to, const float *values)
{
    int64_t count = sdw_tensor_count(to);
    uint16_t *half = malloc((size_t)count * sizeof *half);
    if (to->dtype == SDW_BF16)
        sdw_bf16_from_f32_row(half, values, count);
    else if (to->dtype == SDW_F16)
        sdw_f16_from_f32_row(half, values, count);
    sdw_upload(dev, to, to->dtype == SDW_F32 ? (const void *)values : half);
    free(half);
}

struct pair pair_new(struct check *c, enum sdw_dtype dtype, int n, int h, int w, int channels)
{
    struct pair pair;
    pair.fast = sdw_tensor_new(c->fast, dtype, n, h, w, channels);
    pair.plain = sdw_tensor_new(c->plain, SDW_F32, n, h, w, channels);
    return pair;
}

struct pair pair_random(struct check *c, enum sdw_dtype dtype, int n, int h, int w, int channels,
                        float spread)
{
    struct pair pair = pair_new(c, dtype, n, h, w, channels);
    int64_t count = sdw_tensor_count(&pair.fast);
    float *values = malloc((size_t)count * sizeof *values);
    for (int64_t i = 0; i < count; i++)
        values[i] = rounded(spread * check_random(&c->seed), dtype);
    upload(c->fast, &pair.fast, values);
    sdw_upload(c->plain, &pair.plain, values);
    free(values);
    return pair;
}

void pair_free(struct check *c, struct pair *pair)
{
    sdw_tensor_free(c->fast, &pair->fast);
    sdw_tensor_free(c->plain, &pair->plain);
}

static float *download(struct sdw_device *dev, const struct sdw_tensor *from)
{
    int64_t count = sdw_tensor_count(from);
    float *values = malloc((size_t)count * sizeof *values);
    void *raw = malloc(sdw_tensor_bytes(from));
    sdw_download(dev, raw, from);
    struct sdw_array array = {.data = raw, .dtype = from->dtype, .rank = 1, .dim = {count}};
    sdw_array_to_f32(values, &array, 0, count);
    free(raw);
    return values;
}

/* FNV-1a over the numbers' bits. */
static void digest(struct check *c, const float *values, int64_t count)
{
    for (int64_t i = 0; i < count; i++)
        c->digest = (c->digest ^ sdw_f32_bits(values[i])) * 0x100000001b3u;
}

/* Relative to the largest magnitude of the reference; what was never written is NaN and fails. */
void pair_check(struct check *c, struct pair *pair, const char *format, ...)
{
    char name[160];
    va_list args;
    va_start(args, format);
    vsnprintf(name, sizeof name, format, args);
    va_end(args);
    struct sdw_error err;
    double tolerance = pair->fast.dtype != SDW_F32                  ? c->tolerance_narrow
                       : c->fast->compute != SDW_F32 && c->products ? c->tolerance_products
                                                                    : c->tolerance;
    if (sdw_sync(c->fast, &err)) {
        printf("FAIL  %-72s %s\n", name, err.message);
        c->failed++;
        pair_free(c, pair);
        return;
    }
    float *got = download(c->fast, &pair->fast), *want = download(c->plain, &pair->plain);
    double error = 0, scale = 0;
    for (int64_t i = 0; i < sdw_tensor_count(&pair->fast); i++) {
        double difference = fabs((double)got[i] - want[i]);
        error = isnan(difference) ? INFINITY : fmax(error, difference);
        scale = fmax(scale, fabs(want[i]));
    }
    error = scale > 0 ? error / scale : error;
    bool pass = error <= tolerance;
    printf("%s  %-72s error %.1e, tolerance %.1e\n", pass ? "pass" : "FAIL", name, error,
           tolerance);
    digest(c, got, sdw_tensor_count(&pair->fast));
    *(pass ? &c->passed : &c->failed) += 1;
    free(got);
    free(want);
    pair_free(c, pair);
}

bool check_wanted(const struct check *c, const char *name)
{
    return !c->filter || strstr(name, c->filter);
}

static enum sdw_dtype dtype_named(const char *name)
{
    for (int i = 0; i < SDW_DTYPE_COUNT; i++)
        if (strcmp(sdw_dtype_name((enum sdw_dtype)i), name) == 0)
            return (enum sdw_dtype)i;
    fprintf(stderr, "check_ops: unknown --dtype %s\n", name);
    exit(2);
}

static struct sdw_device *open_device(const char *backend, const char *isa, enum sdw_dtype dtype)
{
    struct sdw_device *dev;
    struct sdw_error err;
    struct sdw_device_options options = {.dtype = dtype, .isa = isa};
    backend = cuda_host_device(backend, &options);
    if (sdw_device_open(&dev, backend, &options, &err)) {
        printf("check_ops: skipped: %s\n", err.message);
        exit(77); /* ctest's word for a test that cannot run here */
    }
    sdw_scratch_reserve(dev, (size_t)1 << 30);
    return dev;
}

int main(int argc, char **argv)
{
    struct check c = {.seed = 1, .digest = 0xcbf29ce484222325u};
    const char *backend = "cpu", *isa = NULL;
    enum sdw_dtype dtype = SDW_DTYPE_COUNT;
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--device") == 0 && i + 1 < argc)
            backend = metal_host_device(argv[++i]);
        else if (strcmp(argv[i], "--isa") == 0 && i + 1 < argc)
            isa = argv[++i];
        else if (strcmp(argv[i], "--dtype") == 0 && i + 1 < argc)
            dtype = dtype_named(argv[++i]);
        else if (strcmp(argv[i], "--threads") == 0 && i + 1 < argc)
            sdw_pool_threads_set(atoi(argv[++i]));
        else
            c.filter = argv[i];
    }
    c.fast = open_device(backend, isa, dtype);
    c.plain = open_device("cpu", "reference", SDW_F32);
    c.tolerance = 5e-6; /* f32: sums of some thousand terms, relative to the largest value */
    c.tolerance_narrow =
        6e-3; /* an output in 16 bits: half a step of bf16 is 3.9e-3 of the value */
    c.tolerance_products =
        8e-3; /* bf16 products with f32 output: Winograd rounds its transforms to bf16 */
    printf("%s, %s\n", c.fast->description, sdw_dtype_name(c.fast->compute));
    check_matrix(&c);
    check_attention(&c);
    check_rest(&c);
    sdw_device_close(c.fast);
    sdw_device_close(c.plain);
    printf("digest of all outputs %016" PRIx64 "\n", c.digest);
    printf("%d passed, %d failed\n", c.passed, c.failed);
    return c.failed > 0;
}
