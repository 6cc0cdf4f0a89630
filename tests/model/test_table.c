/* test_table.c: rows that stay in their file, and a file that changes under them. */
#include "backend/trace/trace.h"
#include "nn/table.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#define ROWS     5
#define CHANNELS 3

/* A second file begins its numbers at an odd address, so that they are copied. */
static const char *const headers[2] = {
    "{\"table.weight\":{\"dtype\":\"F32\",\"shape\":[5,3],\"data_offsets\":[0,60]}}",
    "{\"table.weight\":{\"dtype\":\"F32\",\"shape\":[5,3],\"data_offsets\":[0,60]}} "};

static char path[64];
static struct sdw_device *dev;
static struct sdw_table table;
static struct sdw_parameters parameters;
static struct sdw_error err;

static float value(int row, int channel)
{
    return (float)(10 * row + channel) + 0.5f;
}

/* Writes a file, loads its table, and closes everything but the table. */
static void load(const char *header)
{
    struct sdw_device_options options = {.dtype = SDW_F32};
    struct sdw_weights *weights;
    struct sdw_loader loader;
    uint64_t length = strlen(header);
    float values[ROWS * CHANNELS];
    for (int i = 0; i < ROWS * CHANNELS; i++)
        values[i] = value(i / CHANNELS, i % CHANNELS);
    strcpy(path, "/tmp/sdw-test-table-XXXXXX.safetensors");
    int fd = mkstemps(path, 12);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, &length, 8), 8);
    assert_int_equal(write(fd, header, length), length);
    assert_int_equal(write(fd, values, sizeof values), sizeof values);
    close(fd);
    assert_int_equal(sdw_backend_trace.open(&dev, &options, &err), SDW_OK);
    assert_int_equal(sdw_weights_open(&weights, path, &err), SDW_OK);
    sdw_loader_init(&loader, dev, weights, &parameters);
    sdw_table_load(&table, &loader, "table", ROWS, CHANNELS);
    assert_int_equal(sdw_loader_finish(&loader, &err), SDW_OK);
    sdw_weights_close(weights);
}

static int finish(void **state)
{
    (void)state;
    sdw_table_free(&table);
    sdw_parameters_free(&parameters);
    sdw_device_close(dev);
    return unlink(path);
}

static void assert_rows(void)
{
    static const int32_t ids[] = {4, 0, 4, 2};
    float rows[4][CHANNELS];
    assert_int_equal(sdw_table_read(&table, rows[0], ids, 4, &err), SDW_OK);
    for (int i = 0; i < 4; i++)
        for (int c = 0; c < CHANNELS; c++)
            assert_true(rows[i][c] == value(ids[i], c));
}

static void reads_from_the_file(void **state)
{
    (void)state;
    load(headers[0]);
    assert_null(table.held);
    assert_rows();
}

static void copies_what_lies_askew(void **state)
{
    (void)state;
    load(headers[1]);
    assert_non_null(table.held);
    assert_int_equal(truncate(path, 0), 0); /* nobody reads it any more */
    assert_rows();
}

static void sees_another_row(void **state)
{
    (void)state;
    const int32_t spoilt = 3, whole = 1;
    float row[CHANNELS], other = 7;
    load(headers[0]);
    FILE *file = fopen(path, "r+b");
    assert_non_null(file);
    fseek(file, -(long)(2 * CHANNELS * sizeof other), SEEK_END);
    fwrite(&other, sizeof other, 1, file);
    fclose(file);
    assert_int_equal(sdw_table_read(&table, row, &whole, 1, &err), SDW_OK);
    assert_int_equal(sdw_table_read(&table, row, &spoilt, 1, &err), SDW_MODEL);
    assert_non_null(strstr(err.message, "changed after it was loaded (row 3"));
}

static void sees_a_file_cut_short(void **state)
{
    (void)state;
    const int32_t last = ROWS - 1;
    float row[CHANNELS];
    load(headers[0]);
    assert_int_equal(truncate(path, 40), 0);
    assert_int_equal(sdw_table_read(&table, row, &last, 1, &err), SDW_MODEL);
    assert_non_null(strstr(err.message, "start the worker again"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(reads_from_the_file, finish),
        cmocka_unit_test_teardown(copies_what_lies_askew, finish),
        cmocka_unit_test_teardown(sees_another_row, finish),
        cmocka_unit_test_teardown(sees_a_file_cut_short, finish),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
