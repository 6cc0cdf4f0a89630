/* unet.h: the denoiser of Stable Diffusion 1.x, 2.x, XL and their inpainting and LCM kin: one
 * conditional UNet (Ronneberger et al. 2015; Rombach et al. 2022), all geometry from its config.
 *
 * What a step does not change is computed once a job: `struct sdw_unet_context` holds the keys and
 * values of the prompt for every cross-attention layer, in scratch memory. Host arrays, threads and
 * scratch as in clip_text.h. */
#ifndef SDW_MODEL_UNET_H
#define SDW_MODEL_UNET_H

#include "model/config.h"
#include "weights/weights.h"

#include <stdint.h>

struct sdw_device;
struct sdw_unet;
struct sdw_unet_context;

/* As sdw_clip_text_open. */
enum sdw_status sdw_unet_open(struct sdw_unet **unet, struct sdw_device *dev,
                              const struct sdw_weights *weights,
                              const struct sdw_unet_config *config, struct sdw_error *err);
void sdw_unet_close(struct sdw_unet *unet); /* NULL is allowed */

struct sdw_unet_conditions {
    int n;                 /* rows of the batch: images, twice that with guidance */
    int tokens;            /* of each row */
    const float *hidden;   /* [n,tokens,context_width] */
    const float *pooled;   /* [n,pooled_width]; XL only, else NULL */
    const float *time_ids; /* [n,time_ids]: original h, w, crop top, left, target h, w; XL only */
    const float *guidance_scale; /* [n], for models with time_cond_width (LCM), else NULL */
};

/* Lives in the device's scratch memory until it is freed: reserve scratch before, not while it
 * lives. */
enum sdw_status sdw_unet_context_new(struct sdw_unet_context **context, struct sdw_unet *unet,
                                     const struct sdw_unet_conditions *conditions,
                                     struct sdw_error *err);
void sdw_unet_context_free(struct sdw_unet_context *context); /* NULL is allowed */

/* out [n,out_channels,h,w] = unet(sample [n,in_channels,h,w], timesteps [n]), NCHW; n is the
 * context's. h and w are latents, any size from 1; multiples of 2^(levels-1) are what models were
 * trained on. */
enum sdw_status sdw_unet_forward(struct sdw_unet *unet, float *out, const float *sample,
                                 const float *timesteps, int h, int w,
                                 struct sdw_unet_context *context, struct sdw_error *err);

size_t sdw_unet_bytes(const struct sdw_unet *unet);
int64_t sdw_unet_parameters(const struct sdw_unet *unet);

#endif
