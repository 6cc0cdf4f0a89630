/* files.h: which file of a diffusers folder holds a component's weights. */
#ifndef SDW_MODEL_FILES_H
#define SDW_MODEL_FILES_H

#include "base/status.h"
#include "weights/weights.h"

/* Opens the weights of a component ("unet", "vae", "text_encoder", "text_encoder_2"; "": the folder
 * is the component's own): the plain safetensors, the fp16 variant, or the index of a sharded one,
 * whichever is there first.
 * SDW_NOT_FOUND names the folder and what was looked for. */
enum sdw_status sdw_model_weights_open(struct sdw_weights **weights, const char *folder,
                                       const char *component, struct sdw_error *err);

#endif
