/* test_prompt.c: the syntax of prompts as data, and how tokens fill chunks. */
#include "text/prompt.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define SPANS_MAX 6

static const struct {
    const char *prompt;
    struct {
        const char *text; /* "|..." after a BREAK */
        double weight;
    } span[SPANS_MAX];
} cases[] = {
    {"", {{0}}},
    {"a cat", {{"a cat", 1}}},
    {"a (cat)", {{"a ", 1}, {"cat", 1.1}}},
    {"((cat)) dog", {{"cat", 1.21}, {" dog", 1}}},
    {"[cat] dog", {{"cat", 1 / 1.1}, {" dog", 1}}},
    {"(cat:1.3)", {{"cat", 1.3}}},
    {"(cat: .5 )", {{"cat", 0.5}}},
    {"(cat:-2)", {{"cat", -2}}},
    {"(a (b:2) c:1.5)", {{"a ", 1.5}, {"b", 3}, {" c", 1.5}}},
    {"([a]b)", {{"a", 1}, {"b", 1.1}}},
    {"(cat:)", {{"cat:", 1.1}}},
    {"(cat:1.2.3)", {{"cat:1.2.3", 1.1}}},
    {"cat:1.3)", {{"cat:1.3)", 1}}},
    {"a: b", {{"a: b", 1}}},
    {"\\(cat\\) \\[dog\\] \\\\ \\n", {{"(cat) [dog] \\ \\n", 1}}},
    {"a (b", {{"a ", 1}, {"b", 1.1}}},
    {"a [b", {{"a ", 1}, {"b", 1 / 1.1}}},
    {"a) b] c", {{"a) b] c", 1}}},
    {"()a", {{"a", 1}}},
    {"(()a)", {{"a", 1.1}}},
    {"(a)(b)", {{"ab", 1.1}}},
    {"(a:1)b", {{"ab", 1}}},
    {"a BREAK b", {{"a ", 1}, {"| b", 1}}},
    {"BREAK a", {{"| a", 1}}},
    {"a BREAK", {{"a ", 1}}},
    {"a BREAK BREAK (b)", {{"a ", 1}, {"| ", 1}, {"| ", 1}, {"b", 1.1}}},
    {"BREAKFAST xBREAK BREAK_ break", {{"BREAKFAST xBREAK BREAK_ break", 1}}},
    {"(a BREAK b:2)", {{"a ", 2}, {"| b", 2}}},
    {"((a:10):10)", {{"a", 10}}},
    {"(a:0)", {{"a", 0}}},
};

static void test_syntax(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct sdw_prompt prompt;
        const char *text = cases[i].prompt;
        assert_int_equal(sdw_prompt_parse(&prompt, text, strlen(text), SDW_PROMPT_WEIGHTED, NULL),
                         SDW_OK);
        int count = 0;
        for (; count < SPANS_MAX && cases[i].span[count].text; count++) {
            const char *expected = cases[i].span[count].text;
            const struct sdw_prompt_span *span = &prompt.span[count];
            bool new_chunk = *expected == '|';
            expected += new_chunk;
            if (count >= prompt.spans || span->new_chunk != new_chunk ||
                span->end - span->start != strlen(expected) ||
                memcmp(prompt.text + span->start, expected, strlen(expected)) != 0 ||
                fabs(span->weight - cases[i].span[count].weight) > 1e-5)
                fail_msg("\"%s\": span %d is not \"%s\" with %g", text, count, expected,
                         cases[i].span[count].weight);
        }
        assert_int_equal(prompt.spans, count);
        sdw_prompt_free(&prompt);
    }
}

static void test_plain(void **state)
{
    (void)state;
    static const char text[] = "((a:2)) [b] BREAK \\(";
    struct sdw_prompt prompt;
    assert_int_equal(sdw_prompt_parse(&prompt, text, strlen(text), SDW_PROMPT_PLAIN, NULL), SDW_OK);
    assert_int_equal(prompt.spans, 1);
    assert_memory_equal(prompt.text, text, strlen(text));
    assert_true(prompt.span[0].weight == 1 && prompt.span[0].end == strlen(text));
    sdw_prompt_free(&prompt);
}

static void test_refused(void **state)
{
    (void)state;
    struct sdw_prompt prompt;
    struct sdw_error err = {0};
    static char text[SDW_PROMPT_BYTES_MAX + 1];
    assert_int_equal(sdw_prompt_parse(&prompt, "(a:10.5)", 8, SDW_PROMPT_WEIGHTED, &err),
                     SDW_INVALID);
    assert_non_null(strstr(err.message, "weight of 10.5, allowed are -10 to 10"));
    memset(text, '(', sizeof text);
    assert_int_equal(
        sdw_prompt_parse(&prompt, text, SDW_PROMPT_DEPTH_MAX, SDW_PROMPT_WEIGHTED, &err), SDW_OK);
    sdw_prompt_free(&prompt);
    assert_int_equal(
        sdw_prompt_parse(&prompt, text, SDW_PROMPT_DEPTH_MAX + 1, SDW_PROMPT_WEIGHTED, &err),
        SDW_TOO_LARGE);
    assert_non_null(strstr(err.message, "more than 64 brackets"));
    assert_int_equal(sdw_prompt_parse(&prompt, text, sizeof text, SDW_PROMPT_PLAIN, &err),
                     SDW_TOO_LARGE);
    assert_non_null(strstr(err.message, "16385 bytes, the limit is 16384"));
    assert_null(prompt.text);
}

/* ---- chunks ---- */

#define LENGTH 6 /* four tokens a chunk */
#define PAD    7

static struct sdw_tokenizer *tokenizer; /* tests/data/tokenizer */

static int open_tokenizer(void **state)
{
    (void)state;
    return sdw_tokenizer_open(&tokenizer, "tests/data/tokenizer", NULL) == SDW_OK ? 0 : -1;
}

static int close_tokenizer(void **state)
{
    (void)state;
    sdw_tokenizer_close(tokenizer);
    return 0;
}

/* Chunks as text: ^ start, $ end, _ padding, digits for themselves. */
static const struct {
    const char *prompt, *chunks;
    int chunks_min, chunks_max, tokens, cut, weighted;
} layouts[] = {
    {"", "^$____", 1, 1, 0, 0, 0},
    {"12", "^12$__", 1, 1, 2, 0, 0},
    {"1234", "^1234$", 1, 1, 4, 0, 0},
    {"12345", "^1234$", 1, 1, 5, 1, 0},
    {"12345", "^1234$^5$___", 1, 2, 5, 0, 0},
    {"123456789", "^1234$^5678$", 1, 2, 9, 1, 0},
    {"12", "^12$__^$____^$____", 3, 3, 2, 0, 0},
    {"1 BREAK 2", "^1$___^2$___", 1, 2, 2, 0, 0},
    {"BREAK 1 BREAK BREAK 2", "^1$___^2$___", 1, 3, 2, 0, 0},
    {"1234 BREAK 5", "^1234$^5$___", 1, 2, 5, 0, 0},
    {"1 BREAK 2 BREAK 3", "^1$___^2$___", 1, 2, 3, 1, 0},
    {"(12)345", "^1234$^5$___", 1, 2, 5, 0, 2},
    {"1234(56:2)", "^1234$", 1, 1, 6, 2, 0},
};

static char symbol_of(int32_t id)
{
    if (id == sdw_tokenizer_start(tokenizer))
        return '^';
    if (id == sdw_tokenizer_end(tokenizer))
        return '$';
    for (char digit = '0'; digit <= '9'; digit++) {
        char token[] = {digit, '<', '/', 'w', '>', 0};
        if (id == sdw_tokenizer_id(tokenizer, token))
            return digit;
    }
    return id == PAD ? '_' : '?';
}

static void test_chunks(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof layouts / sizeof layouts[0]; i++) {
        const char *text = layouts[i].prompt;
        struct sdw_prompt prompt;
        struct sdw_prompt_tokens tokens;
        struct sdw_prompt_layout layout = {LENGTH, layouts[i].chunks_min, layouts[i].chunks_max,
                                           PAD};
        assert_int_equal(sdw_prompt_parse(&prompt, text, strlen(text), SDW_PROMPT_WEIGHTED, NULL),
                         SDW_OK);
        assert_int_equal(sdw_prompt_tokenize(&tokens, &prompt, tokenizer, &layout, NULL), SDW_OK);
        assert_int_equal(tokens.length, LENGTH);
        char found[LENGTH * SDW_PROMPT_CHUNKS_MAX + 1] = {0};
        int weighted = 0;
        for (int t = 0; t < tokens.chunks * LENGTH; t++) {
            found[t] = symbol_of(tokens.id[t]);
            weighted += tokens.weight[t] != 1;
            assert_true(tokens.weight[t] == 1 || (found[t] >= '0' && found[t] <= '9'));
        }
        if (strcmp(found, layouts[i].chunks) != 0)
            fail_msg("\"%s\" fills %s, expected %s", text, found, layouts[i].chunks);
        assert_int_equal(tokens.tokens, layouts[i].tokens);
        assert_int_equal(tokens.cut, layouts[i].cut);
        assert_int_equal(tokens.weighted, layouts[i].weighted);
        assert_int_equal(weighted, layouts[i].weighted);
        sdw_prompt_tokens_free(&tokens);
        sdw_prompt_free(&prompt);
    }
}

/* What is no UTF-8 between brackets is refused, and nothing leaks. */
static void test_broken_text(void **state)
{
    (void)state;
    struct sdw_prompt prompt;
    struct sdw_prompt_tokens tokens;
    struct sdw_error err = {0};
    struct sdw_prompt_layout layout = {LENGTH, 1, 1, PAD};
    assert_int_equal(sdw_prompt_parse(&prompt, "a(\xff)", 4, SDW_PROMPT_WEIGHTED, NULL), SDW_OK);
    assert_int_equal(sdw_prompt_tokenize(&tokens, &prompt, tokenizer, &layout, &err), SDW_INVALID);
    assert_null(tokens.id);
    sdw_prompt_free(&prompt);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_syntax),      cmocka_unit_test(test_plain),
        cmocka_unit_test(test_refused),     cmocka_unit_test(test_chunks),
        cmocka_unit_test(test_broken_text),
    };
    return cmocka_run_group_tests(tests, open_tokenizer, close_tokenizer);
}
