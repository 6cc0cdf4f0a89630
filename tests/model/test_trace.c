/* The real models' geometry on the device that computes nothing: parameters and operations are
 * known figures, shapes are checked by the front of the operator table. */
#include "backend/trace/trace.h"
#include "base/clock.h"
#include "model/trace.h"
#include "model/unet.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

static struct sdw_model_report trace(const char *name, enum sdw_dtype dtype, int width, int height,
                                     int batch)
{
    char folder[256];
    snprintf(folder, sizeof folder, "tests/model/geometry/%s", name);
    struct sdw_model_config *config = malloc(sizeof *config);
    struct sdw_model_report report;
    struct sdw_error err = {0};
    struct sdw_device *dev = NULL;
    struct sdw_device_options options = {.dtype = dtype};
    assert_int_equal(sdw_backend_trace.open(&dev, &options, &err), SDW_OK);
    if (sdw_model_config_read(config, folder, &err) != SDW_OK ||
        sdw_model_trace(&report, dev, config, width, height, batch, 77, &err) != SDW_OK)
        fail_msg("%s", err.message);
    assert_int_equal(dev->scratch.count, 0); /* everything was freed */
    sdw_device_close(dev);
    free(config);
    printf("%s %dx%d: unet %.1f M parameters, %.0f GF, scratch %.0f MB; decode %.0f GF, %.0f MB; "
           "encode %.0f GF, %.0f MB; text %.1f GF\n",
           name, width, height, (double)report.unet.parameters / 1e6, report.unet.operations / 1e9,
           (double)report.unet.scratch_bytes / 1e6, report.vae_decode.operations / 1e9,
           (double)report.vae_decode.scratch_bytes / 1e6, report.vae_encode.operations / 1e9,
           (double)report.vae_encode.scratch_bytes / 1e6, report.text[0].operations / 1e9);
    return report;
}

static void assert_near(double got, double want, double relative)
{
    if (!(fabs(got - want) <= relative * want))
        fail_msg("%.6g is not within %g of %.6g", got, relative, want);
}

static void sd15_has_its_known_size_and_cost(void **state)
{
    (void)state;
    struct sdw_model_report report = trace("sd15", SDW_BF16, 512, 512, 1);
    assert_int_equal(report.unet.parameters, 859520964);
    assert_int_equal(report.vae_decode.parameters + report.vae_encode.parameters, 83653863);
    assert_int_equal(report.text[0].parameters, 123060480);
    /* performance.md's figures */
    assert_near(report.unet.operations, 803e9, 0.005);
    /* and an eighth of two convolutions of 155 GF again, at the edges of bands (nn/resnet.c) */
    assert_near(report.vae_decode.operations, 2515e9 + 37e9, 0.005);
    assert_near(report.text[0].operations, 13e9, 0.05);
    assert_near((double)report.unet.weight_bytes, 2 * 859.5e6, 0.001);
}

static void sd21_has_its_known_size(void **state)
{
    (void)state;
    struct sdw_model_report report = trace("sd21", SDW_F32, 768, 768, 2);
    assert_int_equal(report.unet.parameters, 865910724);
    assert_int_equal(report.text[0].parameters, 340387840);
}

static void sdxl_has_its_known_size(void **state)
{
    (void)state;
    double start = sdw_clock_seconds();
    struct sdw_model_report report = trace("sdxl", SDW_BF16, 1024, 1024, 2);
    assert_true(sdw_clock_seconds() - start < 1.0); /* milliseconds, with room for a busy machine */
    assert_int_equal(report.unet.parameters, 2567463684);
    assert_int_equal(report.text[1].parameters, 694659840);
    /* 2.99 T multiply-adds a row are published without self-attention, which adds
     * 4 tokens^2 width: ten blocks of 4096 x 640 and sixty of 1024 x 1280. */
    double attention = 10 * 4.0 * 4096 * 4096 * 640 + 60 * 4.0 * 1024 * 1024 * 1280;
    assert_near(report.unet.operations, 2 * (5.98e12 + attention), 0.01);
}

/* Twice the batch is twice the work, and odd sizes meet their skips again. */
static void any_size_and_batch(void **state)
{
    (void)state;
    struct sdw_model_report one = trace("sd15", SDW_F32, 512, 512, 1);
    struct sdw_model_report two = trace("sd15", SDW_F32, 512, 512, 2);
    assert_near(two.unet.operations, 2 * one.unet.operations, 1e-9);
    assert_true(two.unet.scratch_bytes > one.unet.scratch_bytes);
    assert_true(two.vae_decode.scratch_bytes == one.vae_decode.scratch_bytes);
    trace("sd15", SDW_F16, 8, 8, 1);
    trace("sd15", SDW_F16, 520, 1000, 3);
    trace("sdxl", SDW_BF16, 1048, 936, 2);
}

static void reports_what_to_reserve(void **state)
{
    (void)state;
    struct sdw_model_report report = trace("sd15", SDW_BF16, 512, 512, 2);
    assert_true(report.scratch_bytes >= report.vae_decode.scratch_bytes);
    assert_true(report.scratch_bytes >= report.unet.scratch_bytes);
    assert_true(report.scratch_bytes < (size_t)800 << 20); /* our aim: a run in 2.5 GB */
}

/* A flag stops a forward pass between two operators, whatever it was doing. */
static void stops_when_cancelled(void **state)
{
    (void)state;
    struct sdw_model_config *config = malloc(sizeof *config);
    struct sdw_error err = {0};
    struct sdw_device *dev = NULL;
    struct sdw_device_options options = {.dtype = SDW_F32};
    struct sdw_unet *unet = NULL;
    struct sdw_unet_context *context = NULL;
    float *zeros = calloc(77 * 768, sizeof *zeros);
    struct sdw_unet_conditions conditions = {.n = 1, .tokens = 77, .hidden = zeros};
    atomic_bool cancel = true;
    assert_int_equal(sdw_model_config_read(config, "tests/model/geometry/sd15", &err), SDW_OK);
    assert_int_equal(sdw_backend_trace.open(&dev, &options, &err), SDW_OK);
    assert_int_equal(sdw_unet_open(&unet, dev, NULL, &config->unet, &err), SDW_OK);
    dev->cancel = &cancel;
    assert_int_equal(sdw_unet_context_new(&context, unet, &conditions, &err), SDW_CANCELLED);
    assert_int_equal(dev->scratch.count, 0);
    cancel = false;
    assert_int_equal(sdw_unet_context_new(&context, unet, &conditions, &err), SDW_OK);
    int live = dev->scratch.count;
    cancel = true;
    assert_int_equal(sdw_unet_forward(unet, zeros, zeros, zeros, 8, 8, context, &err),
                     SDW_CANCELLED);
    assert_int_equal(dev->scratch.count, live);
    cancel = false;
    assert_int_equal(sdw_unet_forward(unet, zeros, zeros, zeros, 8, 8, context, &err), SDW_OK);
    sdw_unet_context_free(context);
    assert_int_equal(dev->scratch.count, 0);
    sdw_unet_close(unet);
    sdw_device_close(dev);
    free(zeros);
    free(config);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sd15_has_its_known_size_and_cost),
        cmocka_unit_test(sd21_has_its_known_size),
        cmocka_unit_test(sdxl_has_its_known_size),
        cmocka_unit_test(any_size_and_batch),
        cmocka_unit_test(reports_what_to_reserve),
        cmocka_unit_test(stops_when_cancelled),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
