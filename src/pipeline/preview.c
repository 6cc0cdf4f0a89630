/* preview.c: see preview.h. */
#include "pipeline/preview.h"

#include "image/png.h"
#include "pipeline/engine_internal.h"

#include <math.h>
#include <stdlib.h>

#define SIDE  24   /* latents of the picture that is encoded */
#define PATCH 3    /* latents a side of one colour: its middle sees no other */
#define RIDGE 1e-3 /* keeps channels that say nothing at zero */

/* Colours that fill the cube evenly: the additive recurrence of the plastic number's powers
 * (Roberts 2018, "The Unreasonable Effectiveness of Quasirandom Sequences"). */
static float colour(int patch, int c)
{
    static const double step[3] = {0.8191725133961645, 0.6710436067037893, 0.5497004779019703};
    double whole;
    return (float)modf(0.5 + step[c] * (patch + 1), &whole);
}

static int patch_at(int y, int x)
{
    return y / PATCH * (SIDE / PATCH) + x / PATCH;
}

/* a [n,n] symmetric positive definite, b [n,3] becomes a^-1 b (Cholesky). */
static void solve(double *a, double *b, int n)
{
    for (int i = 0; i < n; i++)
        for (int j = 0; j <= i; j++) {
            double sum = a[i * n + j];
            for (int k = 0; k < j; k++)
                sum -= a[i * n + k] * a[j * n + k];
            a[i * n + j] = i == j ? sqrt(sum) : sum / a[j * n + j];
        }
    for (int c = 0; c < 3; c++) {
        for (int i = 0; i < n; i++) {
            for (int k = 0; k < i; k++)
                b[i * 3 + c] -= a[i * n + k] * b[k * 3 + c];
            b[i * 3 + c] /= a[i * n + i];
        }
        for (int i = n - 1; i >= 0; i--) {
            for (int k = i + 1; k < n; k++)
                b[i * 3 + c] -= a[k * n + i] * b[k * 3 + c];
            b[i * 3 + c] /= a[i * n + i];
        }
    }
}

/* Least squares over the middle latent of every patch. */
static void fit(struct sdw_preview *preview, const float *latents, int channels)
{
    enum { N = SDW_PREVIEW_CHANNELS_MAX + 1 };
    double a[N * N] = {0}, b[N * 3] = {0}, row[N];
    int n = channels + 1;
    for (int y = PATCH / 2; y < SIDE; y += PATCH)
        for (int x = PATCH / 2; x < SIDE; x += PATCH) {
            for (int c = 0; c < channels; c++)
                row[c] = latents[(c * SIDE + y) * SIDE + x];
            row[channels] = 1;
            for (int i = 0; i < n; i++) {
                for (int j = 0; j < n; j++)
                    a[i * n + j] += row[i] * row[j];
                for (int c = 0; c < 3; c++)
                    b[i * 3 + c] += row[i] * colour(patch_at(y, x), c);
            }
        }
    for (int i = 0; i < n; i++)
        a[i * n + i] += RIDGE;
    solve(a, b, n);
    for (int c = 0; c < 3; c++)
        for (int i = 0; i < n; i++)
            preview->weight[c][i] = (float)b[i * 3 + c];
}

static enum sdw_status reserve(struct sdw_engine *engine, int side, struct sdw_error *err)
{
    uint8_t picture = 0; /* of it counts that it is there to be encoded */
    struct sdw_params params = {
        .width = side, .height = side, .init_image = {.bytes = &picture, .length = 1}};
    struct sdw_engine_plan plan;
    enum sdw_status status =
        sdw_engine_plan(&plan, engine, &params, engine->config.text[0].positions, SIZE_MAX, err);
    if (status)
        return status;
    sdw_scratch_reserve(engine->dev, plan.scratch_bytes);
    atomic_store(&engine->scratch_held, engine->dev->scratch.capacity);
    return sdw_sync(engine->dev, err);
}

/* The encoder goes again, unless it was there before: a fit is made once. */
static enum sdw_status encode_once(struct sdw_engine *engine, float *moments, const float *image,
                                   struct sdw_error *err)
{
    size_t count = (size_t)engine->config.vae.latent_channels * SIDE * SIDE;
    bool stays = engine->encoder != NULL;
    struct sdw_vae *encoder;
    enum sdw_status status = sdw_engine_encoder(&encoder, engine, err);
    if (!status)
        status = sdw_vae_encode(encoder, moments, moments + count, image, 1, SIDE, SIDE, err);
    if (!stays)
        sdw_engine_encoder_close(engine);
    return status;
}

enum sdw_status sdw_preview_fit(struct sdw_engine *engine, struct sdw_error *err)
{
    const struct sdw_vae_config *vae = &engine->config.vae;
    int side = SIDE * vae->factor;
    size_t pixels = (size_t)side * (size_t)side * 3;
    size_t count = (size_t)vae->latent_channels * SIDE * SIDE;
    if (engine->preview.fitted)
        return SDW_OK;
    if (vae->latent_channels > SDW_PREVIEW_CHANNELS_MAX)
        return sdw_fail(err, SDW_MODEL, "no previews for latents of %d channels",
                        vae->latent_channels);
    float *image = malloc(pixels * sizeof *image), *moments = malloc(2 * count * sizeof *moments);
    enum sdw_status status = reserve(engine, side, err);
    if (!status && image && moments) {
        for (int y = 0; y < side; y++)
            for (int x = 0; x < side; x++)
                for (int c = 0; c < 3; c++)
                    image[((size_t)y * (size_t)side + (size_t)x) * 3 + (size_t)c] =
                        2 * colour(patch_at(y / vae->factor, x / vae->factor), c) - 1;
        status = encode_once(engine, moments, image, err);
    } else if (!status) {
        status = sdw_fail(err, SDW_MEMORY, "no memory for previews");
    }
    if (!status) {
        for (size_t i = 0; i < count; i++)
            moments[i] *= vae->scaling_factor;
        fit(&engine->preview, moments, vae->latent_channels);
        engine->preview.fitted = true;
    }
    free(image);
    free(moments);
    return status;
}

enum sdw_status sdw_preview_draw(struct sdw_text *png, const struct sdw_preview *preview,
                                 const float *latents, int channels, int h, int w,
                                 struct sdw_error *err)
{
    struct sdw_image image;
    enum sdw_status status = sdw_image_new(&image, w, h, 3, err);
    if (status)
        return status;
    size_t area = (size_t)h * (size_t)w;
    for (size_t i = 0; i < area; i++)
        for (size_t c = 0; c < 3; c++) {
            const float *weight = preview->weight[c];
            float value = weight[channels];
            for (size_t k = 0; k < (size_t)channels; k++)
                value += weight[k] * latents[k * area + i];
            image.pixels[3 * i + c] = (uint8_t)lrintf(255 * fminf(fmaxf(value, 0), 1));
        }
    status = sdw_png_encode(png, &image, NULL, 0, err);
    sdw_image_free(&image);
    return status;
}
