/* A run that was saved after any step and resumed gives the same bytes, with every sampler. */
#include "demo.h"

#include "sample/sampler.h"

#define STEPS 5

struct saves {
    struct sdw_text state[3 * STEPS + 1];
    int count, told, first_told;
    int total; /* 0: STEPS */
};

static void keep(void *context, const void *bytes, size_t length)
{
    struct saves *saves = context;
    struct sdw_text *state = &saves->state[saves->count++];
    sdw_text_init(state, 64u << 20);
    assert_int_equal(sdw_text_append(state, bytes, length, NULL), SDW_OK);
}

static void count(void *context, int step, int total)
{
    struct saves *saves = context;
    assert_int_equal(total, saves->total ? saves->total : STEPS);
    if (saves->told++ == 0)
        saves->first_told = step;
}

static void same_bytes(const char *sampler, bool image)
{
    struct sdw_image drawn;
    struct sdw_text whole, resumed;
    struct saves saves = {0};
    struct sdw_params params = {
        .prompt = strdup("a cat"), .steps = STEPS, .sampler = strdup(sampler)};
    if (image) { /* draws more before the first step; strength 1 keeps the number of steps */
        params.init_image = demo_file(3);
        params.mask_image = demo_file(1);
    }
    struct sdw_progress progress = {.step = count, .context = &saves, .save = keep};
    demo_draw(&drawn, &whole, &params, &progress);
    sdw_image_free(&drawn);
    assert_int_equal(saves.count, STEPS);
    for (int i = 0; i < STEPS; i += STEPS - 2) { /* after the first step, and after the fourth */
        struct saves rest = {0};
        struct sdw_progress again = {.step = count,
                                     .context = &rest,
                                     .resume = saves.state[i].data,
                                     .resume_length = saves.state[i].length};
        demo_draw(&drawn, &resumed, &params, &again);
        sdw_image_free(&drawn);
        assert_int_equal(rest.told, STEPS - 1 - i);
        assert_int_equal(rest.first_told, i + 2);
        if (whole.length != resumed.length || memcmp(whole.data, resumed.data, whole.length) != 0)
            fail_msg("%s: resumed after step %d, the picture is another", sampler, i + 1);
        sdw_text_free(&resumed);
    }
    for (int i = 0; i < saves.count; i++)
        sdw_text_free(&saves.state[i]);
    sdw_text_free(&whole);
    sdw_params_free(&params);
}

static void every_sampler(void **state)
{
    (void)state;
    for (int i = 0; i < sdw_samplers_count(); i++)
        same_bytes(sdw_samplers_at(i)->name, false);
    same_bytes("euler_ancestral", true);
}

/* In the second of three images: the first comes out of the state. */
static void in_a_batch(void **state)
{
    (void)state;
    enum { N = 3, ALL = N * STEPS };
    struct sdw_image drawn;
    struct sdw_text whole, resumed;
    struct saves saves = {.total = ALL}, rest = {.total = ALL};
    struct sdw_params params = {.prompt = strdup("a cat"), .steps = STEPS, .n = N};
    struct sdw_progress progress = {.step = count, .context = &saves, .save = keep};
    demo_draw(&drawn, &whole, &params, &progress);
    sdw_image_free(&drawn);
    assert_int_equal(saves.told, ALL);
    struct sdw_progress again = {.step = count,
                                 .context = &rest,
                                 .resume = saves.state[STEPS + 1].data,
                                 .resume_length = saves.state[STEPS + 1].length};
    demo_draw(&drawn, &resumed, &params, &again);
    sdw_image_free(&drawn);
    assert_int_equal(rest.first_told, STEPS + 3);
    assert_int_equal(rest.told, ALL - STEPS - 2);
    assert_int_equal(whole.length, resumed.length);
    assert_memory_equal(whole.data, resumed.data, whole.length);
    for (int i = 0; i < saves.count; i++)
        sdw_text_free(&saves.state[i]);
    sdw_text_free(&whole);
    sdw_text_free(&resumed);
    sdw_params_free(&params);
}

/* Of another request, cut, or garbage: the run begins anew and is right. */
static void what_does_not_fit_is_left(void **state)
{
    (void)state;
    struct sdw_image drawn;
    struct sdw_text first, other, png;
    struct saves saves = {0};
    struct sdw_params params = {.prompt = strdup("a cat"), .steps = STEPS};
    struct sdw_progress progress = {.step = count, .context = &saves, .save = keep};
    demo_draw(&drawn, &first, &params, &progress);
    sdw_image_free(&drawn);
    params.seed = 8;
    demo_draw(&drawn, &other, &params, NULL);
    sdw_image_free(&drawn);
    size_t lengths[] = {saves.state[0].length, saves.state[0].length - 1, 0};
    for (int i = 0; i < 3; i++) {
        struct saves rest = {0};
        struct sdw_progress again = {.step = count,
                                     .context = &rest,
                                     .resume = saves.state[0].data,
                                     .resume_length = lengths[i]};
        demo_draw(&drawn, &png, &params, &again);
        sdw_image_free(&drawn);
        assert_int_equal(rest.told, STEPS);
        assert_int_equal(png.length, other.length);
        assert_memory_equal(png.data, other.data, png.length);
        sdw_text_free(&png);
    }
    for (int i = 0; i < saves.count; i++)
        sdw_text_free(&saves.state[i]);
    sdw_text_free(&first);
    sdw_text_free(&other);
    sdw_params_free(&params);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(every_sampler),
                                       cmocka_unit_test(in_a_batch),
                                       cmocka_unit_test(what_does_not_fit_is_left)};
    return cmocka_run_group_tests(tests, demo_open, demo_close);
}
