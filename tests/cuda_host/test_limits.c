/* What a GPU does at most is measured, in each type; on the stand-in of the driver, whose clock is
 * this machine's. */
#include "backend/registry.h"
#include "cuda_host/device.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

static void check_rate(double rate)
{
    assert_true(isfinite(rate));
    assert_true(rate > 1e6 && rate < 1e15);
}

static void test_limits(void **state)
{
    static const enum sdw_dtype dtypes[] = {SDW_F32, SDW_F16, SDW_BF16};
    (void)state;
    setenv("SDW_CUDA_HOST", "small", 1);
    for (int i = 0; i < 3; i++) {
        struct sdw_device_options options = {.dtype = dtypes[i]};
        struct sdw_limits limits = {0};
        struct sdw_device *dev;
        struct sdw_error err;
        const char *name = cuda_host_device("cuda-host", &options);
        assert_int_equal(sdw_device_open(&dev, name, &options, &err), SDW_OK);
        dev->ops->limits(dev, &limits);
        check_rate(limits.f32_operations);
        check_rate(limits.compute_operations);
        check_rate(limits.read_bytes);
        if (dtypes[i] == SDW_F32)
            assert_true(limits.compute_operations == limits.f32_operations);
        assert_int_equal(sdw_sync(dev, &err), SDW_OK);
        sdw_device_close(dev); /* the stand-in counts what was not given back */
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_limits)};
    return cmocka_run_group_tests_name("limits", tests, NULL, NULL);
}
