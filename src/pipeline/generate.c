/* generate.c: THE loop: noise, or an input under noise, becomes latents, step by step, and latents
 * become pixels.
 *
 * Everything random is drawn on the host from one generator, in the order in which diffusers draws
 * it. */
#include "pipeline/conditions.h"

#include "base/clock.h"
#include "base/log.h"
#include "pipeline/canvas.h"
#include "pipeline/guidance.h"
#include "pipeline/previews.h"
#include "pipeline/saved.h"
#include "tensor/profile.h"

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
    struct sdw_canvas *canvas;     /* the caller's, which outlives the run */
    struct sdw_previews *previews; /* NULL: nobody wants any */
    int64_t count;                 /* of the latents */
    int64_t input_count;           /* of what the UNet sees of one image */
    float *latents;                /* [channels,h,w] */
    float *input;                  /* [rows,input channels,h,w] */
    float *prediction;             /* [rows,channels,h,w] */
    int next;                      /* evaluation */
    double saved_s;                /* when the state was last saved */
};

static void draw_noise(void *context, float *values, int64_t count)
{
    sdw_noise_fill(context, values, count);
}

/* Sees to it that no part of the run can run out of memory: with the numbers, before it begins. */
static enum sdw_status reserve_scratch(struct run *run, struct sdw_error *err)
{
    struct sdw_device *dev = run->engine->dev;
    const struct sdw_params *params = run->params;
    struct sdw_engine_plan plan;
    size_t left;
    enum sdw_status status = sdw_engine_fit(&plan, &left, run->engine, params, err);
    if (status)
        return status;
    if (plan.strip_rows)
        sdw_log_info("decoding %d x %d in strips of %d rows: %zu MB are free", params->width,
                     params->height, plan.strip_rows, left >> 20);
    sdw_vae_strips_set(run->engine->vae, plan.strip_rows);
    sdw_scratch_reserve(dev, plan.scratch_bytes);
    atomic_store(&run->engine->scratch_held, dev->scratch.capacity);
    return sdw_sync(dev, err);
}

static enum sdw_status open_sampler(struct run *run, struct sdw_error *err)
{
    struct sdw_sampler_options options = {
        .name = run->params->sampler,
        .schedule = run->params->schedule,
        .steps = run->params->steps,
        .strength = sdw_params_operation(run->params) == SDW_GENERATION ? 1 : run->params->strength,
        .eta = run->params->eta,
        .count = run->count};
    const struct sdw_schedule_config *schedule = run->options->schedule;
    return sdw_sampler_open(&run->sampler, &options, schedule ? schedule : &run->engine->schedule,
                            err);
}

static enum sdw_status prepare(struct run *run, struct sdw_error *err)
{
    const struct sdw_canvas *canvas = run->canvas;
    enum sdw_status status = sdw_canvas_open(run->canvas, run->engine, run->params, err);
    if (status)
        return status;
    run->count = canvas->count;
    run->input_count = (int64_t)run->engine->config.unet.in_channels * canvas->h * canvas->w;
    run->latents = malloc((size_t)run->count * sizeof(float));
    run->input = malloc(2 * (size_t)run->input_count * sizeof(float));
    run->prediction = malloc(2 * (size_t)run->count * sizeof(float));
    if (!run->latents || !run->input || !run->prediction)
        return sdw_fail(err, SDW_MEMORY, "no memory for latents of %" PRId64 " numbers",
                        run->count);
    bool previews = run->progress && run->progress->preview && run->params->preview;
    if (previews)
        status = sdw_preview_fit(run->engine, err);
    if (!status && previews)
        status = sdw_previews_open(&run->previews, &run->engine->preview, run->progress,
                                   canvas->channels, canvas->h, canvas->w, err);
    struct sdw_vae *encoder;
    if (!status && sdw_engine_encodes(run->engine, run->params))
        status = sdw_engine_encoder(&encoder, run->engine, err); /* before memory is counted */
    if (!status)
        status = reserve_scratch(run, err);
    return status ? status : open_sampler(run, err);
}

/* After all that runs before the UNet: what it makes of the text stays in scratch memory. */
static enum sdw_status open_context(struct run *run, struct sdw_error *err)
{
    struct sdw_conditions *c = &run->conditions;
    struct sdw_unet_conditions conditions = {.n = c->rows,
                                             .tokens = c->tokens,
                                             .hidden = c->hidden,
                                             .pooled = c->pooled,
                                             .time_ids = c->time_ids,
                                             .guidance_scale = c->guidance};
    return sdw_unet_context_new(&run->context, run->engine->unet, &conditions, err);
}

/* What became of the prompts. */
static enum sdw_status report(const struct run *run, struct sdw_result *result,
                              struct sdw_error *err)
{
    struct sdw_text text;
    sdw_text_init(&text, SDW_WORDING_REPORT_BYTES_MAX);
    enum sdw_status status = sdw_wording_report(&text, &run->conditions.wording, run->params, err);
    free(result->report);
    result->report = text.data;
    return status;
}

/* The guided prediction for evaluation i ends up in run->prediction. */
static enum sdw_status predict(struct run *run, int i, struct sdw_error *err)
{
    float timestep = sdw_sampler_timestep(run->sampler, i), timesteps[2] = {timestep, timestep};
    sdw_sampler_scale_input(run->sampler, i, run->input, run->latents);
    if (run->canvas->extra)
        memcpy(run->input + run->count, run->canvas->extra,
               (size_t)(run->input_count - run->count) * sizeof(float));
    if (run->conditions.rows == 2)
        memcpy(run->input + run->input_count, run->input, (size_t)run->input_count * sizeof(float));
    enum sdw_status status =
        sdw_unet_forward(run->engine->unet, run->prediction, run->input, timesteps, run->canvas->h,
                         run->canvas->w, run->context, err);
    if (!status && run->conditions.rows == 2)
        sdw_guidance_apply(run->prediction, run->prediction, run->prediction + run->count,
                           run->count, run->params->guidance_scale, run->params->guidance_rescale);
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

/* Everything before the first step, or before the step after the one that was saved. */
static enum sdw_status begin(struct run *run, struct sdw_error *err)
{
    const struct sdw_progress *progress = run->progress;
    enum sdw_noise_kind kind = SDW_NOISE_TORCH_CPU;
    if (run->params->rng)
        sdw_noise_kind_find(&kind, run->params->rng);
    sdw_noise_seed(&run->noise, kind, run->params->seed);
    enum sdw_status status = sdw_canvas_begin(run->canvas, run->latents, run->engine, run->params,
                                              run->sampler, &run->noise, err);
    run->saved_s = sdw_clock_seconds();
    if (status || !progress || !progress->resume)
        return status;
    struct sdw_error why;
    if (sdw_saved_read(progress->resume, progress->resume_length, run->params, &run->next,
                       run->latents, run->count, run->sampler, &run->noise, &why))
        sdw_log_warn("begins anew: %s", why.message);
    return SDW_OK;
}

/* What cannot be saved is no reason to end: the run would only begin anew. */
static void save(struct run *run, int next)
{
    const struct sdw_progress *progress = run->progress;
    if (!progress->save || sdw_clock_seconds() - run->saved_s < progress->save_every_s)
        return;
    struct sdw_error err;
    struct sdw_text bytes;
    sdw_text_init(&bytes, SDW_SAVED_BYTES_MAX);
    if (sdw_saved_write(&bytes, run->params, next, run->latents, run->count, run->sampler,
                        &run->noise, &err) == SDW_OK)
        progress->save(progress->context, bytes.data, bytes.length);
    else
        sdw_log_warn("not saved: %s", err.message);
    sdw_text_free(&bytes);
    run->saved_s = sdw_clock_seconds();
}

static void preview(struct run *run, int i)
{
    const float *latents = run->latents;
    if (i + 1 < sdw_sampler_evals(run->sampler)) { /* some samplers keep latents at another scale */
        sdw_sampler_scale_input(run->sampler, i + 1, run->prediction, run->latents);
        latents = run->prediction;
    }
    sdw_previews_draw(run->previews, latents, sdw_sampler_step_of(run->sampler, i),
                      sdw_sampler_steps(run->sampler));
}

static void tell_step(struct run *run, int i)
{
    const struct sdw_progress *progress = run->progress;
    if (!progress || !sdw_sampler_ends_step(run->sampler, i))
        return;
    sdw_previews_wait(run->previews);
    if (progress->step)
        progress->step(progress->context, sdw_sampler_step_of(run->sampler, i),
                       sdw_sampler_steps(run->sampler));
    if (run->previews)
        preview(run, i);
    save(run, i + 1);
}

static enum sdw_status denoise(struct run *run, struct sdw_error *err)
{
    const struct sdw_sampler_draw draw = {draw_noise, &run->noise};
    int evals = sdw_sampler_evals(run->sampler);
    enum sdw_status status = open_context(run, err);
    for (int i = run->next; i < evals && !status; i++) {
        if (cancelled(run->progress))
            return sdw_fail(err, SDW_CANCELLED, "cancelled before evaluation %d of %d", i + 1,
                            evals);
        status = predict(run, i, err);
        if (status)
            return status;
        sdw_sampler_step(run->sampler, i, run->latents, run->prediction, &draw);
        sdw_canvas_blend(run->canvas, run->latents, run->prediction, run->sampler, i);
        if (run->options->latents)
            run->options->latents(run->options->latents_context, i, run->latents, run->count);
        tell_step(run, i);
    }
    if (status)
        return status;
    sdw_canvas_end(run->canvas, run->latents);
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
    enum sdw_status status = sdw_vae_decode(run->engine->vae, *pixels, run->latents, 1,
                                            run->canvas->h, run->canvas->w, err);
    if (!status)
        status = check_finite(*pixels, (int64_t)count, "decoded image", err);
    for (size_t i = 0; i < count && !status; i++)
        (*pixels)[i] = fminf(fmaxf((*pixels)[i] / 2 + 0.5f, 0), 1);
    return status;
}

/* Without a step there is nothing to decode: the input comes back, pixel for pixel. */
static enum sdw_status give_back(struct run *run, float **pixels, struct sdw_error *err)
{
    size_t count = sdw_image_bytes(&run->canvas->image);
    *pixels = malloc(count * sizeof **pixels);
    if (!*pixels)
        return sdw_fail(err, SDW_MEMORY, "no memory for %d x %d pixels", run->params->width,
                        run->params->height);
    for (size_t i = 0; i < count; i++)
        (*pixels)[i] = (float)run->canvas->image.pixels[i] / 255;
    return SDW_OK;
}

static void run_free(struct run *run)
{
    sdw_previews_close(run->previews);
    sdw_unet_context_free(run->context);
    sdw_conditions_free(&run->conditions);
    sdw_sampler_close(run->sampler);
    free(run->latents);
    free(run->input);
    free(run->prediction);
}

static enum sdw_status run_all(struct run *run, float **pixels, struct sdw_result *result,
                               struct sdw_error *err)
{
    struct sdw_profile *profile = run->engine->dev->profile;
    double start = sdw_clock_seconds();
    sdw_profile_enter(profile, SDW_STAGE_TEXT);
    enum sdw_status status = prepare(run, err);
    if (status)
        return status;
    if (sdw_sampler_evals(run->sampler) == 0)
        return give_back(run, pixels, err);
    status = sdw_conditions_make(&run->conditions, run->engine, run->params, run->options, err);
    if (!status && !run->options->embeds)
        status = report(run, result, err);
    double encoded = sdw_clock_seconds();
    sdw_profile_enter(profile, SDW_STAGE_UNET);
    if (!status)
        status = begin(run, err);
    if (!status)
        status = denoise(run, err);
    double denoised = sdw_clock_seconds();
    sdw_profile_enter(profile, SDW_STAGE_VAE);
    sdw_unet_context_free(run->context); /* the decoder needs its memory */
    run->context = NULL;
    if (!status)
        status = decode(run, pixels, err);
    result->evaluations = sdw_sampler_evals(run->sampler);
    result->text_s = encoded - start;
    result->unet_s = denoised - encoded;
    result->vae_s = sdw_clock_seconds() - denoised;
    return status;
}

enum sdw_status sdw_generate(float **pixels, struct sdw_canvas *canvas, struct sdw_engine *engine,
                             const struct sdw_params *params,
                             const struct sdw_generate_options *options,
                             const struct sdw_progress *progress, struct sdw_result *result,
                             struct sdw_error *err)
{
    struct run run = {.engine = engine,
                      .params = params,
                      .options = options,
                      .progress = progress,
                      .canvas = canvas};
    *pixels = NULL;
    engine->dev->cancel = progress ? progress->cancel : NULL; /* also inside of a step */
    enum sdw_status status = run_all(&run, pixels, result, err);
    engine->dev->cancel = NULL;
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
