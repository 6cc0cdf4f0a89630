/* recognise.h: a checkpoint's configuration from its tensors, as the JSON files that a diffusers
 * folder of the same model would have.
 *
 * The shapes say nearly everything. What they cannot say (heads, prediction type, scaling factor,
 * schedule) comes from the family that the text encoders show, and, over that, from an
 * original-format .yaml beside the file with the same base name. Internal to model/. */
#ifndef SDW_MODEL_RECOGNISE_H
#define SDW_MODEL_RECOGNISE_H

#include "base/status.h"
#include "weights/weights.h"

#include <jansson.h>

/* Fills `files` (file name -> content). SDW_MODEL: no model that we know, and what it lacks; a
 * .yaml that contradicts the tensors is refused by the number, too. */
enum sdw_status sdw_recognise_checkpoint(json_t *files, const struct sdw_weights *file,
                                         struct sdw_error *err);

/* Sets the fields of a vae/config.json that the tensors of `vae` (diffusers names) show. */
void sdw_recognise_vae(json_t *config, const struct sdw_weights *vae);

#endif
