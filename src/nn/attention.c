/* attention.c: one layer for text encoder, UNet and VAE. */
#include "nn/attention.h"

#include "nn/layers.h"

#include <math.h>

static const struct {
    const char *q, *k, *v, *out;
    enum sdw_bias bias; /* of q, k and v; `out` always has one */
    bool causal;
} styles[] = {
    [SDW_ATTENTION_UNET] = {"to_q", "to_k", "to_v", "to_out.0", SDW_BIAS_NONE, false},
    [SDW_ATTENTION_VAE] = {"to_q", "to_k", "to_v", "to_out.0", SDW_BIAS, false},
    [SDW_ATTENTION_CLIP] = {"q_proj", "k_proj", "v_proj", "out_proj", SDW_BIAS, true},
};

void sdw_attention_load(struct sdw_attention_layer *layer, struct sdw_loader *loader,
                        enum sdw_attention_style style, int width, int context_width, int heads)
{
    enum sdw_bias bias = styles[style].bias;
    int head_width = width / heads;
    layer->q = sdw_load_linear(loader, styles[style].q, width, width, bias);
    layer->k = sdw_load_linear(loader, styles[style].k, context_width, width, bias);
    layer->v = sdw_load_linear(loader, styles[style].v, context_width, width, bias);
    layer->out = sdw_load_linear(loader, styles[style].out, width, width, SDW_BIAS);
    layer->geometry = (struct sdw_attention_geometry){
        .heads = heads,
        .scale = 1.0f / sqrtf((float)head_width),
        .causal = styles[style].causal,
    };
}

void sdw_attention_forward(struct sdw_device *dev, const struct sdw_attention_layer *layer,
                           const struct sdw_tensor *stream, struct sdw_tensor in,
                           const struct sdw_keys *keys)
{
    struct sdw_keys own = {0};
    struct sdw_tensor q = sdw_linear_new(dev, layer->q, &in, SDW_ACT_NONE, dev->compute);
    if (!keys) {
        own.k = sdw_linear_new(dev, layer->k, &in, SDW_ACT_NONE, dev->compute);
        own.v = sdw_linear_new(dev, layer->v, &in, SDW_ACT_NONE, dev->compute);
    }
    sdw_tensor_free(dev, &in);

    const struct sdw_keys *used = keys ? keys : &own;
    struct sdw_tensor mixed = sdw_tensor_new(dev, dev->compute, q.n, q.h, q.w, q.c);
    sdw_attention(dev, &mixed, &q, &used->k, &used->v, layer->geometry);
    sdw_tensor_free(dev, &own.k);
    sdw_tensor_free(dev, &own.v);
    sdw_tensor_free(dev, &q);

    sdw_linear(dev, stream, &mixed, layer->out, SDW_ACT_NONE, stream);
    sdw_tensor_free(dev, &mixed);
}
