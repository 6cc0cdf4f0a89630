/* tokenizer.h: CLIP's byte-pair encoding (Radford et al. 2021; Sennrich et al. 2016), from a
 * model's own vocab.json and merges.txt.
 *
 * Text is normalised as CLIP's fast tokenizer does (NFC, lower case, runs of blanks to one), cut
 * into words by CLIP's pattern, each word's bytes mapped to printable code points, and the pairs
 * merged in the order of merges.txt. */
#ifndef SDW_TEXT_TOKENIZER_H
#define SDW_TEXT_TOKENIZER_H

#include "base/status.h"

#include <stddef.h>
#include <stdint.h>

#define SDW_TOKENIZER_FILE_BYTES_MAX (16u << 20) /* of vocab.json and of merges.txt */
#define SDW_TOKENIZER_VOCABULARY_MAX 1000000     /* tokens */
#define SDW_PROMPT_BYTES_MAX                                                                       \
    (16 << 10) /* a prompt: merging one endless word stays under a second */

struct sdw_tokenizer;

struct sdw_tokens {
    int32_t *id; /* owned; NULL when empty */
    int count;
};

/* The two files in memory, and the names to blame. */
struct sdw_tokenizer_files {
    const char *vocabulary_path, *vocabulary; /* a JSON object: token -> id */
    size_t vocabulary_bytes;
    const char *merges_path, *merges; /* "left right" a line, the first the strongest */
    size_t merges_bytes;
};

/* Keeps nothing of `files`. SDW_FORMAT or SDW_TOO_LARGE says what is wrong with which. */
enum sdw_status sdw_tokenizer_parse(struct sdw_tokenizer **tokenizer,
                                    const struct sdw_tokenizer_files *files, struct sdw_error *err);
/* The same from folder/vocab.json and folder/merges.txt. */
enum sdw_status sdw_tokenizer_open(struct sdw_tokenizer **tokenizer, const char *folder,
                                   struct sdw_error *err);
void sdw_tokenizer_close(struct sdw_tokenizer *tokenizer); /* NULL is allowed */

int32_t sdw_tokenizer_start(const struct sdw_tokenizer *tokenizer); /* <|startoftext|> */
int32_t sdw_tokenizer_end(const struct sdw_tokenizer *tokenizer);   /* <|endoftext|> */
int sdw_tokenizer_size(const struct sdw_tokenizer *tokenizer);      /* largest id + 1 */
/* The id of a token as it stands in vocab.json, or -1. */
int32_t sdw_tokenizer_id(const struct sdw_tokenizer *tokenizer, const char *token);

/* The tokens of `text` (UTF-8; NULs are dropped) without start and end, never cut. The caller frees
 * tokens->id. */
enum sdw_status sdw_tokenizer_encode(const struct sdw_tokenizer *tokenizer, const char *text,
                                     size_t text_bytes, struct sdw_tokens *tokens,
                                     struct sdw_error *err);

/* ids[length] = start, as many tokens as fit, end, then `pad`. Returns how many tokens were cut
 * off. */
int sdw_tokens_frame(int32_t *ids, int length, const struct sdw_tokens *tokens,
                     const struct sdw_tokenizer *tokenizer, int32_t pad);

#endif
