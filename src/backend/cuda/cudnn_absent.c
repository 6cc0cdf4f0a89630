/* cudnn_absent.c: in cudnn.c's place where this program is built without cuDNN's headers. */
#include "backend/cuda/cudnn.h"

struct sdw_cudnn *sdw_cudnn_open(const struct sdw_cuda *cuda)
{
    (void)cuda;
    return NULL;
}

void sdw_cudnn_close(struct sdw_cudnn *cudnn)
{
    (void)cudnn;
}

const char *sdw_cudnn_version(const struct sdw_cudnn *cudnn)
{
    (void)cudnn;
    return "none";
}

bool sdw_cudnn_conv2d(struct sdw_device *dev, const struct sdw_tensor *out,
                      const struct sdw_tensor *in, const struct sdw_cuda_weight *weight,
                      const struct sdw_tensor *residual)
{
    (void)dev, (void)out, (void)in, (void)weight, (void)residual;
    return false;
}

bool sdw_cudnn_attention(struct sdw_device *dev, const struct sdw_tensor *out,
                         const struct sdw_tensor *q, const struct sdw_tensor *k,
                         const struct sdw_tensor *v, struct sdw_attention_geometry geometry)
{
    (void)dev, (void)out, (void)q, (void)k, (void)v, (void)geometry;
    return false;
}
