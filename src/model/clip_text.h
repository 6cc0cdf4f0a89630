/* clip_text.h: the text encoder of CLIP (Radford et al. 2021): token ids in, hidden states out.
 *
 * Like all models here it takes and gives host arrays; device memory is taken from the device's
 * scratch while a call runs, and is free again when it returns, also after a failure. A model is
 * used from one thread at a time; the device must outlive it. */
#ifndef SDW_MODEL_CLIP_TEXT_H
#define SDW_MODEL_CLIP_TEXT_H

#include "model/config.h"
#include "weights/weights.h"

#include <stdint.h>

struct sdw_device;
struct sdw_clip_text;

/* Packs all weights. `weights` may be closed afterwards; NULL opens a model of shapes only, for a
 * device that never reads data (backend/trace). SDW_MODEL names a missing or misshapen tensor. */
enum sdw_status sdw_clip_text_open(struct sdw_clip_text **text, struct sdw_device *dev,
                                   const struct sdw_weights *weights,
                                   const struct sdw_clip_text_config *config,
                                   struct sdw_error *err);
void sdw_clip_text_close(struct sdw_clip_text *text); /* NULL is allowed */

/* Which hidden state a caller wants. */
struct sdw_clip_text_layer {
    int skip;  /* layers left out at the end, 0..layers (all: the embeddings) */
    bool norm; /* through the final layer norm */
};

/* Encodes n rows of `tokens` ids each (1..positions). hidden [n,tokens,width]: that layer's output.
 * pooled [n,projection or width]: the last layer's normed output at the end token (the first
 * position of the row's largest id), through the projection where there is one. Either may be NULL.
 * SDW_MODEL when an id is outside of the vocabulary. */
enum sdw_status sdw_clip_text_encode(struct sdw_clip_text *text, float *hidden, float *pooled,
                                     const int32_t *ids, int n, int tokens,
                                     struct sdw_clip_text_layer layer, struct sdw_error *err);

size_t sdw_clip_text_bytes(const struct sdw_clip_text *text);       /* device memory of weights */
int64_t sdw_clip_text_parameters(const struct sdw_clip_text *text); /* numbers in the file */

#endif
