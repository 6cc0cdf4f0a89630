/* attention.h: multi-head attention with its four projections (Vaswani et al. 2017), added to the
 * residual stream. */
#ifndef SDW_NN_ATTENTION_H
#define SDW_NN_ATTENTION_H

#include "nn/loader.h"

struct sdw_attention_layer {
    struct sdw_weight *q, *k, *v, *out;
    struct sdw_attention_geometry geometry;
};

/* What the projections are called, and which have a bias. */
enum sdw_attention_style {
    SDW_ATTENTION_UNET, /* to_q to_k to_v without bias, to_out.0 with */
    SDW_ATTENTION_VAE,  /* the same, all with bias */
    SDW_ATTENTION_CLIP, /* q_proj k_proj v_proj out_proj, all with bias; causal */
};

/* context_width: of what keys and values are made from; `width` for self-attention. heads divides
 * width. */
void sdw_attention_load(struct sdw_attention_layer *layer, struct sdw_loader *loader,
                        enum sdw_attention_style style, int width, int context_width, int heads);

/* Keys and values [n,tokens,1,width] of the compute type. */
struct sdw_keys {
    struct sdw_tensor k, v;
};

/* stream += out(attention(q(in), keys)); keys NULL: self-attention, made from `in`, which is of the
 * compute type and is freed. */
void sdw_attention_forward(struct sdw_device *dev, const struct sdw_attention_layer *layer,
                           const struct sdw_tensor *stream, struct sdw_tensor in,
                           const struct sdw_keys *keys);

#endif
