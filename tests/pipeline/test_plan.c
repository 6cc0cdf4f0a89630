/* What an image takes is known before, and strips help where memory is short. */
#include "demo.h"

#include <stdio.h>
#include <sys/resource.h>
#include <unistd.h>

static struct sdw_engine_plan plan_of(int side, size_t bytes_max, bool input)
{
    struct sdw_engine_plan plan;
    struct sdw_error err;
    struct sdw_params params = {.width = side, .height = side, .guidance_scale = 5};
    if (input)
        params.init_image.bytes = (uint8_t *)"";
    if (sdw_engine_plan(&plan, demo_engine, &params, 77, bytes_max, &err))
        fail_msg("%s", err.message);
    return plan;
}

static void strips_save_memory(void **state)
{
    (void)state;
    struct sdw_engine_plan whole = plan_of(1024, SIZE_MAX, false);
    assert_int_equal(whole.strip_rows, 0);
    struct sdw_engine_plan half = plan_of(1024, whole.scratch_bytes / 2, false);
    assert_true(half.strip_rows > 0);
    assert_true(half.scratch_bytes <= whole.scratch_bytes / 2);
    /* Where nothing helps, the plan says what it would take. */
    struct sdw_engine_plan least = plan_of(1024, 1, false);
    assert_true(least.strip_rows > 0 && least.strip_rows <= half.strip_rows);
    assert_true(least.scratch_bytes > 1 && least.scratch_bytes <= half.scratch_bytes);
}

static void larger_images_take_more(void **state)
{
    (void)state;
    size_t small = plan_of(256, SIZE_MAX, false).scratch_bytes;
    assert_true(plan_of(512, SIZE_MAX, false).scratch_bytes > small);
    assert_int_equal(plan_of(256, SIZE_MAX, false).scratch_bytes, small); /* remembered or not */
    assert_true(plan_of(256, SIZE_MAX, true).scratch_bytes >= small);
}

/* The run asks for no more than the plan says. */
static void an_image_keeps_to_its_plan(void **state)
{
    (void)state;
    struct sdw_image whole;
    struct sdw_params params = {.prompt = strdup("a cat")};
    demo_draw(&whole, NULL, &params, NULL);
    assert_true(demo_device->scratch.peak <= demo_device->scratch.capacity);
    sdw_image_free(&whole);
    sdw_params_free(&params);
}

static rlim_t address_space(void)
{
    unsigned long pages = 0;
    FILE *file = fopen("/proc/self/statm", "r");
    assert_non_null(file);
    assert_int_equal(fscanf(file, "%lu", &pages), 1);
    fclose(file);
    return (rlim_t)pages * (rlim_t)sysconf(_SC_PAGESIZE);
}

/* The limit of this process stands in for a machine that is full. */
static void refused_before_it_begins(void **state)
{
    (void)state;
    struct sdw_params params = {
        .prompt = strdup("a cat"), .width = 2048, .height = 2048, .guidance_scale = 5};
    struct sdw_faults faults = {0};
    struct sdw_error err;
    struct rlimit before, few;
    const struct sdw_params_defaults *defaults = sdw_engine_defaults(demo_engine);
    assert_int_equal(sdw_params_fit(&params, defaults, &faults, &err), SDW_OK);
    assert_int_equal(faults.count, 0);
    assert_int_equal(getrlimit(RLIMIT_AS, &before), 0);
    few = (struct rlimit){.rlim_cur = address_space() + (256 << 20), .rlim_max = before.rlim_max};
    assert_int_equal(setrlimit(RLIMIT_AS, &few), 0);
    enum sdw_status status = sdw_params_fit(&params, defaults, &faults, &err);
    assert_int_equal(setrlimit(RLIMIT_AS, &before), 0);
    assert_int_equal(status, SDW_INVALID);
    assert_int_equal(faults.count, 1);
    assert_string_equal(faults.fault[0].constraint, "memory");
    assert_non_null(strstr(faults.fault[0].message, "an image of 2048 x 2048 takes "));
    assert_non_null(strstr(faults.fault[0].message, " MB are free on cpu"));
    sdw_params_free(&params);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(strips_save_memory), cmocka_unit_test(larger_images_take_more),
        cmocka_unit_test(an_image_keeps_to_its_plan), cmocka_unit_test(refused_before_it_begins)};
    return cmocka_run_group_tests(tests, demo_open, demo_close);
}
