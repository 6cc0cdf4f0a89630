/* plan.c: what an image will take, told by walking its shapes on a device that computes nothing. */
#include "pipeline/guidance.h"
#include "pipeline/wording.h"

#include "model/trace.h"

static size_t larger(size_t a, size_t b)
{
    return a > b ? a : b;
}

/* Walks the model's parts, or remembers: most images have the size of the one before. */
static enum sdw_status trace(const struct sdw_model_report **report, struct sdw_engine *engine,
                             int width, int height, int rows, int tokens, struct sdw_error *err)
{
    struct sdw_traced *last = &engine->traced;
    *report = &last->report;
    if (last->width == width && last->height == height && last->rows == rows &&
        last->tokens == tokens)
        return SDW_OK;
    enum sdw_status status = sdw_model_trace(&last->report, engine->tracer, &engine->config, width,
                                             height, rows, tokens, err);
    last->width = status ? 0 : width;
    last->height = height;
    last->rows = rows;
    last->tokens = tokens;
    return status;
}

static enum sdw_status plan_image(struct sdw_engine_plan *plan, struct sdw_engine *engine,
                                  const struct sdw_params *params, int tokens,
                                  size_t scratch_bytes_max, struct sdw_error *err)
{
    const struct sdw_model_config *config = &engine->config;
    const struct sdw_model_report *report;
    int rows = sdw_guidance_runs(params->guidance_scale) ? 2 : 1;
    *plan = (struct sdw_engine_plan){0};
    enum sdw_status status =
        trace(&report, engine, params->width, params->height, rows, tokens, err);
    if (status)
        return status;
    size_t others = report->unet.scratch_bytes, decode = report->vae_decode.scratch_bytes;
    for (int i = 0; i < config->texts; i++)
        others = larger(others, report->text[i].scratch_bytes);
    if (sdw_engine_encodes(engine, params))
        others = larger(others, report->vae_encode.scratch_bytes);
    if (decode > scratch_bytes_max)
        status = sdw_model_trace_decode(&plan->strip_rows, &decode, engine->tracer, config,
                                        params->width, params->height, scratch_bytes_max, err);
    plan->scratch_bytes = larger(others, decode);
    return status;
}

enum sdw_status sdw_engine_plan(struct sdw_engine_plan *plan, struct sdw_engine *engine,
                                const struct sdw_params *params, int tokens,
                                size_t scratch_bytes_max, struct sdw_error *err)
{
    pthread_mutex_lock(&engine->tracing);
    enum sdw_status status = plan_image(plan, engine, params, tokens, scratch_bytes_max, err);
    pthread_mutex_unlock(&engine->tracing);
    return status;
}

/* Tokens that the UNet will see of each prompt. */
static enum sdw_status count_tokens(int *tokens, const struct sdw_engine *engine,
                                    const struct sdw_params *params, struct sdw_error *err)
{
    struct sdw_wording wording = {0};
    enum sdw_status status = sdw_wording_read(&wording, engine, params, err);
    *tokens = wording.chunks * wording.length;
    sdw_wording_free(&wording);
    return status;
}

enum sdw_status sdw_engine_fit(struct sdw_engine_plan *plan, size_t *left,
                               struct sdw_engine *engine, const struct sdw_params *params,
                               struct sdw_error *err)
{
    size_t held = atomic_load(&engine->scratch_held);
    int tokens;
    *left = engine->dev->ops->memory_free(engine->dev);
    enum sdw_status status = count_tokens(&tokens, engine, params, err);
    if (!status)
        status = sdw_engine_plan(plan, engine, params, tokens, held + *left, err);
    if (status || plan->scratch_bytes <= held + *left)
        return status;
    return sdw_fail(
        err, SDW_MEMORY,
        "an image of %d x %d takes %zu MB more, %zu MB are free on %s: ask for a smaller one",
        params->width, params->height, (plan->scratch_bytes - held) >> 20, *left >> 20,
        engine->dev->id);
}
