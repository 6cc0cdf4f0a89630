/* Weights, chunks and BREAK through the whole engine: what they change, and what they must not. */
#include "demo.h"

#include "pipeline/wording.h"

static struct sdw_image draw(const char *prompt, const char *negative, const char *syntax,
                             char **report)
{
    struct sdw_image drawn = {0};
    struct sdw_error err = {0};
    struct sdw_result result = {0};
    struct sdw_params params = {.prompt = strdup(prompt),
                                .negative_prompt = negative ? strdup(negative) : NULL,
                                .prompt_syntax = syntax ? strdup(syntax) : NULL,
                                .steps = 2,
                                .width = DEMO_SIDE,
                                .height = DEMO_SIDE,
                                .seed = 7,
                                .seed_given = true};
    sdw_params_complete(&params, sdw_engine_defaults(demo_engine));
    sdw_text_init(&result.png, SDW_PNG_BYTES_MAX);
    struct sdw_runner runner = sdw_engine_runner(demo_engine);
    if (runner.run(runner.context, &params, NULL, &result, &err) ||
        sdw_image_decode(&drawn, result.png.data, result.png.length, 3, &err))
        fail_msg("%s", err.message);
    if (report)
        *report = strdup(result.report);
    sdw_result_free(&result);
    sdw_params_free(&params);
    return drawn;
}

static bool same(const char *a, const char *negative_a, const char *syntax_a, const char *b,
                 const char *negative_b, const char *syntax_b)
{
    struct sdw_image first = draw(a, negative_a, syntax_a, NULL),
                     second = draw(b, negative_b, syntax_b, NULL);
    bool equal = memcmp(first.pixels, second.pixels, sdw_image_bytes(&first)) == 0;
    sdw_image_free(&first);
    sdw_image_free(&second);
    return equal;
}

static void weights_count(void **state)
{
    (void)state;
    assert_true(same("a (cat:1.0) on red", NULL, NULL, "a cat on red", NULL, NULL));
    assert_true(same("a cat on red", NULL, NULL, "a cat on red", NULL, "plain"));
    assert_false(same("a (cat:1.4) on red", NULL, NULL, "a cat on red", NULL, NULL));
    assert_false(same("a (cat) on red", NULL, NULL, "a [cat] on red", NULL, NULL));
    assert_true(same("a ((cat)) on red", NULL, NULL, "a (cat:1.21) on red", NULL, NULL));
    assert_false(same("a (cat:1.4) on red", NULL, NULL, "a (cat:1.4) on red", NULL, "plain"));
    assert_false(same("a cat", "(red:1.5)", NULL, "a cat", "red", NULL));
}

/* `count` times "a cat ", two tokens each, and an end. */
static char *long_prompt(int count, const char *end)
{
    char *text = calloc(1, (size_t)count * 6 + strlen(end) + 1);
    for (int i = 0; i < count; i++)
        strcat(text, "a cat ");
    return strcat(text, end);
}

static void long_prompts_go_on(void **state)
{
    (void)state;
    char *red = long_prompt(40, "on red"), *blue = long_prompt(40, "on blue");
    assert_false(same(red, NULL, NULL, blue, NULL, NULL)); /* beyond 75 tokens */
    assert_true(same(red, NULL, "plain", blue, NULL, "plain"));
    /* The longer one may be the negative prompt. */
    assert_false(same("a cat", red, NULL, "a cat", blue, NULL));
    free(red);
    free(blue);
    assert_false(same("a cat BREAK on red", NULL, NULL, "a cat on red", NULL, NULL));
}

static void the_report_tells(void **state)
{
    (void)state;
    char *text = long_prompt(40, "(on red:1.5)"), *report;
    struct sdw_image drawn = draw(text, NULL, NULL, &report);
    assert_non_null(strstr(report, "\"prompt\":{\"tokens\":82,\"chunks\":2,\"cut_tokens\":0"));
    assert_non_null(strstr(report, "{\"text\":\"on red\",\"weight\":1.500}"));
    assert_non_null(strstr(report, "\"negative_prompt\":{\"tokens\":0,\"chunks\":2"));
    sdw_image_free(&drawn);
    free(report);
    drawn = draw(text, NULL, "plain", &report);
    const char *cut = strstr(report, "\"cut_tokens\":"), *prompt = strstr(report, "\"prompt\":");
    assert_non_null(cut);
    assert_non_null(prompt);
    assert_true(atoi(strstr(prompt, "\"cut_tokens\":") + 13) > 7);
    sdw_image_free(&drawn);
    free(report);
    free(text);
}

/* More than there is room for is cut and told; it never overflows. */
static void the_longest_prompt(void **state)
{
    (void)state;
    char *text = long_prompt(1360, ""), *report; /* 8160 bytes, 2720 tokens */
    struct sdw_image drawn = draw(text, NULL, NULL, &report);
    char expected[80];
    int room = SDW_PROMPT_CHUNKS_MAX * 75;
    snprintf(expected, sizeof expected, "\"tokens\":2720,\"chunks\":%d,\"cut_tokens\":%d",
             SDW_PROMPT_CHUNKS_MAX, 2720 - room);
    assert_non_null(strstr(report, expected));
    sdw_image_free(&drawn);
    free(report);
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(weights_count), cmocka_unit_test(long_prompts_go_on),
        cmocka_unit_test(the_report_tells), cmocka_unit_test(the_longest_prompt)};
    return cmocka_run_group_tests(tests, demo_open, demo_close);
}
