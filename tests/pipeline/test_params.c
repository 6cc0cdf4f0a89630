/* test_params.c: bodies and what they mean, as a table in tests/data/params/bodies.json; and the
 * bodies that no table can hold. */
#include "pipeline/params.h"

#include "base/clock.h"
#include "base/text.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

/* A PNG of one orange pixel. */
#define PIXEL                                                                                      \
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAIAAACQd1PeAAAADElEQVR4"                                     \
    "nGP438AAAAQBAYDFKhhdAAAAAElFTkSuQmCC"

static bool sampler_known(const char *name)
{
    return strcmp(name, "euler") == 0 || strcmp(name, "ddim") == 0;
}

static const struct sdw_params_defaults defaults = {.steps = 20,
                                                    .width = 512,
                                                    .height = 512,
                                                    .guidance_scale = 7.5,
                                                    .sampler = "euler",
                                                    .multiple = 8,
                                                    .sampler_known = sampler_known};

static const struct sdw_param_row *row_of(const char *name)
{
    for (int i = 0; i < sdw_param_count; i++)
        if (strcmp(sdw_param_rows[i].name, name) == 0)
            return &sdw_param_rows[i];
    fail_msg("no parameter %s", name);
    return NULL;
}

static void assert_value(const char *test, const struct sdw_params *params, const char *name,
                         const json_t *value)
{
    const struct sdw_param_row *row = row_of(name);
    const char *field = (const char *)params + row->offset;
    bool same = false;
    char seed[32];
    switch (row->kind) {
    case SDW_PARAM_TEXT:
        same =
            *(char *const *)field && strcmp(*(char *const *)field, json_string_value(value)) == 0;
        break;
    case SDW_PARAM_INTEGER: same = *(const int *)field == json_integer_value(value); break;
    case SDW_PARAM_REAL: same = *(const double *)field == json_number_value(value); break;
    case SDW_PARAM_SEED:
        snprintf(seed, sizeof seed, "%llu", (unsigned long long)*(const uint64_t *)field);
        same = strcmp(seed, json_string_value(value)) == 0;
        break;
    case SDW_PARAM_FLAG: same = *(const bool *)field == json_is_true(value); break;
    case SDW_PARAM_IMAGE:
        same =
            ((const struct sdw_params_image *)field)->length == (size_t)json_integer_value(value);
        break;
    }
    if (!same)
        fail_msg("%s: %s is not what was sent", test, name);
}

static void assert_part(const char *test, const json_t *expected, const char *key,
                        const char *found)
{
    const char *text = json_string_value(json_object_get(expected, key));
    if (text && strcmp(text, found) != 0)
        fail_msg("%s: %s is %s, expected %s", test, key, found, text);
}

static void assert_errors(const char *test, const json_t *expected, const struct sdw_faults *faults)
{
    if ((size_t)faults->count != json_array_size(expected))
        fail_msg("%s: %d errors, the first: %s", test, faults->count, faults->fault[0].message);
    for (int i = 0; i < faults->count; i++) {
        const struct sdw_fault *fault = &faults->fault[i];
        const json_t *one = json_array_get(expected, (size_t)i);
        assert_part(test, one, "field", fault->field);
        assert_part(test, one, "constraint", fault->constraint);
        assert_part(test, one, "message", fault->message);
        assert_part(test, one, "value", fault->value);
    }
}

static void bodies(void **state)
{
    (void)state;
    struct sdw_text text;
    sdw_text_init(&text, 1 << 20);
    assert_int_equal(sdw_text_read_file(&text, "tests/data/params/bodies.json", NULL), SDW_OK);
    json_t *cases = json_loads(text.data, 0, NULL), *one, *value;
    assert_true(json_array_size(cases) > 30);
    size_t i;
    const char *name;
    json_array_foreach(cases, i, one)
    {
        const char *test = json_string_value(json_object_get(one, "name"));
        const char *body = json_string_value(json_object_get(one, "body"));
        json_t *errors = json_object_get(one, "errors");
        static struct sdw_faults faults;
        struct sdw_params params;
        struct sdw_error err = {0};
        enum sdw_status status =
            sdw_params_parse(&params, body, strlen(body), &defaults, &faults, &err);
        assert_int_equal(status, json_array_size(errors) ? SDW_INVALID : SDW_OK);
        assert_errors(test, errors, &faults);
        if (status) {
            assert_string_equal(err.message, faults.fault[0].message);
            continue;
        }
        sdw_params_complete(&params, &defaults);
        json_object_foreach(json_object_get(one, "expect"), name, value)
            assert_value(test, &params, name, value);
        json_t *unknown = json_object_get(one, "unknown");
        assert_int_equal(faults.unknown, json_array_size(unknown));
        for (int k = 0; k < faults.unknown; k++)
            assert_string_equal(faults.unknown_key[k],
                                json_string_value(json_array_get(unknown, (size_t)k)));
        sdw_params_free(&params);
    }
    json_decref(cases);
    sdw_text_free(&text);
}

static void refuses(const char *body, size_t length, const char *field)
{
    struct sdw_params params;
    static struct sdw_faults faults;
    struct sdw_error err;
    assert_int_equal(sdw_params_parse(&params, body, length, &defaults, &faults, &err),
                     SDW_INVALID);
    assert_string_equal(faults.fault[0].field, field);
}

/* What is written is read back as the same request, images and the seed's last bit included. */
static void written_and_read(void **state)
{
    (void)state;
    static const char body[] =
        "{\"prompt\":\"a \\\"cat\\\"\",\"seed\":18446744073709551615,\"guidance_scale\":0.1,\"mask\":\"" PIXEL
        "\",\"image\":\"data:image/png;base64," PIXEL
        "\",\"paste_back\":false,\"eta\":0.30000000000000004}";
    struct sdw_params first, second;
    static struct sdw_faults faults;
    struct sdw_error err = {0};
    struct sdw_text text, again;
    sdw_text_init(&text, 1 << 20);
    sdw_text_init(&again, 1 << 20);
    if (sdw_params_parse(&first, body, strlen(body), &defaults, &faults, &err))
        fail_msg("%s", err.message);
    sdw_params_complete(&first, &defaults);
    assert_int_equal(sdw_params_write(&text, &first, false, &err), SDW_OK);
    if (sdw_params_parse(&second, text.data, text.length, &defaults, &faults, &err))
        fail_msg("%s", err.message);
    assert_int_equal(faults.unknown, 0);
    sdw_params_complete(&second, &defaults);
    assert_true(second.seed == UINT64_MAX && second.guidance_scale == 0.1 &&
                second.eta == 0.30000000000000004 && !second.paste_back);
    assert_int_equal(second.width, 64); /* of an image of one pixel */
    assert_int_equal(second.init_image.length, first.init_image.length);
    assert_memory_equal(second.init_image.bytes, first.init_image.bytes, first.init_image.length);
    assert_int_equal(sdw_params_operation(&second), SDW_INPAINT);
    assert_int_equal(sdw_params_write(&again, &second, false, &err), SDW_OK);
    assert_string_equal(text.data, again.data);
    sdw_text_free(&again);
    assert_int_equal(sdw_params_write(&again, &second, true, &err), SDW_OK);
    assert_non_null(strstr(again.data, "\"init_image_sha256\":\""));
    assert_null(strstr(again.data, "iVBOR"));
    sdw_text_free(&text);
    sdw_text_free(&again);
    sdw_params_free(&first);
    sdw_params_free(&second);
}

/* Inputs and the sizes of the jobs they make. */
static void sizes_by_input(void **state)
{
    (void)state;
    static const struct {
        int input_width, input_height, width, height, multiple, want_width, want_height;
    } cases[] = {
        {512, 512, 0, 0, 8, 512, 512},    {519, 777, 0, 0, 8, 512, 776},
        {519, 777, 0, 0, 64, 512, 768},   {4000, 3000, 0, 0, 8, 2048, 1536},
        {40, 30, 0, 0, 8, 64, 64},        {16000, 8, 0, 0, 8, 2048, 64},
        {1000, 500, 256, 0, 8, 256, 128}, {1000, 500, 0, 256, 8, 512, 256},
        {1000, 500, 64, 72, 8, 64, 72},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct sdw_params_defaults model = defaults;
        model.multiple = cases[i].multiple;
        struct sdw_params params = {.width = cases[i].width, .height = cases[i].height};
        params.init_image =
            (struct sdw_params_image){malloc(1), 1, cases[i].input_width, cases[i].input_height};
        sdw_params_complete(&params, &model);
        assert_int_equal(params.width, cases[i].want_width);
        assert_int_equal(params.height, cases[i].want_height);
        assert_true(params.strength == 0.8);
        sdw_params_free(&params);
    }
}

static void hostile_bodies(void **state)
{
    (void)state;
    enum { SIZE = 1 << 20 };
    char *body = malloc(SIZE);
    memset(body, '[', SIZE);
    refuses(body, SIZE, "body"); /* depth */
    memset(body, '9', SIZE);
    refuses(body, SIZE, "body");
    memset(body, '\\', SIZE);
    refuses(body, SIZE, "body");
    memset(body, 'a', SIZE);
    memcpy(body, "{\"prompt\":\"", 11);
    memcpy(body + SIZE - 2, "\"}", 2);
    refuses(body, SIZE, "prompt"); /* over SDW_PARAMS_TEXT_MAX */
    double start_s = sdw_clock_seconds();
    memset(body + 11, '9', SIZE - 13); /* a number to who counts digits inside of strings */
    refuses(body, SIZE, "prompt");
    assert_true(sdw_clock_seconds() - start_s < 5);
    memset(body, '{', SIZE);
    for (size_t i = 0; i + 3 < SIZE; i += 3) /* an array of so many objects */
        memcpy(body + i + 1, "},{", 3);
    body[0] = '[';
    refuses(body, SIZE, "body");
    free(body);
    refuses("{\"prompt\":\"\xff\xfe\"}", 16, "body");          /* no UTF-8 */
    refuses("{\"prompt\":\"a\\u0000b\"}", 21, "body");         /* a NUL inside */
    refuses("{\"prompt\":\"\\ud800\"}", 19, "body");           /* half a surrogate */
    refuses("{\"prompt\":\"a\",\"steps\":1e999}", 28, "body"); /* no double */
    refuses("{\"prompt\":\"a\",\"steps\":NaN}", 26, "body");
    refuses("{\"prompt\":\"a\"}\0", 15, "body");
}

/* An array that no key knows, of as many values as a body may have, and of one more. */
static void most_values(void **state)
{
    (void)state;
    static char body[2 * SDW_PARAMS_VALUES_MAX + 64];
    static struct sdw_faults faults;
    for (int over = 0; over < 2; over++) {
        struct sdw_params params;
        int length = sprintf(body, "{\"prompt\":\"a, [b], {c}\",\"x\":[1"); /* three marks */
        for (int i = 3; i < SDW_PARAMS_VALUES_MAX + over; i++)
            length += sprintf(body + length, ",1");
        length += sprintf(body + length, "]}");
        enum sdw_status status =
            sdw_params_parse(&params, body, (size_t)length, &defaults, &faults, NULL);
        assert_int_equal(status, over ? SDW_INVALID : SDW_OK);
        sdw_params_free(&params);
    }
}

static void longest_prompt(void **state)
{
    (void)state;
    static char body[SDW_PARAMS_TEXT_MAX + 32];
    for (int over = 0; over < 2; over++) {
        memset(body, 'a', sizeof body);
        memcpy(body, "{\"prompt\":\"", 11);
        size_t end = 11 + SDW_PARAMS_TEXT_MAX + (size_t)over;
        memcpy(body + end, "\"}", 2);
        static struct sdw_faults faults;
        struct sdw_params params;
        enum sdw_status status = sdw_params_parse(&params, body, end + 2, &defaults, &faults, NULL);
        assert_int_equal(status, over ? SDW_INVALID : SDW_OK);
        sdw_params_free(&params);
    }
}

static void command_line(void **state)
{
    (void)state;
    struct sdw_params params = {0};
    static struct sdw_faults faults;
    struct sdw_error err;
    assert_true(sdw_params_set(&params, "guidance-scale", "3.5", &faults));
    assert_true(sdw_params_set(&params, "negative-prompt", "fog", &faults));
    assert_true(sdw_params_set(&params, "seed", "18446744073709551615", &faults));
    assert_int_equal(faults.count, 0);
    assert_true(params.guidance_scale == 3.5 && params.guidance_given);
    assert_true(params.seed == UINT64_MAX && params.seed_given);
    assert_string_equal(params.negative_prompt, "fog");
    assert_false(sdw_params_set(&params, "colour", "red", &faults));
    assert_true(sdw_params_set(&params, "steps", "many", &faults));
    assert_string_equal(faults.fault[0].field, "steps");
    assert_true(sdw_params_set(&params, "width", "70", &faults));
    assert_int_equal(sdw_params_check(&params, &defaults, &faults, &err), SDW_INVALID);
    assert_int_equal(faults.count, 3); /* steps, no prompt, width */
    sdw_params_free(&params);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bodies),         cmocka_unit_test(written_and_read),
        cmocka_unit_test(sizes_by_input), cmocka_unit_test(hostile_bodies),
        cmocka_unit_test(longest_prompt), cmocka_unit_test(command_line),
        cmocka_unit_test(most_values),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
