/* wording.h: the two prompts of a request as chunks of tokens, for each text encoder, and what
 * became of them. */
#ifndef SDW_PIPELINE_WORDING_H
#define SDW_PIPELINE_WORDING_H

#include "pipeline/engine_internal.h"
#include "text/prompt.h"

#define SDW_WORDING_REPORT_BYTES_MAX (16u << 10)

/* A zeroed wording is empty. All arrays are owned. */
struct sdw_wording {
    int rows;   /* uncond and cond, or cond alone */
    int length; /* tokens of a chunk */
    int chunks; /* of every row: the shorter prompt ends in empty ones */
    bool zeros; /* the first row is not encoded but zeros, as XL has it without a negative prompt */
    struct sdw_prompt_tokens tokens[2][SDW_TEXTS_MAX];
};

/* *wording must be zeroed; free it also after a failure. An engine without tokenizers gives one
 * chunk without tokens. SDW_INVALID and SDW_TOO_LARGE say what is wrong with which prompt. */
enum sdw_status sdw_wording_read(struct sdw_wording *wording, const struct sdw_engine *engine,
                                 const struct sdw_params *params, struct sdw_error *err);
void sdw_wording_free(struct sdw_wording *wording);

/* Appends JSON for people: of each prompt its tokens, chunks, how many were cut off, and what was
 * weighted. Cut prompts are logged, too. */
enum sdw_status sdw_wording_report(struct sdw_text *report, const struct sdw_wording *wording,
                                   const struct sdw_params *params, struct sdw_error *err);

#endif
