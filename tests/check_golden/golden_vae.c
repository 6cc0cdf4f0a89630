/* golden_vae.c: encoder and decoder, vae/MODEL.safetensors. A case is whatever has a NAME.z (to
 * decode) or a NAME.image_u8 (to encode). */
#include "golden.h"

#include "model/files.h"
#include "model/vae.h"
#include "tensor/layout.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TOLERANCE 5e-5 /* of the largest magnitude */

struct section {
    struct golden *g;
    const struct sdw_weights *file;
    struct sdw_vae *vae;
    const struct sdw_vae_config *config;
};

static void compare(const struct section *s, const char *label, const float *got, size_t count,
                    const char *name, const char *part)
{
    char full[320];
    snprintf(full, sizeof full, "%s/%s", label, part);
    int64_t want_count = 0;
    float *want = golden_floats(s->file, &want_count, "%s.%s", name, part);
    if (!want || want_count != (int64_t)count)
        golden_fail(s->g, full, "%s.%s is missing, or does not hold %zu numbers", name, part,
                    count);
    else
        golden_compare(s->g, full, got, want, want_count, TOLERANCE);
    free(want);
}

static void check_decoder(const struct section *s, const char *label, const char *name,
                          const struct sdw_array *z)
{
    int channels = s->config->latent_channels, factor = s->config->factor;
    if (z->rank != 4 || z->dim[1] != channels || sdw_array_count(z) < 1) {
        golden_fail(s->g, label, "z does not fit the model's config.json");
        return;
    }
    int n = (int)z->dim[0], h = (int)z->dim[2], w = (int)z->dim[3];
    size_t count = (size_t)n * 3 * (size_t)(h * factor) * (size_t)(w * factor);
    float *latents = golden_floats(s->file, NULL, "%s.z", name);
    float *image = malloc(count * sizeof *image), *planes = malloc(count * sizeof *planes);
    struct sdw_error err = {0};
    if (!latents || !image || !planes ||
        sdw_vae_decode(s->vae, image, latents, n, h, w, &err) != SDW_OK) {
        golden_fail(s->g, label, "%s", err.message);
    } else {
        sdw_nchw_from_nhwc(planes, image, n, 3, h * factor, w * factor);
        compare(s, label, planes, count, name, "out");
    }
    free(planes);
    free(image);
    free(latents);
}

static void check_encoder(const struct section *s, const char *label, const char *name,
                          const struct sdw_array *pixels)
{
    int channels = s->config->latent_channels, factor = s->config->factor;
    if (pixels->rank != 3 || pixels->dim[2] != 3 || pixels->dim[0] % factor != 0 ||
        pixels->dim[1] % factor != 0 || sdw_array_count(pixels) < 1 || pixels->dtype != SDW_U8) {
        golden_fail(s->g, label, "image_u8 is not U8 [h,w,3] with h and w multiples of %d", factor);
        return;
    }
    int h = (int)pixels->dim[0] / factor, w = (int)pixels->dim[1] / factor;
    size_t count = (size_t)channels * (size_t)h * (size_t)w;
    size_t values = (size_t)sdw_array_count(pixels);
    float *image = malloc(values * sizeof *image), *moments = malloc(3 * count * sizeof *moments);
    float *noise = golden_floats(s->file, NULL, "%s.noise", name);
    struct sdw_error err = {0};
    for (size_t i = 0; image && i < values; i++)
        image[i] = (float)((const uint8_t *)pixels->data)[i] / 127.5f - 1;
    if (!image || !moments || !noise ||
        sdw_vae_encode(s->vae, moments, moments + count, image, 1, h, w, &err) != SDW_OK) {
        golden_fail(s->g, label, "%s", err.message);
    } else {
        sdw_vae_sample(moments + 2 * count, moments, moments + count, noise, count);
        compare(s, label, moments, count, name, "mean");
        compare(s, label, moments + count, count, name, "logvar");
        compare(s, label, moments + 2 * count, count, name, "sample");
    }
    free(noise);
    free(moments);
    free(image);
}

static void check_cases(const struct section *s, const char *stem)
{
    for (int i = 0; i < sdw_weights_count(s->file); i++) {
        char name[128], label[256];
        snprintf(name, sizeof name, "%s", sdw_weights_name(s->file, i));
        char *dot = strchr(name, '.');
        struct sdw_array array;
        if (!dot || !sdw_weights_find(s->file, name, &array))
            continue;
        *dot = '\0';
        snprintf(label, sizeof label, "vae/%s/%s", stem, name);
        if (!golden_wanted(s->g, label))
            continue;
        if (strcmp(dot + 1, "z") == 0)
            check_decoder(s, label, name, &array);
        else if (strcmp(dot + 1, "image_u8") == 0)
            check_encoder(s, label, name, &array);
    }
}

static void check_file(struct golden *g, const char *stem, const struct sdw_weights *file)
{
    struct sdw_model_config model;
    if (!golden_model(g, stem, &model))
        return;
    struct sdw_weights *weights = NULL;
    struct section s = {.g = g, .file = file, .config = &model.vae};
    struct sdw_error err = {0};
    if (sdw_model_weights_open(&weights, model.path, "vae", &err) != SDW_OK ||
        sdw_vae_open(&s.vae, g->dev, weights, &model.vae, SDW_VAE_BOTH, &err) != SDW_OK)
        golden_fail(g, stem, "%s", err.message);
    else
        check_cases(&s, stem);
    sdw_vae_close(s.vae);
    sdw_weights_close(weights);
}

void golden_vae(struct golden *g)
{
    golden_each_file(g, "vae", check_file);
}
