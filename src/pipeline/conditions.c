/* conditions.c: tokens, hidden states, and what SDXL adds: a pooled embedding and six numbers about
 * sizes (Podell et al. 2023, section 2.2). */
#include "pipeline/conditions.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

void sdw_conditions_free(struct sdw_conditions *conditions)
{
    free(conditions->hidden);
    free(conditions->pooled);
    free(conditions->time_ids);
    free(conditions->guidance);
    sdw_wording_free(&conditions->wording);
    *conditions = (struct sdw_conditions){0};
}

static enum sdw_status no_memory(struct sdw_error *err)
{
    return sdw_fail(err, SDW_MEMORY, "no memory for the conditions of an image");
}

/* One chunk through text encoder i, or as it was the last time; NULL after a failure. */
static const struct sdw_text_cached *encode_chunk(struct sdw_engine *engine, int i, int skip,
                                                  const int32_t *ids, int length,
                                                  struct sdw_error *err)
{
    const struct sdw_model_config *config = &engine->config;
    const struct sdw_clip_text_config *text = &config->text[i];
    bool pools = config->unet.addition_time_width && i == config->texts - 1;
    const struct sdw_text_cached *known =
        sdw_text_cache_find(&engine->text_cache, i, skip, ids, length);
    if (known)
        return known;
    int projection = text->projection > 0 ? text->projection : text->width;
    struct sdw_text_cached *made =
        sdw_text_cache_add(&engine->text_cache, i, skip, ids, length, text->width, projection);
    struct sdw_clip_text_layer layer = {skip, config->hidden_norm};
    if (!made) {
        no_memory(err);
        return NULL;
    }
    if (sdw_clip_text_encode(engine->text[i], made->hidden, pools ? made->pooled : NULL, ids, 1,
                             length, layer, err) == SDW_OK)
        return made;
    sdw_text_cache_forget(made);
    return NULL;
}

/* Weights multiply the hidden states of their tokens, and the chunk's mean is put back, so that a
 * weighted prompt is as loud as a plain one: what A1111's web UI does ("Attention/emphasis" in its
 * wiki). `to` has rows of `stride` numbers. */
static void weigh(float *to, int stride, int width, int length, const float *weight)
{
    double before = 0, after = 0;
    bool weighted = false;
    for (int t = 0; t < length; t++)
        weighted = weighted || weight[t] != 1;
    if (!weighted)
        return;
    for (int t = 0; t < length; t++)
        for (int k = 0; k < width; k++) {
            float *value = &to[(int64_t)t * stride + k];
            before += *value;
            *value *= weight[t];
            after += *value;
        }
    double ratio = before / after;
    for (int t = 0; t < length && isfinite(ratio); t++)
        for (int k = 0; k < width; k++)
            to[(int64_t)t * stride + k] *= (float)ratio;
}

/* Text encoder i's channels of row `row`, from channel `offset` on; the pooled embedding is that of
 * the first chunk. */
static enum sdw_status encode(struct sdw_conditions *c, struct sdw_engine *engine, int i, int row,
                              int offset, struct sdw_error *err)
{
    const struct sdw_model_config *config = &engine->config;
    const struct sdw_clip_text_config *text = &config->text[i];
    const struct sdw_prompt_tokens *tokens = &c->wording.tokens[row][i];
    int width = config->unet.context_width, length = tokens->length;
    /* As diffusers has it, only the prompt's own row skips layers, never the negative one's. */
    int skip = config->hidden_skip + (row == c->rows - 1 ? c->clip_skip : 0);
    if (skip > text->layers)
        return sdw_fail(err, SDW_INVALID, "clip_skip must be at most %d for this model, got %d",
                        text->layers - config->hidden_skip, c->clip_skip);
    for (int chunk = 0; chunk < tokens->chunks; chunk++) {
        size_t first = (size_t)chunk * (size_t)length;
        const struct sdw_text_cached *known =
            encode_chunk(engine, i, skip, tokens->id + first, length, err);
        if (!known)
            return err->status;
        float *to =
            c->hidden + ((size_t)row * (size_t)c->tokens + first) * (size_t)width + (size_t)offset;
        for (int t = 0; t < length; t++)
            memcpy(to + (size_t)t * (size_t)width, known->hidden + (size_t)t * (size_t)text->width,
                   (size_t)text->width * sizeof *to);
        weigh(to, width, text->width, length, tokens->weight + first);
        if (c->pooled && i == config->texts - 1 && chunk == 0)
            memcpy(c->pooled + (size_t)row * (size_t)config->unet.pooled_width, known->pooled,
                   (size_t)config->unet.pooled_width * sizeof *to);
    }
    return SDW_OK;
}

static enum sdw_status encode_row(struct sdw_conditions *c, struct sdw_engine *engine, int row,
                                  struct sdw_error *err)
{
    enum sdw_status status = SDW_OK;
    for (int i = 0, offset = 0; i < engine->config.texts && !status;
         offset += engine->config.text[i].width, i++)
        status = encode(c, engine, i, row, offset, err);
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
    enum sdw_status status = sdw_wording_read(&c->wording, engine, params, err);
    if (status)
        return status;
    c->rows = c->wording.rows;
    c->clip_skip = params->clip_skip;
    c->tokens = options->embeds ? options->embeds_tokens : c->wording.chunks * c->wording.length;
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
    for (int row = 0; row < c->rows && !status; row++)
        if (row == c->rows - 1 || !c->wording.zeros) /* else calloc made them */
            status = encode_row(c, engine, row, err);
    return status;
}
