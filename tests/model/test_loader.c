/* What the loader says about files that do not fit: the tensor by name, the shape found and the
 * shape expected. The device is the one that reads no data. */
#include "backend/trace/trace.h"
#include "model/unet.h"
#include "nn/loader.h"
#include "tensor/weight.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static const char header[] =
    "{\"good.weight\":{\"dtype\":\"F32\",\"shape\":[2,3],\"data_offsets\":[0,24]},"
    "\"good.bias\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[24,32]},"
    "\"block.0.conv.weight\":{\"dtype\":\"F16\",\"shape\":[2,3,1,1],\"data_offsets\":[32,44]},"
    "\"block.0.conv.bias\":{\"dtype\":\"F16\",\"shape\":[2],\"data_offsets\":[44,48]},"
    "\"block.0.query.weight\":{\"dtype\":\"F32\",\"shape\":[2,2],\"data_offsets\":[48,64]},"
    "\"whole.weight\":{\"dtype\":\"I32\",\"shape\":[2,2],\"data_offsets\":[64,80]},"
    "\"no_bias.weight\":{\"dtype\":\"F32\",\"shape\":[2,2],\"data_offsets\":[80,96]}}";
#define DATA_BYTES 96

static char path[] = "/tmp/sdw-test-loader-XXXXXX";
static struct sdw_weights *weights;
static struct sdw_device *dev;
static struct sdw_loader loader;
static struct sdw_parameters parameters;
static struct sdw_error err;

static int open_all(void **state)
{
    (void)state;
    int fd = mkstemp(path);
    uint64_t length = sizeof header - 1;
    char data[DATA_BYTES] = {0};
    if (fd < 0 || write(fd, &length, 8) != 8 || write(fd, header, length) != (ssize_t)length ||
        write(fd, data, DATA_BYTES) != DATA_BYTES)
        return -1;
    close(fd);
    char renamed[64];
    snprintf(renamed, sizeof renamed, "%s.safetensors", path);
    if (rename(path, renamed) != 0)
        return -1;
    struct sdw_device_options options = {.dtype = SDW_F32};
    if (sdw_weights_open(&weights, renamed, &err) != SDW_OK ||
        sdw_backend_trace.open(&dev, &options, &err) != SDW_OK) {
        print_error("%s\n", err.message);
        return -1;
    }
    return 0;
}

static int close_all(void **state)
{
    (void)state;
    unlink(sdw_weights_path(weights));
    sdw_weights_close(weights);
    sdw_device_close(dev);
    return 0;
}

static int begin(void **state)
{
    (void)state;
    err = (struct sdw_error){0};
    sdw_loader_init(&loader, dev, weights, &parameters);
    return 0;
}

static int end(void **state)
{
    (void)state;
    sdw_parameters_free(&parameters);
    return 0;
}

static void assert_error(const char *sentence)
{
    char expected[SDW_ERROR_MAX];
    snprintf(expected, sizeof expected, "%s: %s", sdw_weights_path(weights), sentence);
    assert_int_equal(sdw_loader_finish(&loader, &err), SDW_MODEL);
    assert_string_equal(err.message, expected);
}

static void loads_what_fits(void **state)
{
    (void)state;
    struct sdw_weight *good = sdw_load_linear(&loader, "good", 3, 2, SDW_BIAS);
    assert_non_null(good);
    assert_true(good->in == 3 && good->out == 2);
    size_t mark = sdw_loader_enter(&loader, "block.%d", 0);
    /* A 1x1 convolution is a linear layer; an older name is found. */
    assert_non_null(sdw_load_linear(&loader, "conv", 3, 2, SDW_BIAS));
    assert_non_null(sdw_load_conv(&loader, "conv", 3, 2, 1, sdw_conv_same(1)));
    assert_non_null(sdw_load_linear(&loader, "to_q", 2, 2, SDW_BIAS_NONE));
    assert_true(sdw_loader_has(&loader, "to_q") && !sdw_loader_has(&loader, "to_k"));
    sdw_loader_leave(&loader, mark);
    assert_int_equal(sdw_loader_finish(&loader, &err), SDW_OK);
    assert_int_equal(parameters.count, 8 + 8 + 8 + 4);
    assert_int_equal(parameters.weights.count, 4);
}

static void names_a_missing_tensor(void **state)
{
    (void)state;
    size_t mark = sdw_loader_enter(&loader, "block.0");
    assert_null(sdw_load_linear(&loader, "to_k", 2, 2, SDW_BIAS_NONE));
    sdw_loader_leave(&loader, mark);
    assert_error("tensor block.0.to_k.weight is missing, expected shape [2,2]");
}

static void names_a_missing_bias(void **state)
{
    (void)state;
    assert_null(sdw_load_linear(&loader, "no_bias", 2, 2, SDW_BIAS));
    assert_error("tensor no_bias.bias is missing, expected shape [2]");
}

static void names_both_shapes(void **state)
{
    (void)state;
    assert_null(sdw_load_conv(&loader, "block.0.conv", 3, 2, 3, sdw_conv_same(3)));
    assert_error("tensor block.0.conv.weight has shape [2,3,1,1], expected [2,3,3,3]");
}

static void names_the_shape_of_a_norm(void **state)
{
    (void)state;
    assert_null(sdw_load_norm(&loader, "good", 2, 1, 1e-5f).weight);
    assert_error("tensor good.weight has shape [2,3], expected [2]");
}

static void refuses_whole_numbers(void **state)
{
    (void)state;
    assert_null(sdw_load_linear(&loader, "whole", 2, 2, SDW_BIAS_NONE));
    assert_error("tensor whole.weight is i32, expected f32, f16 or bf16");
}

static void keeps_the_first_error(void **state)
{
    (void)state;
    assert_null(sdw_load_linear(&loader, "good", 4, 2, SDW_BIAS));
    assert_null(sdw_load_linear(&loader, "good", 3, 2, SDW_BIAS));
    assert_null(sdw_load_table(&loader, "absent", 2, 2).data);
    assert_error("tensor good.weight has shape [2,3], expected [2,4]");
}

static void a_model_names_its_first_fault(void **state)
{
    (void)state;
    struct sdw_model_config *config = malloc(sizeof *config);
    struct sdw_unet *unet = NULL;
    assert_int_equal(sdw_model_config_read(config, "tests/model/geometry/sd15", &err), SDW_OK);
    assert_int_equal(sdw_unet_open(&unet, dev, weights, &config->unet, &err), SDW_MODEL);
    assert_non_null(
        strstr(err.message, "tensor conv_in.weight is missing, expected shape [320,4,3,3]"));
    free(config);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(loads_what_fits, begin, end),
        cmocka_unit_test_setup_teardown(names_a_missing_tensor, begin, end),
        cmocka_unit_test_setup_teardown(names_a_missing_bias, begin, end),
        cmocka_unit_test_setup_teardown(names_both_shapes, begin, end),
        cmocka_unit_test_setup_teardown(names_the_shape_of_a_norm, begin, end),
        cmocka_unit_test_setup_teardown(refuses_whole_numbers, begin, end),
        cmocka_unit_test_setup_teardown(keeps_the_first_error, begin, end),
        cmocka_unit_test(a_model_names_its_first_fault),
    };
    return cmocka_run_group_tests(tests, open_all, close_all);
}
