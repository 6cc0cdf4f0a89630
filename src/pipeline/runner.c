/* runner.c: one request from parameters to PNG files: generates, pastes back what was to be kept,
 * and writes into each file how it was made. */
#include "pipeline/canvas.h"

#include "base/clock.h"
#include "base/json.h"
#include "base/log.h"
#include "image/png.h"
#include "pipeline/saved.h"

#include <inttypes.h>
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NOTE_BYTES_MAX                                                                             \
    (16u * SDW_PARAMS_TEXT_MAX) /* of a text in the PNG; a byte may take six as JSON */

/* As the web UIs write it, so that their users can read it and drop the picture into them. */
static enum sdw_status describe(struct sdw_text *text, const struct sdw_engine *engine,
                                const struct sdw_params *params, struct sdw_error *err)
{
    const struct sdw_sampler_info *sampler = sdw_samplers_find(params->sampler);
    const char *negative = params->negative_prompt;
    enum sdw_status status = sdw_text_printf(text, err, "%s", params->prompt);
    if (!status && negative && *negative)
        status = sdw_text_printf(text, err, "\nNegative prompt: %s", negative);
    if (!status)
        status = sdw_text_printf(text, err, "\nSteps: %d, Sampler: %s", params->steps,
                                 sampler ? sampler->title : params->sampler);
    if (!status && params->schedule)
        status = sdw_text_printf(text, err, ", Schedule type: %s", params->schedule);
    if (!status)
        status = sdw_text_printf(
            text, err, ", CFG scale: %g, Seed: %" PRIu64 ", Size: %dx%d, Model: %s",
            params->guidance_scale, params->seed, params->width, params->height, engine->model_id);
    if (!status && params->init_image.bytes)
        status = sdw_text_printf(text, err, ", Denoising strength: %g", params->strength);
    if (!status && params->mask_image.bytes)
        status = sdw_text_printf(text, err, ", Mask blur: %d", params->mask_blur);
    if (!status && params->clip_skip) /* theirs counts the last layer */
        status = sdw_text_printf(text, err, ", Clip skip: %d", params->clip_skip + 1);
    if (!status && params->guidance_rescale > 0)
        status = sdw_text_printf(text, err, ", CFG Rescale phi: %g", params->guidance_rescale);
    if (!status)
        status = sdw_text_printf(text, err, ", RNG: %s, Version: sd-worker %s",
                                 params->rng && strcmp(params->rng, "philox") == 0 ? "GPU" : "CPU",
                                 SDW_VERSION);
    return status;
}

/* Our own: the whole request, and what else the picture depends on. */
static enum sdw_status record(struct sdw_text *text, const struct sdw_engine *engine,
                              const struct sdw_params *params, struct sdw_error *err)
{
    struct sdw_text request;
    struct sdw_json json;
    sdw_text_init(&request, NOTE_BYTES_MAX);
    enum sdw_status status = sdw_params_write(&request, params, true, err);
    if (!status) {
        sdw_json_init(&json, text);
        sdw_json_open(&json, NULL, '{');
        sdw_json_string(&json, "version", SDW_VERSION);
        sdw_json_string(&json, "model", engine->model_id);
        sdw_json_string(&json, "device", engine->dev->id);
        sdw_json_string(&json, "dtype", sdw_dtype_name(engine->dev->compute));
        sdw_json_raw(&json, "request", request.data);
        sdw_json_close(&json, '}');
        if (json.status)
            status = sdw_fail(err, json.status, "the request does not fit into the PNG");
    }
    sdw_text_free(&request);
    return status;
}

static enum sdw_status encode_png(struct sdw_text *png, const struct sdw_image *image,
                                  const struct sdw_engine *engine, const struct sdw_params *params,
                                  struct sdw_error *err)
{
    struct sdw_text parameters, own;
    sdw_text_init(&parameters, NOTE_BYTES_MAX);
    sdw_text_init(&own, 2 * NOTE_BYTES_MAX);
    enum sdw_status status = describe(&parameters, engine, params, err);
    if (!status)
        status = record(&own, engine, params, err);
    if (!status) {
        struct sdw_png_text notes[] = {{SDW_PNG_KEY_PARAMETERS, parameters.data},
                                       {SDW_PNG_KEY_WORKER, own.data}};
        status = sdw_png_encode(png, image, notes, 2, err);
    }
    sdw_text_free(&parameters);
    sdw_text_free(&own);
    return status;
}

static enum sdw_status finish(struct sdw_text *png, const float *pixels,
                              const struct sdw_canvas *canvas, const struct sdw_engine *engine,
                              const struct sdw_params *params, struct sdw_error *err)
{
    struct sdw_image image;
    enum sdw_status status = sdw_image_new(&image, params->width, params->height, 3, err);
    if (status)
        return status;
    for (size_t i = 0; i < sdw_image_bytes(&image); i++)
        image.pixels[i] = (uint8_t)lrintf(pixels[i] * 255);
    if (canvas->mask.pixels && params->paste_back)
        status = sdw_canvas_paste(canvas, &image, params->mask_blur, err);
    if (!status)
        status = encode_png(png, &image, engine, params, err);
    sdw_image_free(&image);
    return status;
}

/* ---- the images of one job ---- */

/* Where a job of several images is; a saved state is this header, the finished files, and the state
 * of the image that is being made. */
struct place {
    uint64_t image;     /* from 0 */
    uint64_t png_bytes; /* of the images before it */
};

/* A finished image that is encoded beside the next one, on a thread of its own. */
struct encoding {
    bool running;
    pthread_t thread;
    const struct sdw_engine *engine;
    struct sdw_params params; /* borrows what it points to */
    struct sdw_canvas canvas; /* this and the next two are owned */
    float *pixels;
    struct sdw_text png;
    double seconds;
    enum sdw_status status;
    struct sdw_error err;
};

struct batch {
    const struct sdw_params *params;
    const struct sdw_progress *progress; /* of the job */
    struct sdw_result *result;
    struct place place;
    struct encoding encoding; /* of the image before */
};

static void *encode(void *context)
{
    struct encoding *e = context;
    double start = sdw_clock_seconds();
    e->status = finish(&e->png, e->pixels, &e->canvas, e->engine, &e->params, &e->err);
    e->seconds = sdw_clock_seconds() - start;
    return NULL;
}

/* Takes pixels and canvas; false, with nothing taken, where there is no thread for it. */
static bool encode_beside(struct batch *batch, const struct sdw_engine *engine,
                          const struct sdw_params *params, struct sdw_canvas *canvas,
                          float **pixels)
{
    struct encoding *e = &batch->encoding;
    *e = (struct encoding){
        .engine = engine, .params = *params, .canvas = *canvas, .pixels = *pixels};
    sdw_text_init(&e->png, SDW_PNG_BYTES_MAX);
    e->running = pthread_create(&e->thread, NULL, encode, e) == 0;
    if (e->running) {
        *canvas = (struct sdw_canvas){0};
        *pixels = NULL;
    }
    return e->running;
}

/* Waits for the image before and appends its file. What went wrong is told to everybody who asks:
 * the first may be who saves, and can only log it. */
static enum sdw_status encoded(struct batch *batch, struct sdw_error *err)
{
    struct encoding *e = &batch->encoding;
    if (e->running) {
        pthread_join(e->thread, NULL);
        e->running = false;
        if (!e->status)
            e->status = sdw_text_append(&batch->result->png, e->png.data, e->png.length, &e->err);
        batch->result->png_s += e->seconds;
        batch->place.png_bytes = batch->result->png.length;
        sdw_canvas_free(&e->canvas);
        free(e->pixels);
        sdw_text_free(&e->png);
    }
    return e->status ? sdw_fail(err, e->status, "%s", e->err.message) : SDW_OK;
}

static void tell_step(void *context, int step, int total)
{
    const struct batch *batch = context;
    batch->progress->step(batch->progress->context, (int)batch->place.image * total + step,
                          batch->params->n * total);
}

static void tell_preview(void *context, int step, int total, const struct sdw_text *png)
{
    const struct batch *batch = context;
    batch->progress->preview(batch->progress->context, (int)batch->place.image * total + step,
                             batch->params->n * total, png);
}

static void save(void *context, const void *bytes, size_t length)
{
    struct batch *batch = context;
    struct sdw_text state;
    struct sdw_error err;
    sdw_text_init(&state, SDW_SAVED_BYTES_MAX);
    if (encoded(batch, &err) || sdw_text_append(&state, &batch->place, sizeof batch->place, &err) ||
        sdw_text_append(&state, batch->result->png.data, batch->place.png_bytes, &err) ||
        sdw_text_append(&state, bytes, length, &err))
        sdw_log_warn("not saved: %s", err.message);
    else
        batch->progress->save(batch->progress->context, state.data, state.length);
    sdw_text_free(&state);
}

/* Takes the finished images out of a saved state, and leaves the rest of it to the run. */
static void resume(struct batch *batch, struct sdw_progress *progress)
{
    const char *bytes = progress->resume;
    size_t length = progress->resume_length;
    struct place place = {0};
    if (!bytes)
        return;
    if (length >= sizeof place)
        memcpy(&place, bytes, sizeof place);
    bool fits =
        length >= sizeof place && place.image < (uint64_t)batch->params->n &&
        place.png_bytes <= length - sizeof place &&
        sdw_text_append(&batch->result->png, bytes + sizeof place, place.png_bytes, NULL) == SDW_OK;
    progress->resume = fits ? bytes + sizeof place + place.png_bytes : "";
    progress->resume_length = fits ? length - sizeof place - place.png_bytes : 0;
    if (fits)
        batch->place = place;
}

static enum sdw_status run_image(struct sdw_engine *engine, struct batch *batch,
                                 const struct sdw_progress *progress, struct sdw_error *err)
{
    static const struct sdw_generate_options plain = {0};
    struct sdw_params params = *batch->params; /* borrows what it points to */
    struct sdw_canvas canvas = {0};
    struct sdw_result *result = batch->result, one = {0};
    float *pixels;
    params.seed += batch->place.image;
    params.n = 1;
    enum sdw_status status =
        sdw_generate(&pixels, &canvas, engine, &params, &plain, progress, &one, err);
    bool last = batch->place.image + 1 == (uint64_t)batch->params->n;
    bool beside = engine->dev->ops->beside;
    if (!status && last && batch->progress->computed && beside)
        batch->progress->computed(batch->progress->context);
    if (!status)
        status = encoded(batch, err);
    bool taken =
        !status && !last && beside && encode_beside(batch, engine, &params, &canvas, &pixels);
    if (!status && !taken) {
        double start = sdw_clock_seconds();
        status = finish(&result->png, pixels, &canvas, engine, &params, err);
        result->png_s += sdw_clock_seconds() - start;
    }
    result->text_s += one.text_s;
    result->unet_s += one.unet_s;
    result->evaluations += one.evaluations;
    result->vae_s += one.vae_s;
    free(result->report); /* the same for every image */
    result->report = one.report;
    result->width = one.width;
    result->height = one.height;
    sdw_canvas_free(&canvas);
    free(pixels);
    return status;
}

static enum sdw_status run_engine(void *context, const struct sdw_params *params,
                                  const struct sdw_progress *progress, struct sdw_result *result,
                                  struct sdw_error *err)
{
    static const struct sdw_progress nobody = {0};
    struct batch batch = {
        .params = params, .progress = progress ? progress : &nobody, .result = result};
    struct sdw_progress one = *batch.progress;
    one.context = &batch;
    one.step = one.step ? tell_step : NULL;
    one.preview = one.preview ? tell_preview : NULL;
    one.save = one.save ? save : NULL;
    result->seed = params->seed;
    resume(&batch, &one);
    enum sdw_status status = SDW_OK;
    while (batch.place.image < (uint64_t)params->n && !status) {
        status = run_image(context, &batch, &one, err);
        batch.place.image++;
        batch.place.png_bytes = result->png.length;
        one.resume = NULL;
    }
    struct sdw_error unheard; /* a run that failed waits, and has its sentence already */
    enum sdw_status last = encoded(&batch, status ? &unheard : err);
    return status ? status : last;
}

struct sdw_runner sdw_engine_runner(struct sdw_engine *engine)
{
    return (struct sdw_runner){engine, run_engine};
}
