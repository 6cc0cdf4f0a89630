/* config.h: what a model's config.json files say about it: all geometry.
 *
 * Nothing of a model is constant in the code. The files come from outside: every number is checked
 * against a named range here, once, so that the models may rely on it (widths divide by groups and
 * heads, nothing overflows, nothing is absurdly large). A plain struct, copied freely. */
#ifndef SDW_MODEL_CONFIG_H
#define SDW_MODEL_CONFIG_H

#include "model/source.h"
#include "tensor/ops.h"

#include <stdbool.h>

#define SDW_CHANNELS_MAX   8192
#define SDW_VOCABULARY_MAX 1000000
#define SDW_TOKENS_MAX     4096 /* positions of a text encoder */
#define SDW_LEVELS_MAX     8    /* resolutions of a UNet or VAE */
#define SDW_LAYERS_MAX     8    /* resnet blocks at one level */
#define SDW_DEPTH_MAX      64   /* layers of a text encoder or a transformer */
#define SDW_TEXTS_MAX      2
#define SDW_TIME_IDS_MAX   16
#define SDW_SAMPLE_MAX     2048 /* latents along a side */

struct sdw_clip_text_config {
    int vocabulary, positions;
    int width, mlp_width, heads, layers;
    int projection; /* width of the pooled output; 0: no projection, the pooled output is `width` */
    enum sdw_act act; /* SDW_ACT_QUICK_GELU (1.x) or SDW_ACT_GELU */
    float epsilon;
};

struct sdw_unet_config {
    int in_channels, out_channels;
    int sample_height, sample_width; /* latents the model was trained on */
    int levels;
    struct sdw_unet_level {
        int channels, layers, heads;
        int depth; /* blocks of each transformer */
        bool down_attention, up_attention;
    } level[SDW_LEVELS_MAX]; /* finest first; the mid block has the last one's geometry */
    bool mid_block;
    int groups;
    float epsilon;
    int context_width;       /* of the text's hidden states */
    int time_width;          /* of the time embedding */
    int freq_shift;          /* 0 or 1 */
    bool flip_sin_to_cos;    /* (cos..., sin...) */
    int time_cond_width;     /* LCM: width of the embedded guidance scale; 0: none */
    int addition_time_width; /* XL: width of each embedded time id; 0: no added conditions */
    int time_ids;            /* XL: how many; 6 in base models */
    int pooled_width;        /* XL: of the pooled text embedding */
};

struct sdw_vae_config {
    int image_channels, latent_channels;
    int levels, layers, groups;
    int channels[SDW_LEVELS_MAX]; /* finest first */
    float scaling_factor;         /* latents of the UNet = scaling_factor * latents of the VAE */
    int factor;                   /* pixels a latent, 2^(levels-1) */
};

struct sdw_model_config {
    char path[SDW_MODEL_PATH_MAX]; /* of the folder or file, for messages */
    char pipeline_class[64];       /* "StableDiffusionPipeline", ...; from model_index.json */
    char scheduler_class[64];      /* "PNDMScheduler", ... */
    char prediction_type[32];      /* "epsilon", "v_prediction", "sample" */

    int texts; /* 1, or 2 for XL; hidden states are concatenated by channel, pooled is the last's */
    struct sdw_clip_text_config text[SDW_TEXTS_MAX];
    const char *text_component[SDW_TEXTS_MAX]; /* folders: "text_encoder", "text_encoder_2" */
    const char *tokenizer[SDW_TEXTS_MAX];      /* folders: "tokenizer", "tokenizer_2" */
    int hidden_skip;       /* last layers whose output the UNet does not see: 1 in XL, else 0 */
    bool hidden_norm;      /* the final layer norm is applied to it: not in XL */
    bool zeros_when_empty; /* XL: no negative prompt means zeros instead of the encoded "" */

    struct sdw_unet_config unet;
    struct sdw_vae_config vae;
    int width, height; /* default size of an image in pixels */
};

/* Reads model_index.json and the config.json of every component. SDW_NOT_FOUND, SDW_FORMAT or
 * SDW_MODEL with the file, the key and the range. */
enum sdw_status sdw_model_config_from(struct sdw_model_config *config,
                                      const struct sdw_model_source *source, struct sdw_error *err);
/* The same for what lies at `path`, when nothing else is wanted of it. */
enum sdw_status sdw_model_config_read(struct sdw_model_config *config, const char *path,
                                      struct sdw_error *err);

#endif
