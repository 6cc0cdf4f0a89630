/* conditions.c: tokens, hidden states, and what SDXL adds: a pooled embedding and six numbers about
 * sizes (Podell et al. 2023, section 2.2). */
#include "pipeline/conditions.h"

#include "pipeline/guidance.h"

#include <stdlib.h>
#include <string.h>

void sdw_conditions_free(struct sdw_conditions *conditions)
{
    free(conditions->hidden);
    free(conditions->pooled);
    free(conditions->time_ids);
    free(conditions->guidance);
    *conditions = (struct sdw_conditions){0};
}

static enum sdw_status no_memory(struct sdw_error *err)
{
    return sdw_fail(err, SDW_MEMORY, "no memory for the conditions of an image");
}

/* Encodes `prompt` with text encoder i into row `row`; its channels start at `offset`. */
static enum sdw_status encode(struct sdw_conditions *c, struct sdw_engine *engine, int i,
                              const char *prompt, int row, int offset, struct sdw_error *err)
{
    const struct sdw_model_config *config = &engine->config;
    const struct sdw_clip_text_config *text = &config->text[i];
    int tokens = c->tokens, width = config->unet.context_width;
    struct sdw_tokens words;
    enum sdw_status status =
        sdw_tokenizer_encode(engine->tokenizer[i], prompt, strlen(prompt), &words, err);
    if (status)
        return status;
    /* As diffusers has it, only the prompt's own row skips layers, never the negative one's. */
    int skip = config->hidden_skip + (row == c->rows - 1 ? c->clip_skip : 0);
    if (skip > text->layers) {
        free(words.id);
        return sdw_fail(err, SDW_INVALID, "clip_skip must be at most %d for this model, got %d",
                        text->layers - config->hidden_skip, c->clip_skip);
    }
    int32_t *ids = malloc((size_t)tokens * sizeof *ids);
    float *hidden = malloc((size_t)tokens * (size_t)text->width * sizeof *hidden);
    if (ids && hidden) {
        struct sdw_clip_text_layer layer = {skip, config->hidden_norm};
        float *pooled = c->pooled && i == config->texts - 1
                            ? c->pooled + (size_t)row * (size_t)config->unet.pooled_width
                            : NULL;
        sdw_tokens_frame(ids, tokens, &words, engine->tokenizer[i], engine->pad[i]);
        status = sdw_clip_text_encode(engine->text[i], hidden, pooled, ids, 1, tokens, layer, err);
        for (int t = 0; t < tokens && !status; t++)
            memcpy(c->hidden + ((size_t)row * (size_t)tokens + (size_t)t) * (size_t)width + offset,
                   hidden + (size_t)t * (size_t)text->width, (size_t)text->width * sizeof *hidden);
    } else {
        status = no_memory(err);
    }
    free(words.id);
    free(ids);
    free(hidden);
    return status;
}

static enum sdw_status encode_row(struct sdw_conditions *c, struct sdw_engine *engine,
                                  const char *prompt, int row, struct sdw_error *err)
{
    enum sdw_status status = SDW_OK;
    for (int i = 0, offset = 0; i < engine->config.texts && !status;
         offset += engine->config.text[i].width, i++)
        status = encode(c, engine, i, prompt, row, offset, err);
    return status;
}

/* An image made at its own size, uncropped: original height and width, crop top and left, then
 * target height and width; or, where there are five, as in XL's refiner, how good it looks: 6 of
 * 10, and 2.5 for what is not wanted, as diffusers has it. */
static void fill_time_ids(struct sdw_conditions *c, int ids, const struct sdw_params *params)
{
    for (int row = 0; row < c->rows; row++) {
        float values[] = {(float)params->height, (float)params->width, 0, 0,
                          (float)params->height, (float)params->width};
        if (ids == 5)
            values[4] = row == c->rows - 1 ? 6 : 2.5f;
        for (int i = 0; i < ids && i < (int)(sizeof values / sizeof values[0]); i++)
            c->time_ids[row * ids + i] = values[i];
    }
}

static bool allocate(struct sdw_conditions *c, const struct sdw_unet_config *unet)
{
    size_t rows = (size_t)c->rows;
    c->hidden = calloc(rows * (size_t)c->tokens * (size_t)unet->context_width, sizeof(float));
    if (unet->addition_time_width) {
        c->pooled = calloc(rows * (size_t)unet->pooled_width, sizeof(float));
        c->time_ids = calloc(rows * (size_t)unet->time_ids, sizeof(float));
    }
    c->guidance = calloc(rows, sizeof(float));
    return c->hidden && c->guidance && (!unet->addition_time_width || (c->pooled && c->time_ids));
}

enum sdw_status sdw_conditions_make(struct sdw_conditions *conditions, struct sdw_engine *engine,
                                    const struct sdw_params *params,
                                    const struct sdw_generate_options *options,
                                    struct sdw_error *err)
{
    const struct sdw_unet_config *unet = &engine->config.unet;
    struct sdw_conditions *c = conditions;
    bool guided = sdw_guidance_runs(params->guidance_scale) && unet->time_cond_width == 0;
    c->rows = guided ? 2 : 1;
    c->clip_skip = params->clip_skip;
    c->tokens = options->embeds ? options->embeds_tokens : engine->config.text[0].positions;
    if (!allocate(c, unet))
        return no_memory(err);
    for (int row = 0; row < c->rows; row++)
        c->guidance[row] = (float)params->guidance_scale - 1; /* Meng et al. 2023: w = scale - 1 */
    if (c->time_ids)
        fill_time_ids(c, unet->time_ids, params);
    if (options->embeds) {
        size_t rows = (size_t)c->rows;
        memcpy(c->hidden, options->embeds,
               rows * (size_t)c->tokens * (size_t)unet->context_width * sizeof(float));
        if (c->pooled)
            memcpy(c->pooled, options->pooled, rows * (size_t)unet->pooled_width * sizeof(float));
        if (c->time_ids && options->time_ids)
            memcpy(c->time_ids, options->time_ids, rows * (size_t)unet->time_ids * sizeof(float));
        return SDW_OK;
    }
    enum sdw_status status = SDW_OK;
    bool zeros = engine->config.zeros_when_empty && !params->negative_prompt; /* calloc made them */
    if (guided && !zeros)
        status =
            encode_row(c, engine, params->negative_prompt ? params->negative_prompt : "", 0, err);
    return status ? status : encode_row(c, engine, params->prompt, c->rows - 1, err);
}
