/* canvas.c: see canvas.h. */
#include "pipeline/canvas.h"

#include "image/decode.h"
#include "image/mask.h"
#include "image/resize.h"

#include <stdlib.h>
#include <string.h>

void sdw_canvas_free(struct sdw_canvas *canvas)
{
    sdw_image_free(&canvas->image);
    sdw_image_free(&canvas->mask);
    free(canvas->latents);
    free(canvas->noise);
    free(canvas->keep);
    free(canvas->extra);
    *canvas = (struct sdw_canvas){0};
}

/* ---- opening ---- */

/* Decoded, and of the job's size. */
static enum sdw_status read_image(struct sdw_image *image, const struct sdw_params_image *file,
                                  int channels, const struct sdw_params *params,
                                  struct sdw_error *err)
{
    struct sdw_image decoded;
    enum sdw_status status = sdw_image_decode(&decoded, file->bytes, file->length, channels, err);
    if (status)
        return status;
    if (decoded.width == params->width && decoded.height == params->height) {
        *image = decoded;
        return SDW_OK;
    }
    status = sdw_image_resize(image, &decoded, params->width, params->height, err);
    sdw_image_free(&decoded);
    return status;
}

static enum sdw_status no_memory(const struct sdw_canvas *canvas, struct sdw_error *err)
{
    return sdw_fail(err, SDW_MEMORY, "no memory for latents of %d x %d", canvas->w, canvas->h);
}

/* Latents that the UNet takes besides the noisy ones: none, or a mask and the masked image's. */
static enum sdw_status check_channels(const struct sdw_engine *engine, bool *takes_mask,
                                      struct sdw_error *err)
{
    const struct sdw_unet_config *unet = &engine->config.unet;
    int channels = engine->config.vae.latent_channels;
    *takes_mask = unet->in_channels == 2 * channels + 1;
    if (unet->out_channels == channels && (unet->in_channels == channels || *takes_mask))
        return SDW_OK;
    return sdw_fail(
        err, SDW_MODEL,
        "%s: its UNet takes %d channels and gives %d where latents have %d: it is neither "
        "a text-to-image nor an inpainting model",
        engine->model_id, unet->in_channels, unet->out_channels, channels);
}

enum sdw_status sdw_canvas_open(struct sdw_canvas *canvas, const struct sdw_engine *engine,
                                const struct sdw_params *params, struct sdw_error *err)
{
    const struct sdw_vae_config *vae = &engine->config.vae;
    bool takes_mask;
    enum sdw_status status = check_channels(engine, &takes_mask, err);
    if (status)
        return status;
    canvas->channels = vae->latent_channels;
    canvas->h = params->height / vae->factor;
    canvas->w = params->width / vae->factor;
    size_t area = (size_t)canvas->h * (size_t)canvas->w;
    canvas->count = (int64_t)area * canvas->channels;
    canvas->noise = malloc((size_t)canvas->count * sizeof(float));
    if (takes_mask)
        canvas->extra = malloc((1 + (size_t)canvas->channels) * area * sizeof(float));
    if (!canvas->noise || (takes_mask && !canvas->extra))
        return no_memory(canvas, err);
    if (params->init_image.bytes)
        status = read_image(&canvas->image, &params->init_image, 3, params, err);
    if (status || !params->mask_image.bytes)
        return status;
    canvas->legacy =
        params->inpaint_method && strcmp(params->inpaint_method, "legacy") == 0 && !takes_mask;
    canvas->keep = malloc(area * sizeof(float));
    if (!canvas->keep)
        return no_memory(canvas, err);
    status = read_image(&canvas->mask, &params->mask_image, 1, params, err);
    if (status)
        return status;
    if (!canvas->legacy)
        sdw_mask_binarise(&canvas->mask);
    sdw_mask_to_latent(canvas->keep, &canvas->mask, vae->factor,
                       canvas->legacy ? vae->factor / 2 : 0);
    for (size_t i = 0; i < area; i++)
        canvas->keep[i] = 1 - canvas->keep[i];
    return SDW_OK;
}

/* ---- beginning ---- */

/* latents [channels,h,w], scaled, sampled with noise drawn now. pixels [height,width,3], -1..1. */
static enum sdw_status encode(float *latents, const struct sdw_canvas *canvas, const float *pixels,
                              struct sdw_engine *engine, struct sdw_noise *noise,
                              struct sdw_error *err)
{
    size_t count = (size_t)canvas->count;
    float *moments = malloc(3 * count * sizeof *moments);
    if (!moments)
        return no_memory(canvas, err);
    float *mean = moments, *logvar = moments + count, *drawn = moments + 2 * count;
    sdw_noise_fill(noise, drawn, canvas->count);
    struct sdw_vae *encoder;
    enum sdw_status status = sdw_engine_encoder(&encoder, engine, err);
    if (!status)
        status = sdw_vae_encode(encoder, mean, logvar, pixels, 1, canvas->h, canvas->w, err);
    if (!status)
        sdw_vae_sample(latents, mean, logvar, drawn, count);
    for (size_t i = 0; i < count && !status; i++)
        latents[i] *= engine->config.vae.scaling_factor;
    free(moments);
    return status;
}

/* The input's latents: what is transformed, or kept. */
static enum sdw_status encode_input(struct sdw_canvas *canvas, const float *pixels,
                                    struct sdw_engine *engine, struct sdw_noise *noise,
                                    struct sdw_error *err)
{
    canvas->latents = malloc((size_t)canvas->count * sizeof(float));
    return canvas->latents ? encode(canvas->latents, canvas, pixels, engine, noise, err)
                           : no_memory(canvas, err);
}

/* Mask and masked image, for the UNets that take them. Changes pixels. */
static enum sdw_status encode_masked(struct sdw_canvas *canvas, float *pixels,
                                     struct sdw_engine *engine, struct sdw_noise *noise,
                                     struct sdw_error *err)
{
    size_t area = (size_t)canvas->h * (size_t)canvas->w;
    if (canvas->keep)
        sdw_mask_hide(pixels, &canvas->mask);
    else
        memset(pixels, 0, sdw_image_bytes(&canvas->image) * sizeof *pixels);
    for (size_t i = 0; i < area; i++)
        canvas->extra[i] = canvas->keep ? 1 - canvas->keep[i] : 1;
    return encode(canvas->extra + area, canvas, pixels, engine, noise, err);
}

enum sdw_status sdw_canvas_begin(struct sdw_canvas *canvas, float *x, struct sdw_engine *engine,
                                 const struct sdw_params *params, const struct sdw_sampler *sampler,
                                 struct sdw_noise *noise, struct sdw_error *err)
{
    bool from_noise = !canvas->image.pixels || (params->strength >= 1 && !canvas->legacy);
    bool keeps = canvas->keep && !canvas->extra; /* blends what is kept, whatever the strength */
    size_t values = (size_t)params->width * (size_t)params->height * 3;
    float *pixels = NULL;
    enum sdw_status status = SDW_OK;
    if (canvas->extra || keeps || !from_noise) {
        pixels = calloc(values, sizeof *pixels);
        if (!pixels)
            return no_memory(canvas, err);
        if (canvas->image.pixels)
            sdw_image_to_floats(pixels, &canvas->image);
    }
    if (keeps || !from_noise)
        status = encode_input(canvas, pixels, engine, noise, err);
    sdw_noise_fill(noise, canvas->noise, canvas->count);
    if (!status && canvas->extra)
        status = encode_masked(canvas, pixels, engine, noise, err);
    else if (keeps && !canvas->legacy) /* diffusers encodes the masked image here, too, unused */
        sdw_noise_fill(noise, x, canvas->count);
    free(pixels);
    if (from_noise)
        sdw_sampler_begin(sampler, x, canvas->noise);
    else if (!status)
        sdw_sampler_add_noise(sampler, 0, x, canvas->latents, canvas->noise);
    return status;
}

/* ---- running ---- */

static void keep(const struct sdw_canvas *canvas, float *x, const float *kept)
{
    int64_t area = (int64_t)canvas->h * canvas->w;
    for (int64_t i = 0; i < canvas->count; i++) {
        float share = canvas->keep[i % area];
        x[i] = share * kept[i] + (1 - share) * x[i];
    }
}

void sdw_canvas_blend(const struct sdw_canvas *canvas, float *x, float *scratch,
                      const struct sdw_sampler *sampler, int i)
{
    if (!canvas->keep || canvas->extra)
        return;
    sdw_sampler_add_noise(sampler, canvas->legacy ? i : i + 1, scratch, canvas->latents,
                          canvas->noise);
    keep(canvas, x, scratch);
}

void sdw_canvas_end(const struct sdw_canvas *canvas, float *x)
{
    if (canvas->legacy)
        keep(canvas, x, canvas->latents);
}

enum sdw_status sdw_canvas_paste(const struct sdw_canvas *canvas, struct sdw_image *image,
                                 int mask_blur, struct sdw_error *err)
{
    struct sdw_image mask;
    enum sdw_status status = sdw_image_new(&mask, canvas->mask.width, canvas->mask.height, 1, err);
    if (status)
        return status;
    memcpy(mask.pixels, canvas->mask.pixels, sdw_image_bytes(&mask));
    status = sdw_mask_blur(&mask, mask_blur, err);
    for (size_t i = 0; i < sdw_image_bytes(&mask) && !status; i++)
        for (size_t c = 0; c < 3; c++) {
            int painted = image->pixels[3 * i + c], kept = canvas->image.pixels[3 * i + c];
            int share = mask.pixels[i]; /* of 255 */
            image->pixels[3 * i + c] =
                (uint8_t)((painted * share + kept * (255 - share) + 127) / 255);
        }
    sdw_image_free(&mask);
    return status;
}
