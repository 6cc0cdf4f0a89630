/* vae.h: the autoencoder between pixels and latents (Kingma and Welling 2013; Rombach et al. 2022).
 *
 * Images are NHWC on the host, -1..1; latents are NCHW. No scaling factor is applied here: the
 * caller divides before decoding and multiplies after encoding. Activations of some models (XL)
 * exceed what f16 can hold: run the VAE on a device that computes in f32 or bf16. Host arrays,
 * threads and scratch as in clip_text.h. */
#ifndef SDW_MODEL_VAE_H
#define SDW_MODEL_VAE_H

#include "model/config.h"
#include "weights/weights.h"

#include <stdint.h>

struct sdw_device;
struct sdw_vae;

enum sdw_vae_parts { SDW_VAE_DECODER = 1, SDW_VAE_ENCODER = 2, SDW_VAE_BOTH = 3 };

/* As sdw_clip_text_open, with only the parts asked for. */
enum sdw_status sdw_vae_open(struct sdw_vae **vae, struct sdw_device *dev,
                             const struct sdw_weights *weights, const struct sdw_vae_config *config,
                             enum sdw_vae_parts parts, struct sdw_error *err);
void sdw_vae_close(struct sdw_vae *vae); /* NULL is allowed */

/* Decodes in horizontal strips of at most `rows` rows from now on, for big images in little memory;
 * 0: whole. A row is one of the resolution at which decoding is split: all that comes before it,
 * the attention over all pixels included, still sees the whole image. Strips overlap by more than
 * what a pixel can see and are blended; norms over a strip instead of the image are what remains of
 * a difference. sdw_model_trace_decode chooses a number for the memory there is. */
void sdw_vae_strips_set(struct sdw_vae *vae, int rows);

#define SDW_VAE_STRIP_ROWS_MIN 32 /* less is taken as this */

/* Rows of an image of h latents at the resolution of the split. */
int sdw_vae_strip_rows(const struct sdw_vae_config *config, int h);

/* image [n,h*factor,w*factor,image_channels] from latents [n,latent_channels,h,w]. Not clamped. */
enum sdw_status sdw_vae_decode(struct sdw_vae *vae, float *image, const float *latents, int n,
                               int h, int w, struct sdw_error *err);

/* mean and logvar [n,latent_channels,h,w] of the latents' distribution from image
 * [n,h*factor,w*factor,image_channels]; h and w are latents; logvar is clamped to -30..20. */
enum sdw_status sdw_vae_encode(struct sdw_vae *vae, float *mean, float *logvar, const float *image,
                               int n, int h, int w, struct sdw_error *err);

/* latents = mean + exp(logvar/2) * noise, `count` numbers each. */
void sdw_vae_sample(float *latents, const float *mean, const float *logvar, const float *noise,
                    size_t count);

size_t sdw_vae_bytes(const struct sdw_vae *vae);
int64_t sdw_vae_parameters(const struct sdw_vae *vae);

#endif
