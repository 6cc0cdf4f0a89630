/* source.h: where a model's configuration and weights come from: a diffusers folder, or one
 * checkpoint file, which is described as the folder that it would have been (recognise.h).
 *
 * Whoever reads a model asks for "unet/config.json" or the weights of "unet", and need not know
 * which of the two it is. Files stay open until the source is closed: a part may be read late. */
#ifndef SDW_MODEL_SOURCE_H
#define SDW_MODEL_SOURCE_H

#include "base/status.h"
#include "base/text.h"
#include "weights/weights.h"

#include <stdbool.h>

#define SDW_MODEL_PATH_MAX   4096
#define SDW_CONFIG_BYTES_MAX (1 << 20) /* of one config.json or .yaml */

struct sdw_model_source;

struct sdw_model_source_options {
    const char *path; /* a diffusers folder, or a checkpoint: .safetensors, .ckpt, .pt */
    const char *vae;  /* instead of the model's own: a file in original or diffusers names, or a
                         diffusers folder; NULL: none */
    const char *prediction_type; /* "epsilon", "v_prediction" or "sample", over whatever the model
                                    says; NULL: what it says */
};

/* A checkpoint is recognised here: SDW_MODEL says what it lacks. */
enum sdw_status sdw_model_source_open(struct sdw_model_source **source,
                                      const struct sdw_model_source_options *options,
                                      struct sdw_error *err);
void sdw_model_source_close(struct sdw_model_source *source); /* NULL is allowed */

const char *sdw_model_source_path(const struct sdw_model_source *source); /* as opened */
/* One file, which brings no vocabulary. */
bool sdw_model_source_is_file(const struct sdw_model_source *source);

/* How messages call the model's file `name` ("unet/config.json"), into path[SDW_MODEL_PATH_MAX]. */
void sdw_model_source_name(char *path, const struct sdw_model_source *source, const char *name);
/* Appends that file's text. SDW_NOT_FOUND or SDW_IO where the model has none. */
enum sdw_status sdw_model_source_text(struct sdw_text *text, const struct sdw_model_source *source,
                                      const char *name, struct sdw_error *err);
/* Opens the weights of "unet", "vae", "text_encoder" or "text_encoder_2", under the names of the
 * diffusers layout. They are closed before the source is. */
enum sdw_status sdw_model_source_weights(struct sdw_weights **weights,
                                         const struct sdw_model_source *source,
                                         const char *component, struct sdw_error *err);

#endif
