/* test_mapped: weights are read from their file's pages where these are what the kernels want, and
 * copied where not; the pages stay as long as they are read. */
#include "backend/metal/metal.h"
#include "base/mapping.h"
#include "metal_host/device.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#define IN      48
#define OUT     64
#define OFFSET  2052 /* of the first weight in the file: no page's beginning */
#define FLOATS  (IN * OUT)
#define WEIGHTS 3

/* A file of three weights one behind the other, so that each shares a page with the next. */
static struct sdw_mapping *open_file(void)
{
    static float numbers[OFFSET / sizeof(float) + WEIGHTS * FLOATS];
    char path[] = "/tmp/sdw-mapped-XXXXXX";
    struct sdw_error err;
    struct sdw_mapping *mapping;
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
        numbers[i] = (float)(i % 13) - 6;
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, numbers, sizeof numbers), sizeof numbers);
    close(fd);
    assert_int_equal(sdw_mapping_open(&mapping, path, 1, &err), SDW_OK);
    unlink(path);
    return mapping;
}

static struct sdw_array weight_at(struct sdw_mapping *mapping, int index)
{
    return (struct sdw_array){
        .data = (const char *)mapping->start + OFFSET + (size_t)index * FLOATS * sizeof(float),
        .rank = 2,
        .dim = {OUT, IN},
        .mapping = mapping,
    };
}

static struct sdw_device *open_device(enum sdw_dtype dtype)
{
    struct sdw_device *dev;
    struct sdw_error err;
    struct sdw_device_options options = {.dtype = dtype};
    if (sdw_backend_metal.open(&dev, &options, &err))
        fail_msg("%s", err.message);
    sdw_scratch_reserve(dev, 4096);
    return dev;
}

static const void *address_of(const struct sdw_weight *weight)
{
    return ((const struct sdw_metal_weight *)weight)->weight;
}

/* Row sums, by a product with ones. */
static void check_product(struct sdw_device *dev, const struct sdw_weight *weight,
                          const float *numbers)
{
    float ones[IN], sums[OUT];
    struct sdw_error err;
    struct sdw_tensor in = sdw_tensor_new(dev, SDW_F32, 1, 1, 1, IN);
    struct sdw_tensor out = sdw_tensor_new(dev, SDW_F32, 1, 1, 1, OUT);
    for (int i = 0; i < IN; i++)
        ones[i] = 1;
    sdw_upload(dev, &in, ones);
    sdw_linear(dev, &out, &in, weight, SDW_ACT_NONE, NULL);
    sdw_download(dev, sums, &out);
    assert_int_equal(sdw_sync(dev, &err), SDW_OK);
    for (int o = 0; o < OUT; o++) {
        float sum = 0;
        for (int i = 0; i < IN; i++)
            sum += numbers[o * IN + i];
        assert_true(sums[o] == sum); /* small whole numbers */
    }
    sdw_tensor_free(dev, &in);
    sdw_tensor_free(dev, &out);
}

static void test_reads_the_file(void **state)
{
    (void)state;
    struct sdw_device *dev = open_device(SDW_F32);
    struct sdw_mapping *mapping = open_file();
    struct sdw_weight *weight[WEIGHTS + 1];
    for (int i = 0; i < WEIGHTS; i++) {
        struct sdw_array array = weight_at(mapping, i);
        weight[i] = dev->ops->pack_linear(dev, &array, NULL);
        assert_true(weight[i]->mapped);
        assert_ptr_equal(address_of(weight[i]), array.data);
    }
    struct sdw_array again = weight_at(mapping, 1);
    weight[WEIGHTS] = dev->ops->pack_linear(dev, &again, NULL);
    assert_false(weight[WEIGHTS]->mapped); /* an address leads to one buffer */
    assert_int_equal(mapping->holders, 1 + WEIGHTS);
    for (int i = WEIGHTS - 1; i >= 0; i--)
        check_product(dev, weight[i], weight_at(mapping, i).data);
    check_product(dev, weight[WEIGHTS], again.data);

    const float *numbers = weight_at(mapping, 2).data;
    dev->ops->weight_free(dev, weight[0]);
    dev->ops->weight_free(dev, weight[1]);
    dev->ops->weight_free(dev, weight[WEIGHTS]);
    sdw_mapping_drop(mapping); /* the last weight holds it */
    check_product(dev, weight[2], numbers);
    dev->ops->weight_free(dev, weight[2]);
    sdw_device_close(dev);
}

static void test_copies_what_must_change(void **state)
{
    (void)state;
    struct sdw_mapping *mapping = open_file();
    struct sdw_array array = weight_at(mapping, 0);
    struct sdw_device *dev = open_device(SDW_F16);
    struct sdw_weight *weight = dev->ops->pack_linear(dev, &array, NULL);
    assert_false(weight->mapped); /* another type */
    dev->ops->weight_free(dev, weight);
    sdw_device_close(dev);

    dev = open_device(SDW_F32);
    array.rank = 4;
    array.dim[1] = 5;
    array.dim[2] = array.dim[3] = 3;
    struct sdw_conv_geometry geometry = {.stride = 1};
    weight = dev->ops->pack_conv(dev, &array, NULL, geometry);
    assert_false(weight->mapped); /* another order */
    dev->ops->weight_free(dev, weight);

    array = weight_at(mapping, 0);
    array.mapping = NULL;
    weight = dev->ops->pack_linear(dev, &array, NULL);
    assert_false(weight->mapped); /* nobody keeps the pages */
    dev->ops->weight_free(dev, weight);

    array = weight_at(mapping, 0);
    setenv("SDW_METAL_HOST_FAULT", "map", 1);
    weight = dev->ops->pack_linear(dev, &array, NULL);
    unsetenv("SDW_METAL_HOST_FAULT");
    assert_false(weight->mapped); /* Metal takes no such pages */
    check_product(dev, weight, array.data);
    dev->ops->weight_free(dev, weight);
    sdw_device_close(dev);
    assert_int_equal(mapping->holders, 1);
    sdw_mapping_drop(mapping);
}

int main(void)
{
    metal_host_device("metal-host");
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_reads_the_file),
        cmocka_unit_test(test_copies_what_must_change),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
