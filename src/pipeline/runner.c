/* runner.c: one request from parameters to PNG: generates, pastes back what was to be kept, and
 * writes into the file how it was made. */
#include "pipeline/canvas.h"

#include "base/clock.h"
#include "base/json.h"
#include "image/png.h"

#include <inttypes.h>
#include <math.h>
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

static enum sdw_status encode_png(struct sdw_result *result, const struct sdw_image *image,
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
        status = sdw_png_encode(&result->png, image, notes, 2, err);
    }
    sdw_text_free(&parameters);
    sdw_text_free(&own);
    return status;
}

static enum sdw_status finish(struct sdw_result *result, const float *pixels,
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
        status = encode_png(result, &image, engine, params, err);
    sdw_image_free(&image);
    return status;
}

static enum sdw_status run_engine(void *context, const struct sdw_params *params,
                                  const struct sdw_progress *progress, struct sdw_result *result,
                                  struct sdw_error *err)
{
    static const struct sdw_generate_options plain = {0};
    struct sdw_canvas canvas = {0};
    float *pixels;
    enum sdw_status status =
        sdw_generate(&pixels, &canvas, context, params, &plain, progress, result, err);
    double start = sdw_clock_seconds();
    if (!status)
        status = finish(result, pixels, &canvas, context, params, err);
    result->png_s = sdw_clock_seconds() - start;
    sdw_canvas_free(&canvas);
    free(pixels);
    return status;
}

struct sdw_runner sdw_engine_runner(struct sdw_engine *engine)
{
    return (struct sdw_runner){engine, run_engine};
}
