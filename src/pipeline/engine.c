/* engine.c: opens everything a model has, and closes it. */
#include "pipeline/engine.h"

#include "backend/registry.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/text.h"
#include "model/trace.h"
#include "pipeline/engine_internal.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define HINTS_BYTES_MAX (1u << 16) /* of special_tokens_map.json and sdw.json */

/* A small JSON file of the model, or NULL when there is none that can be read. */
static json_t *read_hints(const struct sdw_model_source *source, const char *name)
{
    struct sdw_text text;
    sdw_text_init(&text, HINTS_BYTES_MAX);
    json_t *root = NULL;
    if (sdw_model_source_text(&text, source, name, NULL) == SDW_OK)
        root = json_loadb(text.data, text.length, 0, NULL);
    sdw_text_free(&text);
    return root;
}

/* The token that fills a prompt up: pad_token of special_tokens_map.json, a word or an object with
 * its content. */
static int32_t pad_token(const struct sdw_engine *engine, int i)
{
    char name[128];
    snprintf(name, sizeof name, "%s/special_tokens_map.json", engine->config.tokenizer[i]);
    json_t *map = read_hints(engine->source, name);
    const json_t *pad = json_object_get(map, "pad_token");
    const char *token =
        json_string_value(json_is_object(pad) ? json_object_get(pad, "content") : pad);
    int32_t id = token ? sdw_tokenizer_id(engine->tokenizer[i], token) : -1;
    json_decref(map);
    return id >= 0 ? id : sdw_tokenizer_end(engine->tokenizer[i]);
}

static enum sdw_status open_tokenizer(struct sdw_engine *engine, int i, const char *folder,
                                      struct sdw_error *err)
{
    const struct sdw_model_config *config = &engine->config;
    char own[SDW_MODEL_PATH_MAX];
    if (!folder && sdw_model_source_is_file(engine->source))
        return sdw_fail(err, SDW_NOT_FOUND,
                        "%s is one file, which brings no vocabulary: --tokenizer DIR names a "
                        "folder with vocab.json and merges.txt",
                        config->path);
    sdw_model_source_name(own, engine->source, config->tokenizer[i]);
    folder = folder ? folder : own;
    enum sdw_status status = sdw_tokenizer_open(&engine->tokenizer[i], folder, err);
    if (status)
        return status;
    engine->pad[i] = pad_token(engine, i);
    if (sdw_tokenizer_size(engine->tokenizer[i]) > config->text[i].vocabulary)
        return sdw_fail(err, SDW_MODEL, "%s has ids up to %d, the text encoder only %d tokens",
                        folder, sdw_tokenizer_size(engine->tokenizer[i]) - 1,
                        config->text[i].vocabulary);
    return SDW_OK;
}

static enum sdw_status open_text(struct sdw_engine *engine, int i, struct sdw_error *err)
{
    struct sdw_weights *weights = NULL;
    enum sdw_status status =
        sdw_model_source_weights(&weights, engine->source, engine->config.text_component[i], err);
    if (!status)
        status = sdw_clip_text_open(&engine->text[i], engine->dev, weights, &engine->config.text[i],
                                    err);
    sdw_weights_close(weights);
    return status;
}

static enum sdw_status open_unet(struct sdw_engine *engine, struct sdw_error *err)
{
    struct sdw_weights *weights = NULL;
    enum sdw_status status = sdw_model_source_weights(&weights, engine->source, "unet", err);
    if (!status)
        status = sdw_unet_open(&engine->unet, engine->dev, weights, &engine->config.unet, err);
    sdw_weights_close(weights);
    return status;
}

static enum sdw_status open_vae(struct sdw_vae **vae, struct sdw_engine *engine,
                                enum sdw_vae_parts parts, struct sdw_error *err)
{
    struct sdw_weights *weights = NULL;
    enum sdw_status status = sdw_model_source_weights(&weights, engine->source, "vae", err);
    if (!status)
        status = sdw_vae_open(vae, engine->dev, weights, &engine->config.vae, parts, err);
    sdw_weights_close(weights);
    return status;
}

enum sdw_status sdw_engine_encoder(struct sdw_vae **encoder, struct sdw_engine *engine,
                                   struct sdw_error *err)
{
    enum sdw_status status = SDW_OK;
    if (!engine->encoder)
        status = open_vae(&engine->encoder, engine, SDW_VAE_ENCODER, err);
    *encoder = engine->encoder;
    return status;
}

bool sdw_engine_encodes(const struct sdw_engine *engine, const struct sdw_params *params)
{
    const struct sdw_model_config *config = &engine->config;
    return params->init_image.bytes || config->unet.in_channels != config->vae.latent_channels;
}

void sdw_engine_encoder_close(struct sdw_engine *engine)
{
    sdw_vae_close(engine->encoder);
    engine->encoder = NULL;
}

static bool sampler_known(const char *name)
{
    return sdw_samplers_find(name) != NULL;
}

static bool schedule_known(const char *name)
{
    for (const char *const *known = sdw_schedule_names; *known; known++)
        if (strcmp(*known, name) == 0)
            return true;
    return false;
}

static enum sdw_status fits(void *context, const struct sdw_params *params, struct sdw_error *err)
{
    struct sdw_engine_plan plan;
    size_t left;
    return sdw_engine_fit(&plan, &left, context, params, err);
}

/* The model's own defaults: sdw.json in its folder, then what the caller knows, then what everybody
 * uses. */
static void set_defaults(struct sdw_engine *engine, const struct sdw_engine_options *options)
{
    struct sdw_params_defaults *defaults = &engine->defaults;
    const struct sdw_sampler_info *own = sdw_samplers_of_config(&engine->schedule);
    snprintf(engine->sampler, sizeof engine->sampler, "%s", own ? own->name : "euler");
    defaults->steps = options->steps > 0 ? options->steps : 20;
    defaults->guidance_scale = options->guidance_scale >= 0 ? options->guidance_scale : 7.5;
    defaults->width = engine->config.width;
    defaults->height = engine->config.height;
    defaults->multiple = engine->config.vae.factor > 8 ? engine->config.vae.factor : 8;
    defaults->fits = fits;
    defaults->context = engine;
    defaults->sampler_known = sampler_known;
    defaults->schedule_known = schedule_known;

    json_t *hints = read_hints(engine->source, "sdw.json");
    const json_t *steps = json_object_get(hints, "steps"),
                 *guidance = json_object_get(hints, "guidance_scale");
    const char *sampler = json_string_value(json_object_get(hints, "sampler"));
    if (json_is_integer(steps) && json_integer_value(steps) >= 1 &&
        json_integer_value(steps) <= SDW_PARAMS_STEPS_MAX)
        defaults->steps = (int)json_integer_value(steps);
    if (json_is_number(guidance) && json_number_value(guidance) >= 0 &&
        json_number_value(guidance) <= 30)
        defaults->guidance_scale = json_number_value(guidance);
    if (sampler && sampler_known(sampler))
        snprintf(engine->sampler, sizeof engine->sampler, "%s", sampler);
    json_decref(hints);
    defaults->sampler = engine->sampler;
}

static enum sdw_status read_schedule(struct sdw_engine *engine, struct sdw_error *err)
{
    static const char name[] = "scheduler/scheduler_config.json";
    struct sdw_text text;
    char path[SDW_MODEL_PATH_MAX];
    sdw_text_init(&text, SDW_SCHEDULE_CONFIG_BYTES_MAX);
    sdw_schedule_config_init(&engine->schedule);
    sdw_model_source_name(path, engine->source, name);
    enum sdw_status status = sdw_model_source_text(&text, engine->source, name, err);
    if (!status)
        status = sdw_schedule_config_parse(&engine->schedule, text.data, text.length, path, err);
    sdw_text_free(&text);
    return status;
}

/* Refuses a model that would not fit, before anything of it is read: with the numbers, instead of
 * the system's killer. */
static enum sdw_status check_memory(const struct sdw_engine *engine, const char *model_id,
                                    struct sdw_error *err)
{
    const struct sdw_model_config *config = &engine->config;
    struct sdw_model_report report;
    enum sdw_status status = sdw_model_trace(&report, engine->tracer, config, config->width,
                                             config->height, 2, config->text[0].positions, err);
    if (status)
        return status;
    size_t needed = report.unet.weight_bytes + report.vae_decode.weight_bytes +
                    report.vae_encode.weight_bytes + report.scratch_bytes;
    for (int i = 0; i < config->texts; i++)
        needed += report.text[i].weight_bytes;
    size_t left = engine->dev->ops->memory_free(engine->dev);
    if (needed > left)
        return sdw_fail(
            err, SDW_MEMORY,
            "model %s needs about %zu MB at %d x %d in %s, %zu MB are free on %s: end other programs, or "
            "choose a smaller model%s",
            model_id, needed >> 20, config->width, config->height,
            sdw_dtype_name(engine->dev->compute), left >> 20, engine->dev->id,
            engine->dev->compute == SDW_F32 ? " or a 16-bit --dtype" : "");
    return SDW_OK;
}

static enum sdw_status open_parts(struct sdw_engine *engine,
                                  const struct sdw_engine_options *options, struct sdw_error *err)
{
    enum sdw_status status = sdw_model_source_open(&engine->source, &options->source, err);
    if (!status)
        status = sdw_model_config_from(&engine->config, engine->source, err);
    if (!status)
        status = read_schedule(engine, err);
    if (status)
        return status;
    struct sdw_device_options traced = {.dtype = engine->dev->compute};
    status = sdw_device_open(&engine->tracer, "trace", &traced, err);
    if (!status) {
        engine->tracer->stream = engine->dev->stream;
        status = check_memory(engine, options->model_id, err);
    }
    for (int i = 0; i < engine->config.texts && !status && !options->embeds_only; i++) {
        status = open_tokenizer(engine, i, options->tokenizer, err);
        if (!status)
            status = open_text(engine, i, err);
    }
    if (!status)
        status = open_unet(engine, err);
    if (!status)
        status = open_vae(&engine->vae, engine, SDW_VAE_DECODER, err);
    if (!status)
        set_defaults(engine, options);
    return status;
}

enum sdw_status sdw_engine_open(struct sdw_engine **engine, struct sdw_device *dev,
                                const struct sdw_engine_options *options, struct sdw_error *err)
{
    double start = sdw_clock_seconds();
    struct sdw_engine *opened = calloc(1, sizeof *opened);
    *engine = NULL;
    if (!opened)
        return sdw_fail(err, SDW_MEMORY, "no memory for an engine");
    opened->dev = dev;
    pthread_mutex_init(&opened->tracing, NULL);
    snprintf(opened->model_id, sizeof opened->model_id, "%s", options->model_id);
    enum sdw_status status = open_parts(opened, options, err);
    if (status) {
        sdw_engine_close(opened);
        return status;
    }
    sdw_log_info("model %s loaded in %.2f s: %.0f MB of weights in %s on %s", opened->model_id,
                 sdw_clock_seconds() - start, (double)sdw_engine_weight_bytes(opened) * 1e-6,
                 sdw_dtype_name(dev->compute), dev->id);
    *engine = opened;
    return SDW_OK;
}

void sdw_engine_close(struct sdw_engine *engine)
{
    if (!engine)
        return;
    for (int i = 0; i < SDW_TEXTS_MAX; i++) {
        sdw_clip_text_close(engine->text[i]);
        sdw_tokenizer_close(engine->tokenizer[i]);
    }
    sdw_text_cache_free(&engine->text_cache);
    sdw_unet_close(engine->unet);
    sdw_vae_close(engine->vae);
    sdw_vae_close(engine->encoder);
    sdw_model_source_close(engine->source);
    sdw_device_close(engine->tracer);
    pthread_mutex_destroy(&engine->tracing);
    free(engine);
}

const struct sdw_params_defaults *sdw_engine_defaults(const struct sdw_engine *engine)
{
    return &engine->defaults;
}

const struct sdw_model_config *sdw_engine_config(const struct sdw_engine *engine)
{
    return &engine->config;
}

size_t sdw_engine_weight_bytes(const struct sdw_engine *engine)
{
    size_t bytes = sdw_unet_bytes(engine->unet) + sdw_vae_bytes(engine->vae);
    bytes += engine->encoder ? sdw_vae_bytes(engine->encoder) : 0;
    for (int i = 0; i < SDW_TEXTS_MAX; i++)
        bytes += engine->text[i] ? sdw_clip_text_bytes(engine->text[i]) : 0;
    return bytes;
}
