/* layers.c: a scratch tensor of the right shape, then the operator. */
#include "nn/layers.h"

#include "tensor/weight.h"

struct sdw_tensor sdw_linear_new(struct sdw_device *dev, const struct sdw_weight *weight,
                                 const struct sdw_tensor *in, enum sdw_act act,
                                 enum sdw_dtype dtype)
{
    struct sdw_tensor out = sdw_tensor_new(dev, dtype, in->n, in->h, in->w, weight->out);
    sdw_linear(dev, &out, in, weight, act, NULL);
    return out;
}

struct sdw_tensor sdw_conv_new(struct sdw_device *dev, const struct sdw_weight *weight,
                               const struct sdw_tensor *in, enum sdw_dtype dtype)
{
    const struct sdw_conv_geometry *g = &weight->geometry;
    int h = (in->h + g->top + g->bottom - weight->kernel) / g->stride + 1;
    int w = (in->w + g->left + g->right - weight->kernel) / g->stride + 1;
    struct sdw_tensor out = sdw_tensor_new(dev, dtype, in->n, h, w, weight->out);
    sdw_conv2d(dev, &out, in, weight, NULL);
    return out;
}

struct sdw_tensor sdw_group_norm_new(struct sdw_device *dev, const struct sdw_norm *norm,
                                     const struct sdw_tensor *in, enum sdw_act act,
                                     const struct sdw_tensor *add)
{
    struct sdw_tensor out = sdw_tensor_new(dev, dev->compute, in->n, in->h, in->w, in->c);
    sdw_group_norm(dev, &out, in, norm, act, add);
    return out;
}

struct sdw_tensor sdw_layer_norm_new(struct sdw_device *dev, const struct sdw_norm *norm,
                                     const struct sdw_tensor *in)
{
    struct sdw_tensor out = sdw_tensor_new(dev, dev->compute, in->n, in->h, in->w, in->c);
    sdw_layer_norm(dev, &out, in, norm);
    return out;
}

struct sdw_tensor sdw_upload_new(struct sdw_device *dev, const float *from_host, int n, int h,
                                 int w, int c)
{
    struct sdw_tensor to = sdw_tensor_new(dev, SDW_F32, n, h, w, c);
    sdw_upload(dev, &to, from_host);
    return to;
}

struct sdw_tensor sdw_operand(struct sdw_device *dev, const struct sdw_tensor *in)
{
    if (in->dtype == dev->compute)
        return *in;
    struct sdw_tensor out = sdw_tensor_new(dev, dev->compute, in->n, in->h, in->w, in->c);
    sdw_cast(dev, &out, in);
    return out;
}

void sdw_operand_free(struct sdw_device *dev, struct sdw_tensor *operand,
                      const struct sdw_tensor *in)
{
    if (operand->data != in->data)
        sdw_tensor_free(dev, operand);
}

struct sdw_tensor sdw_operand_take(struct sdw_device *dev, struct sdw_tensor *in)
{
    struct sdw_tensor out = sdw_operand(dev, in);
    if (out.data != in->data)
        sdw_tensor_free(dev, in);
    return out;
}
