/* preview.h: a small picture of latents, without the decoder: a linear projection of each latent
 * to a colour.
 *
 * The projection is the model's own: least squares between colour patches and what its encoder
 * makes of them, so it holds for any number of channels and any scaling. */
#ifndef SDW_PIPELINE_PREVIEW_H
#define SDW_PIPELINE_PREVIEW_H

#include "base/text.h"

#include <stdbool.h>
#include <stdint.h>

#define SDW_PREVIEW_CHANNELS_MAX 32         /* of latents */
#define SDW_PREVIEW_BYTES_MAX    (1u << 20) /* of a preview's PNG, a pixel a latent */

struct sdw_engine;

struct sdw_preview {
    bool fitted;
    float weight[3][SDW_PREVIEW_CHANNELS_MAX + 1]; /* the last is the offset; 0..1 */
};

/* Fits the engine's projection where it is not yet: one encoding of a small picture, for which it
 * reserves scratch memory of its own. Before an image, not during one. */
enum sdw_status sdw_preview_fit(struct sdw_engine *engine, struct sdw_error *err);

/* Appends a PNG of w x h pixels. latents [channels,h,w], scaled as the UNet sees them. */
enum sdw_status sdw_preview_draw(struct sdw_text *png, const struct sdw_preview *preview,
                                 const float *latents, int channels, int h, int w,
                                 struct sdw_error *err);

#endif
