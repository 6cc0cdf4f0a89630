/* trace.c: opens every model without weights and runs it once, part by part. */
#include "model/trace.h"

#include "model/clip_text.h"
#include "model/unet.h"
#include "model/vae.h"
#include "tensor/backend.h"
#include "tensor/profile.h"

#include <stdlib.h>

/* Host arrays as large as any call here reads or writes, all zero: latents are transposed on the
 * host even in a trace. Untouched pages of them cost nothing. */
struct hosts {
    float *in, *out;
};

struct tracer {
    struct sdw_device *dev;
    const struct sdw_model_config *config;
    int width, height, batch, tokens;
    struct hosts host;
};

/* Between begin and end, operations and scratch memory are counted. */
static void begin(struct tracer *tracer, struct sdw_profile *profile)
{
    *profile = (struct sdw_profile){0};
    tracer->dev->profile = profile;
    sdw_scratch_reserve(tracer->dev, 0);
}

static void end(struct tracer *tracer, struct sdw_model_cost *cost)
{
    const struct sdw_profile *profile = tracer->dev->profile;
    for (int i = 0; i < profile->count; i++)
        cost->operations += profile->row[i].operations;
    cost->scratch_bytes = tracer->dev->scratch.peak;
    tracer->dev->profile = NULL;
}

static enum sdw_status trace_text(struct tracer *tracer, struct sdw_profile *profile,
                                  struct sdw_model_cost *cost, int i, struct sdw_error *err)
{
    const struct sdw_clip_text_config *config = &tracer->config->text[i];
    struct sdw_clip_text *text = NULL;
    enum sdw_status status = sdw_clip_text_open(&text, tracer->dev, NULL, config, err);
    if (status)
        return status;
    cost->parameters = sdw_clip_text_parameters(text);
    cost->weight_bytes = sdw_clip_text_bytes(text);
    struct sdw_clip_text_layer last = {.skip = 0, .norm = true};
    begin(tracer, profile);
    status =
        sdw_clip_text_encode(text, tracer->host.out, tracer->host.out,
                             (const int32_t *)tracer->host.in, 1, config->positions, last, err);
    end(tracer, cost);
    sdw_clip_text_close(text);
    return status;
}

static enum sdw_status trace_unet(struct tracer *tracer, struct sdw_profile *profile,
                                  struct sdw_model_cost *cost, struct sdw_error *err)
{
    struct sdw_unet *unet = NULL;
    enum sdw_status status = sdw_unet_open(&unet, tracer->dev, NULL, &tracer->config->unet, err);
    if (status)
        return status;
    cost->parameters = sdw_unet_parameters(unet);
    cost->weight_bytes = sdw_unet_bytes(unet);
    const float *in = tracer->host.in;
    struct sdw_unet_conditions conditions = {
        .n = tracer->batch,
        .tokens = tracer->tokens,
        .hidden = in,
        .pooled = in,
        .time_ids = in,
        .guidance_scale = in,
    };
    int factor = tracer->config->vae.factor;
    struct sdw_unet_context *context = NULL;
    begin(tracer, profile);
    status = sdw_unet_context_new(&context, unet, &conditions, err);
    if (!status)
        status = sdw_unet_forward(unet, tracer->host.out, in, in, tracer->height / factor,
                                  tracer->width / factor, context, err);
    sdw_unet_context_free(context);
    end(tracer, cost);
    sdw_unet_close(unet);
    return status;
}

static enum sdw_status trace_vae(struct tracer *tracer, struct sdw_profile *profile,
                                 struct sdw_model_cost *cost, enum sdw_vae_parts part,
                                 struct sdw_error *err)
{
    struct sdw_vae *vae = NULL;
    enum sdw_status status = sdw_vae_open(&vae, tracer->dev, NULL, &tracer->config->vae, part, err);
    if (status)
        return status;
    cost->parameters = sdw_vae_parameters(vae);
    cost->weight_bytes = sdw_vae_bytes(vae);
    int factor = tracer->config->vae.factor;
    int h = tracer->height / factor, w = tracer->width / factor;
    float *out = tracer->host.out;
    begin(tracer, profile);
    if (part == SDW_VAE_DECODER)
        status = sdw_vae_decode(vae, out, tracer->host.in, 1, h, w, err);
    else
        status = sdw_vae_encode(vae, out, out, tracer->host.in, 1, h, w, err);
    end(tracer, cost);
    sdw_vae_close(vae);
    return status;
}

static size_t larger(size_t a, size_t b)
{
    return a > b ? a : b;
}

static enum sdw_status trace_all(struct sdw_model_report *report, struct tracer *tracer,
                                 struct sdw_profile *profile, struct sdw_error *err)
{
    enum sdw_status status = SDW_OK;
    for (int i = 0; i < tracer->config->texts && !status; i++) {
        status = trace_text(tracer, profile, &report->text[i], i, err);
        report->scratch_bytes = larger(report->scratch_bytes, report->text[i].scratch_bytes);
    }
    if (!status)
        status = trace_unet(tracer, profile, &report->unet, err);
    if (!status)
        status = trace_vae(tracer, profile, &report->vae_decode, SDW_VAE_DECODER, err);
    if (!status)
        status = trace_vae(tracer, profile, &report->vae_encode, SDW_VAE_ENCODER, err);
    report->scratch_bytes = larger(report->scratch_bytes, report->unet.scratch_bytes);
    report->scratch_bytes = larger(report->scratch_bytes, report->vae_decode.scratch_bytes);
    report->scratch_bytes = larger(report->scratch_bytes, report->vae_encode.scratch_bytes);
    return status;
}

/* An upper bound of what a call reads or writes on the host, in numbers. */
static size_t host_count(const struct tracer *tracer)
{
    const struct sdw_model_config *config = tracer->config;
    size_t n = (size_t)tracer->batch, factor = (size_t)config->vae.factor;
    size_t pixels = (size_t)tracer->width * (size_t)tracer->height;
    size_t latents = pixels / (factor * factor);
    int widest = config->unet.in_channels > 2 * config->vae.latent_channels
                     ? config->unet.in_channels
                     : 2 * config->vae.latent_channels;
    size_t count = larger(pixels * 3, n * latents * (size_t)widest);
    count = larger(count, n * (size_t)tracer->tokens * (size_t)config->unet.context_width);
    for (int i = 0; i < config->texts; i++)
        count = larger(
            count, (size_t)config->text[i].positions *
                       larger((size_t)config->text[i].width, (size_t)config->text[i].projection));
    return larger(count, n * (size_t)(config->unet.pooled_width + SDW_TIME_IDS_MAX + 1));
}

enum sdw_status sdw_model_trace(struct sdw_model_report *report, struct sdw_device *dev,
                                const struct sdw_model_config *config, int width, int height,
                                int batch, int tokens, struct sdw_error *err)
{
    *report = (struct sdw_model_report){0};
    struct tracer tracer = {dev, config, width, height, batch, tokens, {0}};
    size_t count = host_count(&tracer);
    tracer.host.in = calloc(count, sizeof(float));
    tracer.host.out = calloc(count, sizeof(float));
    struct sdw_profile *profile = malloc(sizeof *profile);
    enum sdw_status status;
    if (tracer.host.in && tracer.host.out && profile)
        status = trace_all(report, &tracer, profile, err);
    else
        status = sdw_fail(err, SDW_MEMORY, "no memory to trace %d x %d", width, height);
    free(profile);
    free(tracer.host.in);
    free(tracer.host.out);
    return status;
}

enum sdw_status sdw_model_trace_decode(int *rows, size_t *scratch_bytes, struct sdw_device *dev,
                                       const struct sdw_model_config *config, int width, int height,
                                       size_t scratch_bytes_max, struct sdw_error *err)
{
    int h = height / config->vae.factor, w = width / config->vae.factor;
    size_t pixels = (size_t)width * (size_t)height * 3;
    size_t latents = (size_t)h * (size_t)w * (size_t)config->vae.latent_channels;
    float *image = calloc(pixels, sizeof *image), *z = calloc(latents, sizeof *z);
    struct sdw_vae *vae = NULL;
    enum sdw_status status = SDW_OK;
    if (!image || !z)
        status = sdw_fail(err, SDW_MEMORY, "no memory to trace %d x %d", width, height);
    if (!status)
        status = sdw_vae_open(&vae, dev, NULL, &config->vae, SDW_VAE_DECODER, err);
    int all = sdw_vae_strip_rows(&config->vae, h);
    for (int next = all; !status; next = next * 3 / 4) {
        if (next < SDW_VAE_STRIP_ROWS_MIN)
            next = SDW_VAE_STRIP_ROWS_MIN;
        *rows = next >= all ? 0 : next;
        sdw_vae_strips_set(vae, *rows);
        sdw_scratch_reserve(dev, 0);
        status = sdw_vae_decode(vae, image, z, 1, h, w, err);
        *scratch_bytes = dev->scratch.peak;
        if (*scratch_bytes <= scratch_bytes_max || next <= SDW_VAE_STRIP_ROWS_MIN)
            break;
    }
    sdw_vae_close(vae);
    free(z);
    free(image);
    return status;
}
