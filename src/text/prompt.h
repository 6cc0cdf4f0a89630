/* prompt.h: prompt syntax, and prompts longer than a text encoder reads at once.
 *
 * A prompt becomes spans of plain text with a weight each, and these become chunks of tokens: 75
 * between a start and an end token, as many chunks as it takes. The syntax is the one that web UIs
 * agree on:
 *
 *   (word)        weight 1.1, nested brackets multiply
 *   [word]        weight 1/1.1
 *   (word:1.3)    weight 1.3
 *   \( \) \[ \] \\   the character itself
 *   BREAK         what follows begins a new chunk
 *
 * Products are held within SDW_PROMPT_WEIGHT_MAX. A bracket left open holds to the end; one that
 * closes nothing is text. */
#ifndef SDW_TEXT_PROMPT_H
#define SDW_TEXT_PROMPT_H

#include "text/tokenizer.h"

#include <stdbool.h>

#define SDW_PROMPT_DEPTH_MAX  64   /* brackets of one kind open at once */
#define SDW_PROMPT_WEIGHT_MAX 10.0 /* either sign */
#define SDW_PROMPT_CHUNKS_MAX 32

enum sdw_prompt_syntax { SDW_PROMPT_PLAIN, SDW_PROMPT_WEIGHTED };

struct sdw_prompt_span {
    size_t start, end; /* bytes of sdw_prompt.text */
    float weight;
    bool new_chunk; /* BREAK stood before it */
};

struct sdw_prompt {
    char *text; /* owned: the prompt without its syntax */
    struct sdw_prompt_span *span;
    int spans; /* none is empty, neighbours differ in weight or are parted by BREAK */
};

/* SDW_TOO_LARGE over SDW_PROMPT_BYTES_MAX or SDW_PROMPT_DEPTH_MAX, SDW_INVALID for a weight out of
 * range. *prompt is empty after a failure. */
enum sdw_status sdw_prompt_parse(struct sdw_prompt *prompt, const char *text, size_t text_bytes,
                                 enum sdw_prompt_syntax syntax, struct sdw_error *err);
void sdw_prompt_free(struct sdw_prompt *prompt);

struct sdw_prompt_tokens {
    int chunks, length; /* at least one chunk; tokens of each, start, end and padding included */
    int32_t *id;        /* [chunks][length]; owned */
    float *weight;      /* [chunks][length], 1 for start, end and padding; owned */
    int tokens;         /* of the prompt, those cut off included */
    int cut;            /* that did not fit into chunks_max chunks */
    int weighted;       /* kept, with a weight other than 1 */
};

/* Tokens of all spans, in at least chunks_min (with empty ones at the end, so that a prompt and its
 * negative can be made equally long) and at most chunks_max chunks of `length` tokens. */
struct sdw_prompt_layout {
    int length, chunks_min, chunks_max;
    int32_t pad;
};
enum sdw_status sdw_prompt_tokenize(struct sdw_prompt_tokens *tokens,
                                    const struct sdw_prompt *prompt,
                                    const struct sdw_tokenizer *tokenizer,
                                    const struct sdw_prompt_layout *layout, struct sdw_error *err);
void sdw_prompt_tokens_free(struct sdw_prompt_tokens *tokens);

#endif
