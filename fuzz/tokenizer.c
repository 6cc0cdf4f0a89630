/* tokenizer.c: any bytes as a prompt, under the small vocabulary of the tests. */
#include "fuzz.h"

#include "text/tokenizer.h"

#include <stdlib.h>
#include <string.h>

#define LENGTH 77

static const struct sdw_tokenizer *small_tokenizer(void)
{
    static struct sdw_tokenizer *tokenizer;
    if (!tokenizer)
        FUZZ_CHECK(sdw_tokenizer_open(&tokenizer, SDW_SOURCE_DIR "/tests/data/tokenizer", NULL) ==
                   SDW_OK);
    return tokenizer;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const struct sdw_tokenizer *tokenizer = small_tokenizer();
    struct sdw_tokens tokens;
    struct sdw_error err = {0};
    if (sdw_tokenizer_encode(tokenizer, (const char *)data, size, &tokens, &err) != SDW_OK) {
        FUZZ_CHECK(err.status != SDW_OK && strlen(err.message) > 8 && !tokens.id);
        return 0;
    }
    int32_t ids[LENGTH];
    int cut = sdw_tokens_frame(ids, LENGTH, &tokens, tokenizer, 0);
    FUZZ_CHECK(cut == (tokens.count > LENGTH - 2 ? tokens.count - (LENGTH - 2) : 0));
    for (int i = 0; i < tokens.count; i++)
        FUZZ_CHECK(tokens.id[i] >= 0 && tokens.id[i] < sdw_tokenizer_size(tokenizer));
    free(tokens.id);
    return 0;
}
