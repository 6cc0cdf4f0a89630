/* generate.c: THE loop: noise becomes latents, step by step, and latents become pixels.
 *
 * Everything random is drawn on the host from one generator, in the order in which diffusers draws
 * it. */
#include "pipeline/conditions.h"

#include "base/clock.h"
#include "base/log.h"
#include "image/image.h"
#include "image/png.h"
#include "pipeline/guidance.h"
#include "sample/noise.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* One run; all arrays are owned. */
struct run {
    struct sdw_engine *engine;
    const struct sdw_params *params;
    const struct sdw_generate_options *options;
    const struct sdw_progress *progress;
    struct sdw_conditions conditions;
    struct sdw_unet_context *context;
    struct sdw_sampler *sampler;
    struct sdw_noise noise;
    int channels, h, w; /* of the latents */
    int64_t count;      /* of the latents */
    float *latents;     /* [channels,h,w] */
    float *input;       /* [rows,channels,h,w] */
    float *prediction;  /* [rows,channels,h,w] */
};

static void draw_noise(void *context, float *values, int64_t count)
{
    sdw_noise_fill(context, values, count);
}

static enum sdw_status reserve_scratch(struct run *run, struct sdw_error *err)
{
    struct sdw_engine *engine = run->engine;
    size_t bytes;
    bool guided = sdw_guidance_runs(run->params->guidance_scale);
    enum sdw_status status = sdw_engine_scratch_bytes(&bytes, engine, run->params->width,
                                                      run->params->height, guided, err);
    if (status)
        return status;
    size_t held = engine->dev->scratch.capacity, more = bytes > held ? bytes - held : 0;
    size_t left = engine->dev->ops->memory_free(engine->dev);
    if (more > left)
        return sdw_fail(
            err, SDW_MEMORY,
            "an image of %d x %d takes %zu MB more, %zu MB are free on %s: ask for a smaller one",
            run->params->width, run->params->height, more >> 20, left >> 20, engine->dev->id);
    sdw_scratch_reserve(engine->dev, bytes);
    return sdw_sync(engine->dev, err);
}

static enum sdw_status open_sampler(struct run *run, struct sdw_error *err)
{
    struct sdw_sampler_options options = {.name = run->params->sampler,
                                          .schedule = run->params->schedule,
                                          .steps = run->params->steps,
                                          .strength = 1,
                                          .count = run->count};
    const struct sdw_schedule_config *schedule = run->options->schedule;
    return sdw_sampler_open(&run->sampler, &options, schedule ? schedule : &run->engine->schedule,
                            err);
}

static enum sdw_status prepare(struct run *run, struct sdw_error *err)
{
    const struct sdw_model_config *config = &run->engine->config;
    run->channels = config->vae.latent_channels;
    run->h = run->params->height / config->vae.factor;
    run->w = run->params->width / config->vae.factor;
    run->count = (int64_t)run->channels * run->h * run->w;
    if (config->unet.in_channels != run->channels || config->unet.out_channels != run->channels)
        return sdw_fail(
            err, SDW_MODEL,
            "%s: its UNet takes %d channels where latents have %d: not a text-to-image model",
            run->engine->model_id, config->unet.in_channels, run->channels);
    run->latents = malloc((size_t)run->count * sizeof(float));
    run->input = malloc(2 * (size_t)run->count * sizeof(float));
    run->prediction = malloc(2 * (size_t)run->count * sizeof(float));
    if (!run->latents || !run->input || !run->prediction)
        return sdw_fail(err, SDW_MEMORY, "no memory for latents of %" PRId64 " numbers",
                        run->count);
    enum sdw_status status = reserve_scratch(run, err);
    return status ? status : open_sampler(run, err);
}

static enum sdw_status condition(struct run *run, struct sdw_error *err)
{
    struct sdw_conditions *c = &run->conditions;
    enum sdw_status status = sdw_conditions_make(c, run->engine, run->params, run->options, err);
    if (status)
        return status;
    struct sdw_unet_conditions conditions = {.n = c->rows,
                                             .tokens = c->tokens,
                                             .hidden = c->hidden,
                                             .pooled = c->pooled,
                                             .time_ids = c->time_ids,
                                             .guidance_scale = c->guidance};
    return sdw_unet_context_new(&run->context, run->engine->unet, &conditions, err);
}

/* The guided prediction for evaluation i ends up in run->prediction. */
static enum sdw_status predict(struct run *run, int i, struct sdw_error *err)
{
    float timestep = sdw_sampler_timestep(run->sampler, i), timesteps[2] = {timestep, timestep};
    sdw_sampler_scale_input(run->sampler, i, run->input, run->latents);
    if (run->conditions.rows == 2)
        memcpy(run->input + run->count, run->input, (size_t)run->count * sizeof(float));
    enum sdw_status status = sdw_unet_forward(run->engine->unet, run->prediction, run->input,
                                              timesteps, run->h, run->w, run->context, err);
    if (!status && run->conditions.rows == 2)
        sdw_guidance_apply(run->prediction, run->prediction, run->prediction + run->count,
                           run->count, run->params->guidance_scale, run->options->guidance_rescale);
    return status;
}

static bool cancelled(const struct sdw_progress *progress)
{
    return progress && progress->cancel && atomic_load(progress->cancel);
}

/* A number that is none would make a black picture: say so instead. */
static enum sdw_status check_finite(const float *values, int64_t count, const char *what,
                                    struct sdw_error *err)
{
    for (int64_t i = 0; i < count; i++)
        if (!isfinite(values[i]))
            return sdw_fail(err, SDW_DEVICE,
                            "%s: value %" PRId64 " is not a number; try --dtype f32", what, i);
    return SDW_OK;
}

static enum sdw_status denoise(struct run *run, struct sdw_error *err)
{
    const struct sdw_progress *progress = run->progress;
    const struct sdw_sampler_draw draw = {draw_noise, &run->noise};
    int evals = sdw_sampler_evals(run->sampler);
    sdw_noise_seed(&run->noise, SDW_NOISE_TORCH_CPU, run->params->seed);
    sdw_noise_fill(&run->noise, run->latents, run->count);
    sdw_sampler_begin(run->sampler, run->latents, run->latents);
    for (int i = 0; i < evals; i++) {
        if (cancelled(progress))
            return sdw_fail(err, SDW_CANCELLED, "cancelled before evaluation %d of %d", i + 1,
                            evals);
        enum sdw_status status = predict(run, i, err);
        if (status)
            return status;
        sdw_sampler_step(run->sampler, i, run->latents, run->prediction, &draw);
        if (run->options->latents)
            run->options->latents(run->options->latents_context, i, run->latents, run->count);
        if (progress && progress->step && sdw_sampler_ends_step(run->sampler, i))
            progress->step(progress->context, sdw_sampler_step_of(run->sampler, i),
                           sdw_sampler_steps(run->sampler));
    }
    return check_finite(run->latents, run->count, "latents", err);
}

static enum sdw_status decode(struct run *run, float **pixels, struct sdw_error *err)
{
    const struct sdw_vae_config *vae = &run->engine->config.vae;
    size_t count =
        (size_t)run->params->width * (size_t)run->params->height * (size_t)vae->image_channels;
    for (int64_t i = 0; i < run->count; i++)
        run->latents[i] /= vae->scaling_factor;
    *pixels = malloc(count * sizeof **pixels);
    if (!*pixels)
        return sdw_fail(err, SDW_MEMORY, "no memory for %d x %d pixels", run->params->width,
                        run->params->height);
    enum sdw_status status =
        sdw_vae_decode(run->engine->vae, *pixels, run->latents, 1, run->h, run->w, err);
    if (!status)
        status = check_finite(*pixels, (int64_t)count, "decoded image", err);
    for (size_t i = 0; i < count && !status; i++)
        (*pixels)[i] = fminf(fmaxf((*pixels)[i] / 2 + 0.5f, 0), 1);
    return status;
}

static void run_free(struct run *run)
{
    sdw_unet_context_free(run->context);
    sdw_conditions_free(&run->conditions);
    sdw_sampler_close(run->sampler);
    free(run->latents);
    free(run->input);
    free(run->prediction);
}

enum sdw_status sdw_generate(float **pixels, struct sdw_engine *engine,
                             const struct sdw_params *params,
                             const struct sdw_generate_options *options,
                             const struct sdw_progress *progress, struct sdw_result *result,
                             struct sdw_error *err)
{
    struct run run = {.engine = engine, .params = params, .options = options, .progress = progress};
    double start = sdw_clock_seconds(), encoded = start, denoised = start;
    *pixels = NULL;
    engine->dev->cancel = progress ? progress->cancel : NULL; /* also inside of a step */
    enum sdw_status status = prepare(&run, err);
    if (!status)
        status = condition(&run, err);
    encoded = sdw_clock_seconds();
    if (!status)
        status = denoise(&run, err);
    denoised = sdw_clock_seconds();
    sdw_unet_context_free(run.context); /* the decoder needs its memory */
    run.context = NULL;
    if (!status)
        status = decode(&run, pixels, err);
    engine->dev->cancel = NULL;
    result->text_s = encoded - start;
    result->unet_s = denoised - encoded;
    result->vae_s = sdw_clock_seconds() - denoised;
    result->seed = params->seed;
    result->width = params->width;
    result->height = params->height;
    run_free(&run);
    if (status) {
        free(*pixels);
        *pixels = NULL;
    }
    return status;
}

/* As the web UIs write it, so that their users can read it and drop the picture into them. */
static void describe(char *text, size_t size, const struct sdw_engine *engine,
                     const struct sdw_params *params)
{
    const char *negative = params->negative_prompt;
    snprintf(text, size,
             "%s%s%s\nSteps: %d, Sampler: %s, CFG scale: %g, Seed: %" PRIu64
             ", Size: %dx%d, Model: %s",
             params->prompt, negative && *negative ? "\nNegative prompt: " : "",
             negative ? negative : "", params->steps, params->sampler, params->guidance_scale,
             params->seed, params->width, params->height, engine->model_id);
}

static enum sdw_status encode_png(const float *pixels, const struct sdw_engine *engine,
                                  const struct sdw_params *params, struct sdw_result *result,
                                  struct sdw_error *err)
{
    size_t count = (size_t)params->width * (size_t)params->height * 3,
           room = 2 * SDW_PARAMS_TEXT_MAX + 1024;
    uint8_t *bytes = malloc(count);
    char *text = malloc(room);
    enum sdw_status status = SDW_OK;
    if (bytes && text) {
        for (size_t i = 0; i < count; i++)
            bytes[i] = (uint8_t)lrintf(pixels[i] * 255);
        describe(text, room, engine, params);
        struct sdw_image image = {params->width, params->height, 3, bytes};
        struct sdw_png_text note = {"parameters", text};
        status = sdw_png_encode(&result->png, &image, &note, 1, err);
    } else {
        status = sdw_fail(err, SDW_MEMORY, "no memory to encode %d x %d pixels", params->width,
                          params->height);
    }
    free(bytes);
    free(text);
    return status;
}

static enum sdw_status run_engine(void *context, const struct sdw_params *params,
                                  const struct sdw_progress *progress, struct sdw_result *result,
                                  struct sdw_error *err)
{
    static const struct sdw_generate_options plain = {0};
    float *pixels;
    enum sdw_status status = sdw_generate(&pixels, context, params, &plain, progress, result, err);
    double start = sdw_clock_seconds();
    if (!status)
        status = encode_png(pixels, context, params, result, err);
    result->png_s = sdw_clock_seconds() - start;
    free(pixels);
    return status;
}

struct sdw_runner sdw_engine_runner(struct sdw_engine *engine)
{
    return (struct sdw_runner){engine, run_engine};
}
