/* test_base.c: what every room stands on: half floats, bounded text, the pool, the table of
 * statuses, the log. */
#include "base/cgroup.h"
#include "base/clock.h"
#include "base/half.h"
#include "base/log.h"
#include "base/pool.h"
#include "base/status.h"
#include "base/text.h"

#include <errno.h>
#include <math.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

/* Every f16 there is survives the way to f32 and back, alone and in a row. */
static void f16_round_trip(void **state)
{
    (void)state;
    enum { COUNT = 65536 };
    uint16_t *all = malloc(COUNT * sizeof *all), *back = malloc(COUNT * sizeof *back);
    float *wide = malloc(COUNT * sizeof *wide);
    for (int i = 0; i < COUNT; i++)
        all[i] = (uint16_t)i;
    sdw_f32_from_f16_row(wide, all, COUNT);
    sdw_f16_from_f32_row(back, wide, COUNT);
    for (int i = 0; i < COUNT; i++) {
        if (isnan(wide[i])) {
            assert_true(isnan(sdw_f16_to_f32(all[i])) && isnan(sdw_f16_to_f32(back[i])));
            continue;
        }
        assert_int_equal(sdw_f32_bits(wide[i]), sdw_f32_bits(sdw_f16_to_f32(all[i])));
        assert_int_equal(back[i], all[i]);
    }
    free(all);
    free(back);
    free(wide);
}

static void half_rounding(void **state)
{
    (void)state;
    static const struct {
        float value;
        uint16_t f16, bf16;
    } cases[] = {
        {0.0f, 0x0000, 0x0000},
        {-1.0f, 0xbc00, 0xbf80},
        {1.0f + 0x1p-11f, 0x3c00, 0x3f80}, /* a tie goes to even */
        {1.0f + 0x3p-11f, 0x3c02, 0x3f80}, /* the next tie goes up, to even */
        {1.0f + 0x1p-8f, 0x3c04, 0x3f80},  /* bf16 tie to even */
        {1.0f + 0x3p-8f, 0x3c0c, 0x3f82},
        {65504.0f, 0x7bff, 0x4780},
        {65520.0f, 0x7c00, 0x4780}, /* past the largest f16: infinity */
        {0x1p-24f, 0x0001, 0x3380}, /* the smallest f16 */
        {0x1p-25f, 0x0000, 0x3300},
        {INFINITY, 0x7c00, 0x7f80},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        assert_int_equal(sdw_f32_to_f16(cases[i].value), cases[i].f16);
        assert_int_equal(sdw_f32_to_bf16(cases[i].value), cases[i].bf16);
    }
    assert_true(isnan(sdw_bf16_to_f32(sdw_f32_to_bf16(NAN))));
}

static void text_is_bounded(void **state)
{
    (void)state;
    struct sdw_text text;
    struct sdw_error err;
    sdw_text_init(&text, 10);
    assert_int_equal(sdw_text_append(&text, "0123456", 7, &err), SDW_OK);
    assert_int_equal(sdw_text_append(&text, "7890", 4, &err), SDW_TOO_LARGE);
    assert_string_equal(err.message, "text would be 11 bytes long, the limit is 10");
    assert_string_equal(text.data, "0123456");
    assert_int_equal(sdw_text_printf(&text, &err, "%d", 789), SDW_OK);
    assert_string_equal(text.data, "0123456789");
    sdw_text_free(&text);
    assert_null(text.data);
    assert_int_equal(sdw_text_read_file(&text, "/nonexistent/file", &err), SDW_IO);
    assert_string_equal(err.message, "cannot open /nonexistent/file: No such file or directory");
    assert_int_equal(sdw_text_read_file(&text, "/tmp", &err), SDW_IO);
    assert_string_equal(err.message, "/tmp is not a file");
    assert_int_equal(sdw_text_read_file(&text, "LICENSE", &err), SDW_TOO_LARGE);
    sdw_text_free(&text);
}

struct tiles {
    _Atomic int seen[1000];
    _Atomic int bad_thread;
};

static void mark(void *context, int64_t i, int thread)
{
    struct tiles *tiles = context;
    tiles->seen[i]++;
    if (thread < 0 || thread >= sdw_pool_threads())
        tiles->bad_thread = 1;
}

static void pool_runs_every_tile_once(void **state)
{
    (void)state;
    static struct tiles tiles;
    for (int threads = 1; threads <= 4; threads++) {
        sdw_pool_threads_set(threads);
        for (int round = 1; round <= 50; round++) {
            memset(&tiles, 0, sizeof tiles);
            int count = round * 20;
            sdw_pool_run(count, mark, &tiles);
            for (int i = 0; i < 1000; i++)
                assert_int_equal(tiles.seen[i], i < count);
            assert_int_equal(tiles.bad_thread, 0);
        }
        sdw_pool_run(0, mark, &tiles);
    }
}

static void statuses(void **state)
{
    (void)state;
    struct sdw_error err;
    assert_int_equal(sdw_fail(&err, SDW_BUSY, "%d jobs wait", 7), SDW_BUSY);
    assert_string_equal(err.message, "7 jobs wait");
    assert_int_equal(sdw_status_http(SDW_BUSY), 429);
    assert_string_equal(sdw_status_code(SDW_BUSY), "queue_full");
    assert_int_equal(sdw_status_exit(SDW_USAGE), 2);
    assert_int_equal(sdw_fail(NULL, SDW_IO, "nobody listens"), SDW_IO);
    char long_text[2 * SDW_ERROR_MAX];
    memset(long_text, 'x', sizeof long_text - 1);
    long_text[sizeof long_text - 1] = 0;
    sdw_fail(&err, SDW_IO, "%s", long_text);
    assert_int_equal(strlen(err.message), SDW_ERROR_MAX - 1);
    errno = ENOMEM;
    assert_int_equal(sdw_fail_errno(&err, "cannot"), SDW_MEMORY);
}

/* Bytes from outside never forge a line of the log. */
static void log_escapes(void **state)
{
    (void)state;
    char path[] = "/tmp/sdw-log-XXXXXX";
    close(mkstemp(path));
    assert_int_equal(sdw_log_open(path, NULL), SDW_OK);
    sdw_log_info("prompt \"%s\"", "a\n2026 forged\x1b[31m");
    sdw_log_debug("not at this level");
    struct sdw_text text;
    sdw_text_init(&text, 4096);
    assert_int_equal(sdw_text_read_file(&text, path, NULL), SDW_OK);
    assert_non_null(strstr(text.data, "Z info  prompt \"a\\x0a2026 forged\\x1b[31m\"\n"));
    assert_null(strstr(text.data, "level"));
    assert_ptr_equal(strchr(text.data, '\n'), text.data + text.length - 1);
    sdw_text_free(&text);

    /* Rotation: the file moves away, the next line goes to a new one. */
    char moved[64];
    snprintf(moved, sizeof moved, "%s.1", path);
    assert_int_equal(rename(path, moved), 0);
    assert_int_equal(sdw_log_open(path, NULL), SDW_OK);
    sdw_log_warn("after rotation");
    assert_int_equal(sdw_text_read_file(&text, path, NULL), SDW_OK);
    assert_non_null(strstr(text.data, "warn  after rotation\n"));
    sdw_text_free(&text);
    unlink(path);
    unlink(moved);
    struct sdw_error err;
    assert_int_equal(sdw_log_open("/nonexistent/log", &err), SDW_IO);
}

static void timestamps(void **state)
{
    (void)state;
    char stamp[SDW_TIMESTAMP_MAX];
    sdw_clock_timestamp(stamp);
    assert_int_equal(strlen(stamp), strlen("2026-11-03T21:00:00.123456789Z"));
    assert_int_equal(stamp[10], 'T');
    assert_int_equal(stamp[29], 'Z');
}

static void write_file(const char *folder, const char *name, const char *content)
{
    char path[128];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    fputs(content, file);
    fclose(file);
}

/* A container's limit is its own group's or a parent's; pages of files do not count. */
static void cgroup_limits(void **state)
{
    (void)state;
    char mount[] = "/tmp/sdw-cgroup-XXXXXX", group[64], inner[64], membership[64], command[96];
    assert_non_null(mkdtemp(mount));
    snprintf(group, sizeof group, "%s/pod", mount);
    snprintf(inner, sizeof inner, "%s/pod/worker", mount);
    snprintf(membership, sizeof membership, "%s/cgroup", mount);
    assert_int_equal(mkdir(group, 0700), 0);
    assert_int_equal(mkdir(inner, 0700), 0);
    write_file(mount, "cgroup", "4:memory:/elsewhere\n0::/pod/worker\n");
    assert_true(sdw_cgroup_memory_free(membership, mount) == SIZE_MAX);
    write_file(inner, "memory.max", "max\n");
    write_file(inner, "memory.current", "3000\n");
    assert_true(sdw_cgroup_memory_free(membership, mount) == SIZE_MAX);
    write_file(group, "memory.max", "10000\n");
    write_file(group, "memory.current", "7000\n");
    assert_int_equal(sdw_cgroup_memory_free(membership, mount), 3000);
    write_file(group, "memory.stat", "anon 5000\ninactive_file 1500\nactive_file 500\n");
    assert_int_equal(sdw_cgroup_memory_free(membership, mount), 4500);
    write_file(inner, "memory.max", "2000\n");
    assert_int_equal(sdw_cgroup_memory_free(membership, mount), 0);
    write_file(mount, "cgroup", "4:memory:/pod/worker\n");
    assert_true(sdw_cgroup_memory_free(membership, mount) == SIZE_MAX);
    snprintf(command, sizeof command, "rm -r %s", mount);
    assert_int_equal(system(command), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(f16_round_trip),  cmocka_unit_test(half_rounding),
        cmocka_unit_test(text_is_bounded), cmocka_unit_test(pool_runs_every_tile_once),
        cmocka_unit_test(statuses),        cmocka_unit_test(timestamps),
        cmocka_unit_test(log_escapes),     cmocka_unit_test(cgroup_limits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
