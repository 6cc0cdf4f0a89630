/* cudnn.h: convolutions through cuDNN 9, opened when the program runs. For every shape the
 * library's proposals and our own kernel are timed at first use, and the fastest is remembered; a
 * proposal whose result is not our kernel's is dropped. In f16 and bf16 alone: the library's f32
 * may round to TF32. */
#ifndef SDW_BACKEND_CUDA_CUDNN_H
#define SDW_BACKEND_CUDA_CUDNN_H

#include "backend/cuda/cuda.h"

/* NULL, with a line in the log, where the library is missing or does not start. */
struct sdw_cudnn *sdw_cudnn_open(const struct sdw_cuda *cuda);
void sdw_cudnn_close(struct sdw_cudnn *cudnn); /* NULL is allowed; after all recordings */

const char *sdw_cudnn_version(const struct sdw_cudnn *cudnn); /* "cuDNN 9.19" */

/* out [n,oh,ow,o] = conv(in [n,h,w,i]) + b + residual, queued. False, with nothing done, where our
 * own kernel should: the library is not there, declines the shape, or is slower. */
bool sdw_cudnn_conv2d(struct sdw_device *dev, const struct sdw_tensor *out,
                      const struct sdw_tensor *in, const struct sdw_cuda_weight *weight,
                      const struct sdw_tensor *residual);

/* out [n,queries,c] = softmax(scale q k^T) v by head, queued. False as above, and for causal ones.
 */
bool sdw_cudnn_attention(struct sdw_device *dev, const struct sdw_tensor *out,
                         const struct sdw_tensor *q, const struct sdw_tensor *k,
                         const struct sdw_tensor *v, struct sdw_attention_geometry geometry);

#endif
