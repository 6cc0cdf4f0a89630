/* prompt.c: any bytes in the syntax of prompts, cut into chunks. */
#include "fuzz.h"

#include "text/prompt.h"

#include <math.h>
#include <string.h>

static const struct sdw_tokenizer *small_tokenizer(void)
{
    static struct sdw_tokenizer *tokenizer;
    if (!tokenizer)
        FUZZ_CHECK(sdw_tokenizer_open(&tokenizer, SDW_SOURCE_DIR "/tests/data/tokenizer", NULL) ==
                   SDW_OK);
    return tokenizer;
}

static void check_spans(const struct sdw_prompt *prompt, size_t size)
{
    size_t at = 0;
    for (int i = 0; i < prompt->spans; i++) {
        const struct sdw_prompt_span *span = &prompt->span[i];
        FUZZ_CHECK(span->start >= at && span->end > span->start && span->end <= size);
        FUZZ_CHECK(fabsf(span->weight) <= (float)SDW_PROMPT_WEIGHT_MAX);
        at = span->end;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct sdw_prompt prompt;
    struct sdw_prompt_tokens tokens;
    struct sdw_error err = {0};
    if (sdw_prompt_parse(&prompt, (const char *)data, size, SDW_PROMPT_WEIGHTED, &err) != SDW_OK) {
        FUZZ_CHECK(err.status != SDW_OK && !prompt.text);
        return 0;
    }
    check_spans(&prompt, size);
    struct sdw_prompt_layout layout = {8, 2, 4, 0};
    if (sdw_prompt_tokenize(&tokens, &prompt, small_tokenizer(), &layout, &err) == SDW_OK) {
        FUZZ_CHECK(tokens.chunks >= 2 && tokens.chunks <= 4 && tokens.cut <= tokens.tokens);
        for (int i = 0; i < tokens.chunks; i++)
            FUZZ_CHECK(tokens.id[8 * i] == sdw_tokenizer_start(small_tokenizer()));
        sdw_prompt_tokens_free(&tokens);
    }
    sdw_prompt_free(&prompt);
    return 0;
}
