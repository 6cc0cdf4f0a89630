/* resnet.h: the residual block of UNet and VAE (He et al. 2015, as in Ho et al. 2020):
 *
 *     out = shortcut(in) + conv2(silu(norm2(conv1(silu(norm1(in))) + time)))
 *
 * and the step between two resolutions, upwards. */
#ifndef SDW_NN_RESNET_H
#define SDW_NN_RESNET_H

#include "nn/loader.h"

struct sdw_resnet {
    int channels; /* of the result */
    struct sdw_norm norm1, norm2;
    struct sdw_weight *conv1, *conv2;
    struct sdw_weight *time;     /* NULL in a VAE */
    struct sdw_weight *shortcut; /* NULL where the channels stay as they are */
};

/* time_width 0: no time embedding. Names: norm1 conv1 time_emb_proj norm2 conv2 conv_shortcut. */
void sdw_resnet_load(struct sdw_resnet *resnet, struct sdw_loader *loader, int in, int out,
                     int time_width, int groups, float epsilon);

/* Returns a new tensor [n,h,w,channels] of the stream type. `in` is freed as early as can be, or
 * becomes the result, unless `keep`; it may be of the compute type where there is a shortcut. time
 * [n,1,1,time_width]: silu of the time embedding, of the compute type; NULL in a VAE. */
struct sdw_tensor sdw_resnet_forward(struct sdw_device *dev, const struct sdw_resnet *resnet,
                                     struct sdw_tensor in, bool keep,
                                     const struct sdw_tensor *time);

/* conv(in) of `dtype`, h x w, where conv was packed with sdw_conv_doubled. Frees `in`, unless
 * `keep`.
 */
struct sdw_tensor sdw_upsample_forward(struct sdw_device *dev, const struct sdw_weight *conv,
                                       struct sdw_tensor in, bool keep, int h, int w,
                                       enum sdw_dtype dtype);

#endif
