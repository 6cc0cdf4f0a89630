/* resnet.c: what lies between the two convolutions is read only by a norm, so it is kept in the
 * compute type; what is added up from block to block is kept in the stream type. The order of the
 * first lines is the one with the lowest peak of memory: at most three tensors live at a time. */
#include "nn/resnet.h"

#include "nn/layers.h"
#include "tensor/weight.h"

#include <assert.h>

void sdw_resnet_load(struct sdw_resnet *resnet, struct sdw_loader *loader, int in, int out,
                     int time_width, int groups, float epsilon)
{
    *resnet = (struct sdw_resnet){.channels = out};
    resnet->norm1 = sdw_load_norm(loader, "norm1", in, groups, epsilon);
    resnet->conv1 = sdw_load_conv(loader, "conv1", in, out, 3, sdw_conv_same(3));
    if (time_width > 0)
        resnet->time = sdw_load_linear(loader, "time_emb_proj", time_width, out, SDW_BIAS);
    resnet->norm2 = sdw_load_norm(loader, "norm2", out, groups, epsilon);
    resnet->conv2 = sdw_load_conv(loader, "conv2", out, out, 3, sdw_conv_same(3));
    if (in != out)
        resnet->shortcut = sdw_load_linear(loader, "conv_shortcut", in, out, SDW_BIAS);
}

/* What the second convolution's result is added to. */
static struct sdw_tensor shortcut_forward(struct sdw_device *dev, const struct sdw_resnet *resnet,
                                          struct sdw_tensor *in, bool keep)
{
    if (!resnet->shortcut)
        return *in;
    struct sdw_tensor x = sdw_operand(dev, in); /* [n,h,w,in] */
    if (!keep && x.data != in->data)
        sdw_tensor_free(dev, in);
    struct sdw_tensor out = sdw_linear_new(dev, resnet->shortcut, &x, SDW_ACT_NONE, dev->stream);
    if (!keep || x.data != in->data)
        sdw_tensor_free(dev, &x);
    return out;
}

struct sdw_tensor sdw_resnet_forward(struct sdw_device *dev, const struct sdw_resnet *resnet,
                                     struct sdw_tensor in, bool keep, const struct sdw_tensor *time)
{
    assert(resnet->shortcut || in.dtype == dev->stream);
    struct sdw_tensor h = sdw_group_norm_new(dev, &resnet->norm1, &in, SDW_ACT_SILU, NULL);
    struct sdw_tensor hidden = sdw_conv_new(dev, resnet->conv1, &h, dev->compute);
    sdw_tensor_free(dev, &h);
    struct sdw_tensor sum = shortcut_forward(dev, resnet, &in, keep); /* [n,h,w,channels] */

    struct sdw_tensor t = {0}; /* [n,1,1,channels] */
    if (resnet->time)
        t = sdw_linear_new(dev, resnet->time, time, SDW_ACT_NONE, dev->compute);
    h = sdw_group_norm_new(dev, &resnet->norm2, &hidden, SDW_ACT_SILU, resnet->time ? &t : NULL);
    sdw_tensor_free(dev, &t);
    sdw_tensor_free(dev, &hidden);

    struct sdw_tensor out = sum;
    if (keep && !resnet->shortcut)
        out = sdw_tensor_new(dev, dev->stream, in.n, in.h, in.w, resnet->channels);
    sdw_conv2d(dev, &out, &h, resnet->conv2, &sum);
    sdw_tensor_free(dev, &h);
    return out;
}

struct sdw_tensor sdw_upsample_forward(struct sdw_device *dev, const struct sdw_weight *conv,
                                       struct sdw_tensor in, bool keep, int h, int w,
                                       enum sdw_dtype dtype)
{
    struct sdw_tensor x = keep ? sdw_operand(dev, &in) : sdw_operand_take(dev, &in);
    struct sdw_tensor out = sdw_tensor_new(dev, dtype, in.n, h, w, conv->out);
    sdw_conv2d(dev, &out, &x, conv, NULL);
    if (keep)
        sdw_operand_free(dev, &x, &in);
    else
        sdw_tensor_free(dev, &x);
    return out;
}
