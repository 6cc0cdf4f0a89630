/* test_weights.c: safetensors files as data: what a header may not say, and what reads back. */
#include "weights/weights.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#define PATH_BYTES_MAX 4096

static char folder[] = "/tmp/sdw-weights-XXXXXX";

static int make_folder(void **state)
{
    (void)state;
    return mkdtemp(folder) ? 0 : -1;
}

static int remove_folder(void **state)
{
    (void)state;
    char command[PATH_BYTES_MAX];
    snprintf(command, sizeof command, "rm -r '%s'", folder);
    return system(command) == 0 ? 0 : -1;
}

static const char *in_folder(const char *name)
{
    static char path[PATH_BYTES_MAX];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    return path;
}

static void write_bytes(const char *name, const void *bytes, size_t length)
{
    FILE *file = fopen(in_folder(name), "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(bytes, 1, length, file), length);
    assert_int_equal(fclose(file), 0);
}

/* A file with this header and `data_bytes` bytes 0, 1, 2, ... */
static void write_file(const char *name, const char *header, size_t data_bytes)
{
    size_t length = strlen(header);
    unsigned char *bytes = calloc(1, 8 + length + data_bytes);
    assert_non_null(bytes);
    for (int i = 0; i < 8; i++)
        bytes[i] = (unsigned char)((uint64_t)length >> 8 * i);
    memcpy(bytes + 8, header, length);
    for (size_t i = 0; i < data_bytes; i++)
        bytes[8 + length + i] = (unsigned char)i;
    write_bytes(name, bytes, 8 + length + data_bytes);
    free(bytes);
}

#define TENSOR(dtype, shape, offsets)                                                              \
    "{\"dtype\":\"" dtype "\",\"shape\":" shape ",\"data_offsets\":" offsets "}"

/* Each is refused; the sentence holds `why`. */
static const struct {
    const char *header;
    size_t data_bytes;
    const char *why;
} hostile[] = {
    {"[]", 0, "not a JSON object"},
    {"{\"x\":", 0, "not a JSON object"},
    {"{\"x\":1}", 0, "tensor x has dtype (none)"},
    {"{\"x\":" TENSOR("F7", "[1]", "[0,4]") "}", 4, "dtype F7"},
    {"{\"x\":" TENSOR("F32", "1", "[0,4]") "}", 4, "no shape of at most 8"},
    {"{\"x\":" TENSOR("U8", "[1,1,1,1,1,1,1,1,1]", "[0,1]") "}", 1, "no shape of at most 8"},
    {"{\"x\":" TENSOR("F32", "[-1]", "[0,4]") "}", 4, "dimension 0 is impossible"},
    {"{\"x\":" TENSOR("F32", "[1.5]", "[0,4]") "}", 4, "dimension 0 is impossible"},
    {"{\"x\":" TENSOR("F32", "[4611686018427387904,4]", "[0,0]") "}", 4, "is impossible"},
    {"{\"x\":" TENSOR("U8", "[9223372036854775807,2,0]", "[0,0]") "}", 0, "is impossible"},
    {"{\"x\":" TENSOR("F32", "[2]", "[0]") "}", 8, "no sound data_offsets"},
    {"{\"x\":" TENSOR("F32", "[2]", "[8,0]") "}", 8, "no sound data_offsets"},
    {"{\"x\":" TENSOR("F32", "[2]", "[-8,0]") "}", 8, "no sound data_offsets"},
    {"{\"x\":" TENSOR("F32", "[2]", "[0,4]") "}", 8, "takes 8 bytes by its shape"},
    {"{\"x\":" TENSOR("F32", "[2]", "[0,8]") "}", 7, "the file has 7: it is truncated"},
    {"{\"x\":" TENSOR("U8", "[9]", "[9223372036854775800,9223372036854775807]") "}", 7,
     "it is truncated"},
    {"{\"x\":" TENSOR("U8", "[4]", "[0,4]") ",\"y\":" TENSOR("U8", "[4]", "[3,7]") "}", 7,
     "overlaps another"},
    {"{\"x\":" TENSOR("U8", "[1]", "[0,1]") ",\"x\":" TENSOR("U8", "[1]", "[1,2]") "}", 2,
     "duplicate"},
};

static void test_hostile_headers(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof hostile / sizeof hostile[0]; i++) {
        struct sdw_weights *weights;
        struct sdw_error err = {0};
        write_file("hostile.safetensors", hostile[i].header, hostile[i].data_bytes);
        assert_int_equal(sdw_weights_open(&weights, in_folder("hostile.safetensors"), &err),
                         SDW_FORMAT);
        assert_null(weights);
        if (!strstr(err.message, hostile[i].why) || !strstr(err.message, "hostile.safetensors"))
            fail_msg("%s gave: %s", hostile[i].header, err.message);
    }
}

static void test_lengths_that_lie(void **state)
{
    (void)state;
    static const struct {
        unsigned char bytes[12];
        size_t length;
        const char *why;
    } files[] = {
        {{2, 0, 0, 0, 0, 0, 0}, 7, "too short"},
        {{0, 0, 0, 0, 0, 0, 0, 0, '{', '}'}, 10, "claims 0 bytes"},
        {{3, 0, 0, 0, 0, 0, 0, 0, '{', '}'}, 10, "claims 3 bytes, the file has 10"},
        {{255, 255, 255, 255, 255, 255, 255, 255, '{', '}'}, 10, "claims 18446744073709551615"},
    };
    for (size_t i = 0; i < sizeof files / sizeof files[0]; i++) {
        struct sdw_weights *weights;
        struct sdw_error err = {0};
        write_bytes("short.safetensors", files[i].bytes, files[i].length);
        assert_int_equal(sdw_weights_open(&weights, in_folder("short.safetensors"), &err),
                         SDW_FORMAT);
        if (!strstr(err.message, files[i].why))
            fail_msg("expected \"%s\": %s", files[i].why, err.message);
    }
    struct sdw_weights *weights;
    struct sdw_error err = {0};
    assert_int_equal(sdw_weights_open(&weights, in_folder("none.safetensors"), &err), SDW_IO);
    assert_non_null(strstr(err.message, "none.safetensors"));
    assert_int_equal(sdw_weights_open(&weights, folder, &err), SDW_FORMAT);
}

static void check_bytes(const struct sdw_array *array, size_t bytes, unsigned char first)
{
    const unsigned char *data = array->data;
    assert_int_equal((uintptr_t)data % sdw_dtype_bytes(array->dtype), 0);
    for (size_t i = 0; i < bytes; i++)
        assert_int_equal(data[i], (unsigned char)(first + i));
}

/* Headers of every length modulo 8: numbers at every address. They read the same before and after
 * their pages were given back. */
static void test_reads_back(void **state)
{
    (void)state;
    char header[512];
    for (int blanks = 0; blanks < 8; blanks++) {
        struct sdw_weights *weights;
        struct sdw_array array;
        snprintf(
            header, sizeof header,
            "{\"__metadata__\":{\"format\":\"pt\"},\"w\":%s,\"b\":%s,\"ids\":%s,\"none\":%s}%*s",
            TENSOR("F16", "[64,100,1,1]", "[3,12803]"), TENSOR("F32", "[]", "[12803,12807]"),
            TENSOR("I64", "[2]", "[12807,12823]"), TENSOR("BF16", "[0,5]", "[0,0]"), blanks, "");
        write_file("sound.safetensors", header, 12823);
        assert_int_equal(sdw_weights_open(&weights, in_folder("sound.safetensors"), NULL), SDW_OK);
        assert_int_equal(sdw_weights_count(weights), 4);
        assert_string_equal(sdw_weights_name(weights, 0), "b");
        assert_string_equal(sdw_weights_name(weights, 3), "w");
        assert_false(sdw_weights_find(weights, "x", &array));
        for (int again = 0; again < 2; again++) {
            assert_true(sdw_weights_find(weights, "w", &array));
            assert_int_equal(array.dtype, SDW_F16);
            assert_int_equal(array.rank, 4);
            assert_int_equal(array.dim[1], 100);
            check_bytes(&array, 12800, 3);
            sdw_weights_forget(weights, &array);
        }
        assert_true(sdw_weights_find(weights, "b", &array));
        assert_int_equal(array.rank, 0);
        check_bytes(&array, 4, (unsigned char)12803);
        assert_true(sdw_weights_find(weights, "ids", &array));
        check_bytes(&array, 16, (unsigned char)12807);
        assert_true(sdw_weights_find(weights, "none", &array));
        assert_int_equal(sdw_array_count(&array), 0);
        sdw_weights_close(weights);
    }
}

static void write_text(const char *name, const char *text)
{
    write_bytes(name, text, strlen(text));
}

static void test_shards(void **state)
{
    (void)state;
    struct sdw_weights *weights;
    struct sdw_array array;
    write_file("m-1.safetensors", "{\"a\":" TENSOR("U8", "[3]", "[0,3]") "}", 3);
    write_file("m-2.safetensors", "{\"b\":" TENSOR("U8", "[5]", "[0,5]") "}", 5);
    write_text("m.safetensors.index.json",
               "{\"metadata\":{},\"weight_map\":"
               "{\"b\":\"m-2.safetensors\",\"a\":\"m-1.safetensors\"}}");
    assert_int_equal(sdw_weights_open(&weights, in_folder("m.safetensors.index.json"), NULL),
                     SDW_OK);
    assert_true(sdw_weights_find(weights, "a", &array) && array.dim[0] == 3);
    assert_true(sdw_weights_find(weights, "b", &array) && array.dim[0] == 5);
    sdw_weights_close(weights);
}

static void test_hostile_indexes(void **state)
{
    (void)state;
    static const struct {
        const char *text, *why;
        enum sdw_status status;
    } indexes[] = {
        {"", "no weight_map", SDW_FORMAT},
        {"{\"weight_map\":[]}", "no weight_map", SDW_FORMAT},
        {"{\"weight_map\":{\"a\":\"../m-1.safetensors\"}}", "not in a file beside", SDW_FORMAT},
        {"{\"weight_map\":{\"a\":\"..\"}}", "not in a file beside", SDW_FORMAT},
        {"{\"weight_map\":{\"a\":7}}", "not in a file beside", SDW_FORMAT},
        {"{\"weight_map\":{\"a\":\"gone.safetensors\"}}", "gone.safetensors", SDW_IO},
        {"{\"weight_map\":{\"a\":\"m-1.safetensors\",\"b\":\"twin.safetensors\"}}",
         "tensor a is there twice", SDW_FORMAT},
    };
    write_file("m-1.safetensors", "{\"a\":" TENSOR("U8", "[3]", "[0,3]") "}", 3);
    write_file("twin.safetensors", "{\"a\":" TENSOR("U8", "[3]", "[0,3]") "}", 3);
    for (size_t i = 0; i < sizeof indexes / sizeof indexes[0]; i++) {
        struct sdw_weights *weights;
        struct sdw_error err = {0};
        write_text("bad.index.json", indexes[i].text);
        assert_int_equal(sdw_weights_open(&weights, in_folder("bad.index.json"), &err),
                         indexes[i].status);
        if (!strstr(err.message, indexes[i].why))
            fail_msg("%s gave: %s", indexes[i].text, err.message);
    }
}

static void test_too_many_shards(void **state)
{
    (void)state;
    char index[8192], name[64];
    size_t used = (size_t)snprintf(index, sizeof index, "{\"weight_map\":{");
    for (int i = 0; i <= SDW_WEIGHTS_FILES_MAX; i++) {
        snprintf(name, sizeof name, "s%d.safetensors", i);
        write_file(name, "{}", 0);
        used += (size_t)snprintf(index + used, sizeof index - used, "%s\"t%d\":\"%s\"",
                                 i ? "," : "", i, name);
    }
    snprintf(index + used, sizeof index - used, "}}");
    write_text("many.index.json", index);
    struct sdw_weights *weights;
    struct sdw_error err = {0};
    assert_int_equal(sdw_weights_open(&weights, in_folder("many.index.json"), &err), SDW_TOO_LARGE);
    assert_non_null(strstr(err.message, "more than 64 files"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_hostile_headers), cmocka_unit_test(test_lengths_that_lie),
        cmocka_unit_test(test_reads_back),      cmocka_unit_test(test_shards),
        cmocka_unit_test(test_hostile_indexes), cmocka_unit_test(test_too_many_shards),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
