/* test_commands: what goes into one command buffer: everything until somebody waits, within the
 * bounds of metal.h, which a step of SD 1.5 is within. */
#include "backend/metal/metal.h"
#include "backend/trace/trace.h"
#include "metal_host/device.h"
#include "model/trace.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static struct sdw_metal *open_device(void)
{
    struct sdw_device *dev;
    struct sdw_error err;
    struct sdw_device_options options = {.dtype = SDW_F32};
    if (sdw_backend_metal.open(&dev, &options, &err))
        fail_msg("%s", err.message);
    sdw_scratch_reserve(dev, 4096);
    return (struct sdw_metal *)dev;
}

/* One more: x = silu(x), which is said to have so many operations. */
static void queue(struct sdw_metal *metal, const struct sdw_tensor *x, double operations)
{
    struct sdw_metal_pointwise params = {.count = 1, .act = SDW_METAL_SILU};
    struct sdw_metal_dispatch dispatch = {
        .kernel = SDW_METAL_KERNEL_act,
        .buffer = {x->data, x->data},
        .buffers = 2,
        .params = &params,
        .params_bytes = sizeof params,
        .groups_x = 1,
        .groups_y = 1,
        .groups_z = 1,
        .operations = operations,
    };
    sdw_metal_run(&metal->base, &dispatch);
}

static void test_bounds(void **state)
{
    (void)state;
    struct sdw_metal *metal = open_device();
    struct sdw_error err;
    struct sdw_tensor x = sdw_tensor_new(&metal->base, SDW_F32, 1, 1, 1, 1);
    float one = 1;
    sdw_upload(&metal->base, &x, &one);
    for (int i = 0; i < SDW_METAL_DISPATCHES_MAX; i++)
        queue(metal, &x, 0);
    assert_int_equal(metal->in_flight_count, 0);
    queue(metal, &x, 0);
    assert_int_equal(metal->in_flight_count, 1);
    assert_int_equal(metal->encoded, 1);

    queue(metal, &x, metal->operations_max);
    assert_int_equal(metal->in_flight_count, 1); /* as many as there may be */
    queue(metal, &x, 1);
    assert_int_equal(metal->in_flight_count, 2);
    queue(metal, &x, 2 * metal->operations_max); /* alone in its own */
    assert_int_equal(metal->in_flight_count, 3);
    assert_int_equal(metal->encoded, 1);
    for (int i = 0; i < 2 * SDW_METAL_IN_FLIGHT_MAX; i++) /* the oldest is waited for */
        queue(metal, &x, metal->operations_max);
    assert_int_equal(metal->in_flight_count, SDW_METAL_IN_FLIGHT_MAX);
    assert_int_equal(sdw_sync(&metal->base, &err), SDW_OK);
    assert_int_equal(metal->in_flight_count, 0);
    sdw_tensor_free(&metal->base, &x);
    sdw_device_close(&metal->base);
}

static void test_a_step_of_sd15_fits(void **state)
{
    (void)state;
    static struct sdw_model_config config;
    struct sdw_model_report report;
    struct sdw_error err;
    struct sdw_device *dev;
    struct sdw_device_options options = {.dtype = SDW_F16};
    assert_int_equal(sdw_backend_trace.open(&dev, &options, &err), SDW_OK);
    if (sdw_model_config_read(&config, "tests/model/geometry/sd15", &err) ||
        sdw_model_trace(&report, dev, &config, 512, 512, 2, 77, &err))
        fail_msg("%s", err.message);
    assert_true(report.unet.operations > 1e12);
    assert_true(report.unet.operations < SDW_METAL_OPERATIONS_MAX);
    sdw_device_close(dev);
}

int main(void)
{
    metal_host_device("metal-host");
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bounds),
        cmocka_unit_test(test_a_step_of_sd15_fits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
