/* cublas.h: linear layers through cuBLASLt, opened when the program runs. For every shape the
 * library's proposals are timed at first use, and the fastest is remembered. */
#ifndef SDW_BACKEND_CUDA_CUBLAS_H
#define SDW_BACKEND_CUDA_CUBLAS_H

#include "backend/cuda/cuda.h"

/* NULL, with a line in the log, where the library is missing or does not start. */
struct sdw_cublas *sdw_cublas_open(const struct sdw_cuda *cuda);
void sdw_cublas_close(struct sdw_cublas *cublas); /* NULL is allowed */

const char *sdw_cublas_version(const struct sdw_cublas *cublas); /* "cuBLASLt 13.0" */

/* out [..,o] = in [..,i] . W^T + b + residual, queued. False, with nothing done, where the library
 * is not there or declines the shape. */
bool sdw_cublas_linear(struct sdw_device *dev, const struct sdw_tensor *out,
                       const struct sdw_tensor *in, const struct sdw_cuda_weight *weight,
                       const struct sdw_tensor *residual);

#endif
