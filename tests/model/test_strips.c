/* Decoding in strips: close to decoding whole, without a seam, in less memory. */
#include "backend/registry.h"
#include "model/files.h"
#include "model/trace.h"
#include "model/vae.h"
#include "tensor/backend.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#define H 40 /* latents: 80 rows at the split, 320 pixels */
#define W 8

static const char *folder; /* of a model with weights */
static struct sdw_model_config config;
static struct sdw_error err;

/* Smooth latents, as pictures have them, with some noise. */
static void fill(float *latents, int channels)
{
    uint32_t seed = 1;
    for (int c = 0; c < channels; c++)
        for (int y = 0; y < H; y++)
            for (int x = 0; x < W; x++) {
                seed = seed * 1664525 + 1013904223;
                *latents++ = sinf((float)(y * (c + 1)) * 0.7f) + cosf((float)x * 0.4f) +
                             (float)(seed >> 8) * 0x1p-24f - 0.5f;
            }
}

/* Root mean square of a[i] - b[i]; b NULL: of a. */
static double rms(const float *a, const float *b, size_t count)
{
    double sum = 0;
    for (size_t i = 0; i < count; i++) {
        double d = b ? (double)a[i] - b[i] : a[i];
        sum += d * d;
    }
    return sqrt(sum / (double)count);
}

static void strips_come_close_to_the_whole(void **state)
{
    (void)state;
    struct sdw_device *dev = NULL;
    struct sdw_weights *weights = NULL;
    struct sdw_vae *vae = NULL;
    struct sdw_device_options options = {.dtype = SDW_F32};
    if (sdw_model_config_read(&config, folder, &err) ||
        sdw_device_open(&dev, "cpu", &options, &err) ||
        sdw_model_weights_open(&weights, folder, "vae", &err) ||
        sdw_vae_open(&vae, dev, weights, &config.vae, SDW_VAE_DECODER, &err))
        fail_msg("%s", err.message);
    sdw_weights_close(weights);
    sdw_scratch_reserve(dev, (size_t)256 << 20);

    int factor = config.vae.factor, channels = config.vae.latent_channels;
    size_t row = (size_t)(W * factor) * 3, count = (size_t)(H * factor) * row;
    float *latents = malloc((size_t)(H * W * channels) * sizeof *latents);
    float *whole = malloc(count * sizeof *whole), *strips = malloc(count * sizeof *strips);
    fill(latents, channels);
    assert_int_equal(sdw_vae_decode(vae, whole, latents, 1, H, W, &err), SDW_OK);
    sdw_vae_strips_set(vae, SDW_VAE_STRIP_ROWS_MIN);
    assert_int_equal(sdw_vae_decode(vae, strips, latents, 1, H, W, &err), SDW_OK);
    double error = rms(strips, whole, count) / rms(whole, NULL, count);
    printf("relative error of strips: %.3f\n", error);
    assert_true(error > 0);    /* they were strips indeed */
    assert_true(error < 0.12); /* norms over a strip differ a little */

    /* No line stands out: a seam would be a row where the difference from the whole image jumps. */
    double worst = 0, sum = 0;
    float *jump = malloc(row * sizeof *jump);
    for (size_t y = 1; y < (size_t)(H * factor); y++) {
        const float *s = strips + y * row, *s0 = s - row; /* this row and the one above */
        const float *w = whole + y * row, *w0 = w - row;
        for (size_t x = 0; x < row; x++)
            jump[x] = (s[x] - w[x]) - (s0[x] - w0[x]);
        double r = rms(jump, NULL, row);
        worst = r > worst ? r : worst;
        sum += r;
    }
    free(jump);
    double ratio = worst / (sum / (H * factor - 1));
    printf("largest jump from row to row: %.2f times the mean\n", ratio);
    assert_true(ratio < 3.5); /* without blending: 4.6 */

    sdw_vae_strips_set(vae, 1000); /* more than there is: whole again, to the bit */
    assert_int_equal(sdw_vae_decode(vae, strips, latents, 1, H, W, &err), SDW_OK);
    assert_memory_equal(strips, whole, count * sizeof *whole);
    free(strips);
    free(whole);
    free(latents);
    sdw_vae_close(vae);
    sdw_device_close(dev);
}

static void chooses_strips_by_memory(void **state)
{
    (void)state;
    struct sdw_device *dev = NULL;
    struct sdw_device_options options = {.dtype = SDW_BF16};
    assert_int_equal(sdw_model_config_read(&config, "tests/model/geometry/sdxl", &err), SDW_OK);
    assert_int_equal(sdw_device_open(&dev, "trace", &options, &err), SDW_OK);
    int rows, fewer;
    size_t whole_bytes, bytes, least;
    assert_int_equal(sdw_model_trace_decode(&rows, &whole_bytes, dev, &config, 1024, 1024,
                                            (size_t)8 << 30, &err),
                     SDW_OK);
    assert_int_equal(rows, 0);
    assert_int_equal(
        sdw_model_trace_decode(&rows, &bytes, dev, &config, 1024, 1024, whole_bytes / 2, &err),
        SDW_OK);
    assert_true(rows > 0 && bytes <= whole_bytes / 2);
    assert_int_equal(sdw_model_trace_decode(&fewer, &least, dev, &config, 1024, 1024, 1, &err),
                     SDW_OK);
    assert_true(fewer < rows && least < bytes);
    printf("1024x1024: whole %zu MB; %d rows %zu MB; %d rows %zu MB\n", whole_bytes >> 20, rows,
           bytes >> 20, fewer, least >> 20);
    sdw_device_close(dev);
}

int main(int argc, char **argv)
{
    if (argc != 2) {
        fprintf(stderr, "usage: test_strips MODEL\n");
        return 2;
    }
    folder = argv[1];
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(strips_come_close_to_the_whole),
        cmocka_unit_test(chooses_strips_by_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
