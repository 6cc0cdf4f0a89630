/* matrix.c: linear layers and convolutions: to cuBLASLt and cuDNN where they take them, else to
 * matrix.cu. */
#include "backend/cuda/cublas.h"
#include "backend/cuda/cudnn.h"

#define BLOCK_16 128 /* rows and columns of out that a block makes: matrix.cu */
#define BLOCK_32 64
#define SHARED_16                                                                                  \
    (4 * BLOCK_16 * 40 * 2) /* bytes: two sides of two operands, 40 elements a row                 \
                             */

static bool aligned(const void *pointer)
{
    return (uintptr_t)pointer % 16 == 0;
}

/* Fills what follows from the operands, and runs the kernel of the compute type. */
static void multiply(struct sdw_device *dev, struct sdw_cuda_matrix *a,
                     const struct sdw_tensor *out, const struct sdw_tensor *in,
                     const struct sdw_cuda_weight *w, const struct sdw_tensor *residual)
{
    a->out = out->data;
    a->in = in->data;
    a->weight = w->weight;
    a->bias = w->bias;
    a->residual = residual ? residual->data : NULL;
    a->rows = sdw_tensor_rows(out);
    a->out_type = (int)out->dtype;
    a->i = in->c;
    a->o = out->c;
    a->vector = in->c % 8 == 0 && aligned(in->data);
    bool wide = dev->compute == SDW_F32;
    int block = wide ? BLOCK_32 : BLOCK_16;
    struct sdw_cuda_grid grid = {(a->rows + block - 1) / block, (out->c + block - 1) / block, 1,
                                 256, wide ? 0 : SHARED_16};
    enum sdw_cuda_kernel kernel = wide                      ? SDW_CUDA_KERNEL_matrix_f32
                                  : dev->compute == SDW_F16 ? SDW_CUDA_KERNEL_matrix_f16
                                                            : SDW_CUDA_KERNEL_matrix_bf16;
    sdw_cuda_launch(dev, kernel, grid, a);
}

void sdw_cuda_linear(struct sdw_device *dev, const struct sdw_tensor *out,
                     const struct sdw_tensor *in, const struct sdw_weight *weight, enum sdw_act act,
                     const struct sdw_tensor *residual)
{
    const struct sdw_cuda_weight *w = (const struct sdw_cuda_weight *)weight;
    /* cuBLASLt's epilogue adds a residual before an activation; the row adds it after. */
    if ((act == SDW_ACT_NONE || !residual) && sdw_cublas_linear(dev, out, in, w, residual)) {
        if (act != SDW_ACT_NONE)
            sdw_cuda_act(dev, out, out, act);
        return;
    }
    struct sdw_cuda_matrix a = {
        .act = (int)act, .kernel = 1, .stride = 1, .h = 1, .w = 1, .oh = 1, .ow = 1};
    multiply(dev, &a, out, in, w, residual);
}

void sdw_cuda_conv2d_own(struct sdw_device *dev, const struct sdw_tensor *out,
                         const struct sdw_tensor *in, const struct sdw_weight *weight,
                         const struct sdw_tensor *residual)
{
    const struct sdw_cuda_weight *w = (const struct sdw_cuda_weight *)weight;
    const struct sdw_conv_geometry *g = &weight->geometry;
    struct sdw_cuda_matrix a = {.act = SDW_ACT_NONE,
                                .kernel = weight->kernel,
                                .stride = g->stride,
                                .top = g->top,
                                .left = g->left,
                                .h = g->doubled ? out->h : in->h,
                                .w = g->doubled ? out->w : in->w,
                                .oh = out->h,
                                .ow = out->w,
                                .doubled = g->doubled};
    multiply(dev, &a, out, in, w, residual);
}

void sdw_cuda_conv2d(struct sdw_device *dev, const struct sdw_tensor *out,
                     const struct sdw_tensor *in, const struct sdw_weight *weight,
                     const struct sdw_tensor *residual)
{
    const struct sdw_cuda_weight *w = (const struct sdw_cuda_weight *)weight;
    if (!sdw_cudnn_conv2d(dev, out, in, w, residual))
        sdw_cuda_conv2d_own(dev, out, in, weight, residual);
}
