/* Numbers that f16 does not hold become its largest one; what is no number stays none. In packs of
 * 8 and one by one. */
#include "backend/registry.h"
#include "base/half.h"
#include "cuda_host/device.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#define COUNT 8

static void check(struct sdw_device *dev, int count)
{
    static const float values[COUNT] = {1e6f, -7e4f, 65504, 65519, -INFINITY, NAN, 1, 0};
    static const float wanted[COUNT] = {65504, -65504, 65504, 65504, -65504, NAN, 1, 0};
    uint16_t got[COUNT];
    struct sdw_tensor in = sdw_tensor_new(dev, SDW_F32, 1, 1, 1, count);
    struct sdw_tensor out = sdw_tensor_new(dev, SDW_F16, 1, 1, 1, count);
    sdw_upload(dev, &in, values);
    sdw_cast(dev, &out, &in);
    sdw_download(dev, got, &out);
    for (int i = 0; i < count; i++) {
        float value = sdw_f16_to_f32(got[i]);
        assert_true(isnan(wanted[i]) ? isnan(value) : value == wanted[i]);
    }
    sdw_tensor_free(dev, &in);
    sdw_tensor_free(dev, &out);
}

static void test_overflow(void **state)
{
    struct sdw_device_options options = {.dtype = SDW_F16};
    struct sdw_device *dev;
    struct sdw_error err;
    (void)state;
    const char *name = cuda_host_device("cuda-host", &options);
    assert_int_equal(sdw_device_open(&dev, name, &options, &err), SDW_OK);
    sdw_scratch_reserve(dev, 1 << 20);
    check(dev, COUNT);
    check(dev, COUNT - 1);
    assert_int_equal(sdw_sync(dev, &err), SDW_OK);
    sdw_device_close(dev);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_overflow)};
    return cmocka_run_group_tests_name("overflow", tests, NULL, NULL);
}
