/* checkpoint.h: the components of a single-file checkpoint, under the names of the diffusers
 * layout.
 *
 * Such a file (.safetensors, .ckpt) holds a whole model under the names of the original code
 * (CompVis latent-diffusion for 1.x, Stability's forks for 2.x and XL): "model.diffusion_model." is
 * the UNet, "first_stage_model." the VAE, "cond_stage_model." or "conditioner.embedders." the text
 * encoders. Blocks are counted through all resolutions there; where one resolution ends is seen
 * from the down- and upsamplers in the file itself, so that no geometry is needed. */
#ifndef SDW_WEIGHTS_CHECKPOINT_H
#define SDW_WEIGHTS_CHECKPOINT_H

#include "weights/weights.h"

/* Does the file hold a UNet under original names? */
bool sdw_checkpoint_is(const struct sdw_weights *file);

/* The tensors of `component` ("unet", "vae", "text_encoder", "text_encoder_2"), renamed. A file of
 * a VAE alone, under original or diffusers names, has a "vae", too. They are
 * views: `file` must outlive *part. SDW_NOT_FOUND when the file has none of them. */
enum sdw_status sdw_checkpoint_part(struct sdw_weights **part, const struct sdw_weights *file,
                                    const char *component, struct sdw_error *err);

#endif
