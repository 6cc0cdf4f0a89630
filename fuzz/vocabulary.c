/* vocabulary.c: any bytes as vocab.json, merges.txt and a prompt, with zero bytes between the
 * three. */
#include "fuzz.h"

#include "text/tokenizer.h"

#include <stdlib.h>
#include <string.h>

/* The bytes up to the next zero; *data and *size move behind it. */
static const char *part(const char **data, size_t *size, size_t *bytes)
{
    const char *start = *data, *zero = memchr(start, 0, *size);
    *bytes = zero ? (size_t)(zero - start) : *size;
    size_t used = *bytes + (zero != NULL);
    *data += used;
    *size -= used;
    return start;
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    const char *data = (const char *)bytes;
    struct sdw_tokenizer_files files = {.vocabulary_path = "vocab.json",
                                        .merges_path = "merges.txt"};
    struct sdw_tokenizer *tokenizer;
    struct sdw_error err = {0};
    if (size == 0)
        return 0;
    files.vocabulary = part(&data, &size, &files.vocabulary_bytes);
    files.merges = part(&data, &size, &files.merges_bytes);
    if (sdw_tokenizer_parse(&tokenizer, &files, &err) != SDW_OK) {
        FUZZ_CHECK(err.status != SDW_OK && strlen(err.message) > 8 && !tokenizer);
        return 0;
    }
    struct sdw_tokens tokens;
    if (sdw_tokenizer_encode(tokenizer, data, size, &tokens, &err) == SDW_OK) {
        for (int i = 0; i < tokens.count; i++)
            FUZZ_CHECK(tokens.id[i] >= 0 && tokens.id[i] < sdw_tokenizer_size(tokenizer));
        free(tokens.id);
    }
    sdw_tokenizer_close(tokenizer);
    return 0;
}
