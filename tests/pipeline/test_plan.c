/* What an image takes is known before, and strips help where memory is short. */
#include "demo.h"

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

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(strips_save_memory),
                                       cmocka_unit_test(larger_images_take_more),
                                       cmocka_unit_test(an_image_keeps_to_its_plan)};
    return cmocka_run_group_tests(tests, demo_open, demo_close);
}
