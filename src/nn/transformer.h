/* transformer.h: the spatial transformer of the UNet (Rombach et al. 2022): an image is a sequence
 * of h*w tokens, each block is self-attention, attention to the prompt, and a GEGLU feed-forward.
 */
#ifndef SDW_NN_TRANSFORMER_H
#define SDW_NN_TRANSFORMER_H

#include "nn/attention.h"

struct sdw_transformer_block {
    struct sdw_norm norm1, norm2, norm3;
    struct sdw_attention_layer self, cross;
    struct sdw_weight *widen, *narrow; /* feed-forward: width -> 8 width -> geglu -> width */
};

struct sdw_transformer {
    struct sdw_norm norm;
    struct sdw_weight *proj_in, *proj_out;
    int depth;
    struct sdw_transformer_block *block; /* [depth], owned */
    int first_keys; /* index of the first block's keys among the model's; set by the model */
};

struct sdw_transformer_shape {
    int width, context_width, heads, depth, groups;
};

void sdw_transformer_load(struct sdw_transformer *transformer, struct sdw_loader *loader,
                          struct sdw_transformer_shape shape);
void sdw_transformer_free(struct sdw_transformer *transformer); /* not its weights */

/* stream += transformer(stream) [n,h,w,width]; keys [depth]: each block's keys and values of the
 * prompt. */
void sdw_transformer_forward(struct sdw_device *dev, const struct sdw_transformer *transformer,
                             const struct sdw_tensor *stream, const struct sdw_keys *keys);

#endif
