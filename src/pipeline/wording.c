/* wording.c: see wording.h. */
#include "pipeline/wording.h"

#include "base/json.h"
#include "base/log.h"
#include "pipeline/guidance.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define WEIGHTED_TOLD_MAX  32  /* weighted pieces of a prompt that are told */
#define WEIGHTED_BYTES_MAX 200 /* of such a piece */

void sdw_wording_free(struct sdw_wording *wording)
{
    for (int row = 0; row < 2; row++)
        for (int i = 0; i < SDW_TEXTS_MAX; i++)
            sdw_prompt_tokens_free(&wording->tokens[row][i]);
    *wording = (struct sdw_wording){0};
}

static enum sdw_prompt_syntax syntax_of(const struct sdw_params *params)
{
    bool plain = params->prompt_syntax && strcmp(params->prompt_syntax, "plain") == 0;
    return plain ? SDW_PROMPT_PLAIN : SDW_PROMPT_WEIGHTED;
}

/* Row 0 of two is the negative prompt. */
static const char *text_of(const struct sdw_wording *wording, const struct sdw_params *params,
                           int row)
{
    const char *negative = params->negative_prompt ? params->negative_prompt : "";
    return row < wording->rows - 1 ? negative : params->prompt;
}

static enum sdw_status read_row(struct sdw_wording *wording, const struct sdw_engine *engine,
                                const struct sdw_params *params, int row, struct sdw_error *err)
{
    enum sdw_prompt_syntax syntax = syntax_of(params);
    const char *text = text_of(wording, params, row);
    struct sdw_prompt prompt;
    enum sdw_status status = sdw_prompt_parse(&prompt, text, strlen(text), syntax, err);
    if (status)
        return status;
    for (int i = 0; i < engine->config.texts && !status; i++) {
        struct sdw_prompt_tokens *tokens = &wording->tokens[row][i];
        struct sdw_prompt_layout layout = {
            .length = wording->length,
            .chunks_min = wording->chunks,
            .chunks_max = syntax == SDW_PROMPT_PLAIN ? 1 : SDW_PROMPT_CHUNKS_MAX,
            .pad = engine->pad[i]};
        sdw_prompt_tokens_free(tokens);
        status = sdw_prompt_tokenize(tokens, &prompt, engine->tokenizer[i], &layout, err);
        if (!status && tokens->chunks > wording->chunks)
            wording->chunks = tokens->chunks;
    }
    sdw_prompt_free(&prompt);
    return status;
}

static bool is_even(const struct sdw_wording *wording, const struct sdw_engine *engine)
{
    for (int row = 0; row < wording->rows; row++)
        for (int i = 0; i < engine->config.texts; i++)
            if (wording->tokens[row][i].chunks != wording->chunks)
                return false;
    return true;
}

enum sdw_status sdw_wording_read(struct sdw_wording *wording, const struct sdw_engine *engine,
                                 const struct sdw_params *params, struct sdw_error *err)
{
    const struct sdw_model_config *config = &engine->config;
    bool guided = sdw_guidance_runs(params->guidance_scale) && config->unet.time_cond_width == 0;
    wording->rows = guided ? 2 : 1;
    wording->length = config->text[0].positions;
    wording->chunks = 1;
    wording->zeros = guided && config->zeros_when_empty && !params->negative_prompt;
    if (!engine->tokenizer[0])
        return SDW_OK;
    enum sdw_status status = SDW_OK;
    do /* once more when one is longer than the others */
        for (int row = 0; row < wording->rows && !status; row++)
            status = read_row(wording, engine, params, row, err);
    while (!status && !is_even(wording, engine));
    return status;
}

/* ---- report ---- */

static void put_weighted(struct sdw_json *json, const char *text, enum sdw_prompt_syntax syntax)
{
    struct sdw_prompt prompt;
    int told = 0;
    sdw_json_open(json, "weighted", '[');
    if (sdw_prompt_parse(&prompt, text, strlen(text), syntax, NULL) == SDW_OK) {
        for (int i = 0; i < prompt.spans && told < WEIGHTED_TOLD_MAX; i++) {
            const struct sdw_prompt_span *span = &prompt.span[i];
            char piece[WEIGHTED_BYTES_MAX];
            if (span->weight == 1)
                continue;
            snprintf(piece, sizeof piece, "%.*s", (int)(span->end - span->start),
                     prompt.text + span->start);
            sdw_json_open(json, NULL, '{');
            sdw_json_string(json, "text", piece);
            sdw_json_real(json, "weight", span->weight, 3);
            sdw_json_close(json, '}');
            told++;
        }
        sdw_prompt_free(&prompt);
    }
    sdw_json_close(json, ']');
}

enum sdw_status sdw_wording_report(struct sdw_text *report, const struct sdw_wording *wording,
                                   const struct sdw_params *params, struct sdw_error *err)
{
    struct sdw_json json;
    sdw_json_init(&json, report);
    sdw_json_open(&json, NULL, '{');
    for (int row = 0; row < wording->rows; row++) {
        const struct sdw_prompt_tokens *tokens = &wording->tokens[row][0];
        const char *name = row < wording->rows - 1 ? "negative_prompt" : "prompt";
        sdw_json_open(&json, name, '{');
        sdw_json_integer(&json, "tokens", tokens->tokens);
        sdw_json_integer(&json, "chunks", tokens->chunks);
        sdw_json_integer(&json, "cut_tokens", tokens->cut);
        put_weighted(&json, text_of(wording, params, row), syntax_of(params));
        sdw_json_close(&json, '}');
        if (tokens->cut)
            sdw_log_warn("the last %d of %d tokens of the %s were cut off: %s", tokens->cut,
                         tokens->tokens, name,
                         syntax_of(params) == SDW_PROMPT_PLAIN
                             ? "plain prompts have room for one chunk"
                             : "there is room for so many chunks only");
    }
    sdw_json_close(&json, '}');
    return json.status ? sdw_fail(err, json.status, "no room to report on the prompt") : SDW_OK;
}
