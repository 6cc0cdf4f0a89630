/* unet_internal.h: the parts of a UNet, for unet.c (loading, forward) and unet_context.c. */
#ifndef SDW_MODEL_UNET_INTERNAL_H
#define SDW_MODEL_UNET_INTERNAL_H

#include "model/unet.h"
#include "nn/resnet.h"
#include "nn/time_embedding.h"
#include "nn/transformer.h"
#include "tensor/recording.h"

/* One resolution, on the way down or up. */
struct sdw_unet_stage {
    int layers;
    bool attention;
    struct sdw_resnet resnet[SDW_LAYERS_MAX + 1];
    struct sdw_transformer transformer[SDW_LAYERS_MAX + 1]; /* after each resnet, with attention */
    struct sdw_weight *resize; /* to the next resolution; NULL at the last one */
};

struct sdw_unet {
    struct sdw_device *dev;
    struct sdw_unet_config config;
    struct sdw_parameters parameters;
    struct sdw_time_embedding time, addition; /* addition: XL */
    struct sdw_weight *time_cond;             /* LCM, else NULL */
    struct sdw_weight *conv_in, *conv_out;
    struct sdw_norm norm_out;
    struct sdw_unet_stage down[SDW_LEVELS_MAX], up[SDW_LEVELS_MAX]; /* in the order they run */
    struct sdw_resnet mid_resnet[2];
    struct sdw_transformer mid_transformer;
    int transformers, keys; /* keys: transformer blocks, each has its own of the prompt */
};

struct sdw_unet_context {
    struct sdw_unet *unet;
    int n;
    struct sdw_keys *keys;      /* [unet->keys], in the order in which blocks were loaded */
    struct sdw_tensor *storage; /* [unet->transformers], what they are parts of */
    int stored;
    struct sdw_tensor addition;  /* XL: [n,1,1,time_width], added to the time embedding */
    struct sdw_tensor time_cond; /* LCM: [n,1,1,channels], added to the sinusoid */
    struct sdw_recording step;   /* from the uploaded inputs to `result` */
    struct sdw_tensor result;    /* [n,h,w,out_channels] f32; live within sdw_unet_forward */
};

/* Calls visit for every transformer, in the order of their keys. */
void sdw_unet_transformers(struct sdw_unet *unet,
                           void (*visit)(struct sdw_transformer *transformer, void *context),
                           void *context);

#endif
