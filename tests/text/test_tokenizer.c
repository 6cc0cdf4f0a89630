/* test_tokenizer.c: CLIP's byte-pair encoding under a small vocabulary; vocabularies that are none.
 */
#include "text/tokenizer.h"

#include "base/clock.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static struct sdw_tokenizer *small; /* tests/data/tokenizer: bytes, and the words of a few merges */

static int open_small(void **state)
{
    (void)state;
    return sdw_tokenizer_open(&small, "tests/data/tokenizer", NULL) == SDW_OK ? 0 : -1;
}

static int close_small(void **state)
{
    (void)state;
    sdw_tokenizer_close(small);
    return 0;
}

/* Each prompt gives these tokens of vocab.json, written with blanks between. */
static const struct {
    const char *prompt, *tokens;
} prompts[] = {
    {"", ""},
    {" \t\r\n ", ""},
    {"a photo of the cat", "a</w> photo</w> of</w> the</w> cat</w>"},
    {"A  PHOTO\tof\nThe CaT", "a</w> photo</w> of</w> the</w> cat</w>"},
    {"cats", "cats</w>"},
    {"catdog", "cat dog</w>"},
    {"caca", "ca c a</w>"},
    {"cat's", "cat</w> ' s</w>"},
    {"red,house", "red</w> ,</w> house</w>"},
    {"a!!!cat", "a</w> ! ! !</w> cat</w>"},
    {"123", "1</w> 2</w> 3</w>"},
    {"<|startoftext|>cat<|endoftext|>", "<|startoftext|> cat</w> <|endoftext|>"},
    {"\xc3\xa9", "\xc3\x83 \xc2\xa9</w>"},  /* e with acute accent, U+00E9 */
    {"e\xcc\x81", "\xc3\x83 \xc2\xa9</w>"}, /* e and a combining accent: composed first */
    {"\xc3\x89", "\xc3\x83 \xc2\xa9</w>"},  /* capital: lower case of other scripts too */
};

static void test_prompts(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof prompts / sizeof prompts[0]; i++) {
        struct sdw_tokens tokens;
        char expected[256], *rest = expected;
        snprintf(expected, sizeof expected, "%s", prompts[i].tokens);
        assert_int_equal(sdw_tokenizer_encode(small, prompts[i].prompt, strlen(prompts[i].prompt),
                                              &tokens, NULL),
                         SDW_OK);
        int count = 0;
        for (char *token; (token = strtok_r(rest, " ", &rest)); count++)
            if (count >= tokens.count || tokens.id[count] != sdw_tokenizer_id(small, token))
                fail_msg("\"%s\": token %d is not %s", prompts[i].prompt, count, token);
        assert_int_equal(tokens.count, count);
        free(tokens.id);
    }
}

static void test_frame(void **state)
{
    (void)state;
    int32_t id[] = {5, 6, 7, 8}, ids[6], start = sdw_tokenizer_start(small),
            end = sdw_tokenizer_end(small);
    struct sdw_tokens tokens = {id, 3};
    assert_int_equal(sdw_tokens_frame(ids, 6, &tokens, small, 0), 0);
    assert_memory_equal(ids, ((int32_t[]){start, 5, 6, 7, end, 0}), sizeof ids);
    tokens.count = 4;
    assert_int_equal(sdw_tokens_frame(ids, 6, &tokens, small, 0), 0);
    assert_memory_equal(ids, ((int32_t[]){start, 5, 6, 7, 8, end}), sizeof ids);
    assert_int_equal(sdw_tokens_frame(ids, 4, &tokens, small, 0), 2);
    assert_memory_equal(ids, ((int32_t[]){start, 5, 6, end}), 4 * sizeof *ids);
}

static void test_refused_prompts(void **state)
{
    (void)state;
    struct sdw_tokens tokens;
    struct sdw_error err = {0};
    static const char *const broken[] = {"\xff", "a\xc3", "\xed\xa0\x80", "\xf4\x90\x80\x80"};
    for (size_t i = 0; i < sizeof broken / sizeof broken[0]; i++) {
        assert_int_equal(sdw_tokenizer_encode(small, broken[i], strlen(broken[i]), &tokens, &err),
                         SDW_INVALID);
        assert_non_null(strstr(err.message, "not valid UTF-8"));
    }
    char *long_prompt = calloc(1, SDW_PROMPT_BYTES_MAX + 1);
    assert_non_null(long_prompt);
    memset(long_prompt, 'a', SDW_PROMPT_BYTES_MAX + 1);
    assert_int_equal(
        sdw_tokenizer_encode(small, long_prompt, SDW_PROMPT_BYTES_MAX + 1, &tokens, &err),
        SDW_TOO_LARGE);
    assert_non_null(strstr(err.message, "16385 bytes, the limit is 16384"));
    free(long_prompt);
}

/* The longest word there can be, of pairs that merge again and again. */
static void test_endless_word(void **state)
{
    (void)state;
    static char word[SDW_PROMPT_BYTES_MAX];
    struct sdw_tokens tokens;
    for (size_t i = 0; i < sizeof word; i++)
        word[i] = "photocatdoghouseredthe"[i % 22];
    double start = sdw_clock_seconds();
    assert_int_equal(sdw_tokenizer_encode(small, word, sizeof word, &tokens, NULL), SDW_OK);
    assert_true(sdw_clock_seconds() - start < 5); /* also under sanitizers on a busy machine */
    assert_true(tokens.count > 1000 && tokens.count < SDW_PROMPT_BYTES_MAX);
    free(tokens.id);
}

#define SPECIALS "\"<|startoftext|>\":8,\"<|endoftext|>\":9"

/* Each pair of files is refused; the sentence holds `why`. */
static const struct {
    const char *vocabulary, *merges, *why;
    enum sdw_status status;
} refused[] = {
    {"", "", "not a JSON object", SDW_FORMAT},
    {"[]", "", "not a JSON object", SDW_FORMAT},
    {"{}", "", "no <|startoftext|>", SDW_FORMAT},
    {"{\"<|startoftext|>\":0}", "", "no <|endoftext|>", SDW_FORMAT},
    {"{\"a\":-1," SPECIALS "}", "", "token \"a\" is not a number", SDW_FORMAT},
    {"{\"a\":1.5," SPECIALS "}", "", "token \"a\" is not a number", SDW_FORMAT},
    {"{\"a\":1000000," SPECIALS "}", "", "token \"a\" is not a number", SDW_FORMAT},
    {"{" SPECIALS "}", "ab\n", "merge 1 is not two tokens", SDW_FORMAT},
    {"{" SPECIALS "}", "a \n", "merge 1 is not two tokens", SDW_FORMAT},
    {"{\"ab\":1," SPECIALS "}", "#version: 0.2\na b\na b c\n", "merge 2 is not two tokens",
     SDW_FORMAT},
    {"{\"ab\":1," SPECIALS "}", "a b\na c\n", "merge 2 makes \"ac\"", SDW_FORMAT},
};

static void test_refused_vocabularies(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof refused / sizeof refused[0]; i++) {
        const char *vocabulary = refused[i].vocabulary, *merges = refused[i].merges;
        struct sdw_tokenizer_files files = {"vocab.json", vocabulary, strlen(vocabulary),
                                            "merges.txt", merges,     strlen(merges)};
        struct sdw_tokenizer *tokenizer;
        struct sdw_error err = {0};
        assert_int_equal(sdw_tokenizer_parse(&tokenizer, &files, &err), refused[i].status);
        assert_null(tokenizer);
        if (!strstr(err.message, refused[i].why))
            fail_msg("%s, %s gave: %s", vocabulary, merges, err.message);
    }
    struct sdw_tokenizer *tokenizer;
    struct sdw_error err = {0};
    assert_int_equal(sdw_tokenizer_open(&tokenizer, "tests/data/none", &err), SDW_IO);
    assert_non_null(strstr(err.message, "tests/data/none/vocab.json"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_prompts),
        cmocka_unit_test(test_frame),
        cmocka_unit_test(test_refused_prompts),
        cmocka_unit_test(test_endless_word),
        cmocka_unit_test(test_refused_vocabularies),
    };
    return cmocka_run_group_tests(tests, open_small, close_small);
}
