/* test_pickle.c: files of torch.save (tests/data/pickle/make.py wrote them), and pickles that want
 * to be executed. */
#include "weights/weights.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#define FOLDER   "tests/data/pickle/"
#define EXECUTED "/tmp/sdw-pickle-was-executed"

static struct sdw_array find(const struct sdw_weights *weights, const char *name,
                             enum sdw_dtype dtype, int rank)
{
    struct sdw_array array = {0};
    assert_true(sdw_weights_find(weights, name, &array));
    assert_int_equal(array.dtype, dtype);
    assert_int_equal(array.rank, rank);
    return array;
}

static void test_reads(void **state)
{
    (void)state;
    static const char *const files[] = {FOLDER "bare.pt", FOLDER "lightning.ckpt",
                                        FOLDER "protocol4.pt"};
    for (size_t i = 0; i < sizeof files / sizeof files[0]; i++) {
        struct sdw_weights *weights;
        struct sdw_error err = {0};
        float value[6];
        if (sdw_weights_open(&weights, files[i], &err) != SDW_OK)
            fail_msg("%s", err.message);
        assert_int_equal(sdw_weights_count(weights), 6);
        struct sdw_array array = find(weights, "w", SDW_F32, 2);
        assert_true(array.dim[0] == 2 && array.dim[1] == 3);
        sdw_array_to_f32(value, &array, 0, 6);
        assert_true(value[0] == 0.5f && value[5] == 5.5f);
        array = find(weights, "tail", SDW_F16, 2);
        sdw_array_to_f32(value, &array, 0, 2);
        assert_true(value[0] == 3 && value[1] == 4);
        array = find(weights, "scalar", SDW_F32, 0);
        sdw_array_to_f32(value, &array, 0, 1);
        assert_true(value[0] == 5.5f);
        array = find(weights, "param", SDW_F32, 1);
        sdw_array_to_f32(value, &array, 0, 4);
        assert_true(array.dim[0] == 4 && value[0] == 1.5f);
        array = find(weights, "ids", SDW_I64, 2);
        assert_true(((const int64_t *)array.data)[2] == (int64_t)1 << 40);
        sdw_weights_close(weights);
    }
}

static const struct {
    const char *file, *why;
} refused[] = {
    {"system.pt", ".system, which no file of weights needs: refused"},
    {"eval.pt", "builtins.eval, which no file of weights needs: refused"},
    {"columns.pt", "not stored row by row"},
    {"beyond.pt", "6 numbers from 1 on in data of 6"},
    {"lies.pt", "has 4 bytes, the pickle needs 1000 numbers of 4"},
    {"none.pt", "no tensors by name"},
    {"deflated.pt", "compressed"},
};

static void test_refuses(void **state)
{
    (void)state;
    unlink(EXECUTED);
    for (size_t i = 0; i < sizeof refused / sizeof refused[0]; i++) {
        char path[256];
        struct sdw_weights *weights;
        struct sdw_error err = {0};
        snprintf(path, sizeof path, FOLDER "%s", refused[i].file);
        assert_int_equal(sdw_weights_open(&weights, path, &err), SDW_FORMAT);
        if (!strstr(err.message, refused[i].why) || !strstr(err.message, refused[i].file))
            fail_msg("%s gave: %s", refused[i].file, err.message);
    }
    assert_int_not_equal(access(EXECUTED, F_OK), 0);
}

/* A file cut anywhere is an error with a sentence, never half a model. */
static void test_truncated(void **state)
{
    (void)state;
    char bytes[8192], path[] = "/tmp/sdw-pickle-XXXXXX";
    FILE *file = fopen(FOLDER "bare.pt", "rb");
    assert_non_null(file);
    size_t size = fread(bytes, 1, sizeof bytes, file);
    fclose(file);
    assert_true(size > 100 && size < sizeof bytes);
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    for (size_t length = 0; length < size; length++) {
        struct sdw_weights *weights;
        struct sdw_error err = {0};
        assert_int_equal(pwrite(fd, bytes, length, 0), length);
        assert_int_equal(ftruncate(fd, (off_t)length), 0);
        assert_int_equal(sdw_weights_open(&weights, path, &err), SDW_FORMAT);
        assert_true(strlen(err.message) > strlen(path));
    }
    close(fd);
    unlink(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_reads),
        cmocka_unit_test(test_refuses),
        cmocka_unit_test(test_truncated),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
