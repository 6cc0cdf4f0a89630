/* cuda.h: an NVIDIA GPU as a device.
 *
 * The kernels (*.cu) are compiled for every architecture that the toolkit knows and travel inside
 * the program; beside each family stands its launcher in C. The driver, cuBLASLt and cuDNN are
 * opened when the device is (driver.h, cublas.h, cudnn.h): where the libraries are missing or
 * decline, our own kernels run, and `--isa own` asks for those alone. Everything is queued on one
 * stream, in order; the host waits for downloads and for sync.
 *
 * f16 and bf16 compute with f32 sums; the residual stream is f32, so that neither seventy additions
 * nor a VAE's large activations lose what they have. */
#ifndef SDW_BACKEND_CUDA_CUDA_H
#define SDW_BACKEND_CUDA_CUDA_H

#include "backend/cuda/args.h"
#include "backend/cuda/driver.h"
#include "tensor/backend.h"
#include "tensor/weight.h"

extern const struct sdw_backend sdw_backend_cuda;

enum sdw_cuda_kernel {
#define SDW_CUDA_KERNEL(name, arguments, file) SDW_CUDA_KERNEL_##name,
    SDW_CUDA_KERNELS(SDW_CUDA_KERNEL)
#undef SDW_CUDA_KERNEL
        SDW_CUDA_KERNEL_COUNT
};

enum sdw_cuda_file {
    SDW_CUDA_FILE_pointwise,
    SDW_CUDA_FILE_norm,
    SDW_CUDA_FILE_matrix,
    SDW_CUDA_FILE_attention,
    SDW_CUDA_FILE_measure,
    SDW_CUDA_FILE_COUNT
};

#define SDW_CUDA_WORKSPACE_BYTES ((size_t)64 << 20) /* for an operator, on the device */
#define SDW_CUDA_STAGING_BYTES   ((size_t)16 << 20) /* pinned; there are two */

struct sdw_cublas;
struct sdw_cudnn;

struct sdw_cuda {
    struct sdw_device base;
    struct sdw_cuda_driver driver;
    struct sdw_cuda_card card;
    CUcontext context; /* the primary one, which the libraries share */
    CUstream stream;
    CUmodule module[SDW_CUDA_FILE_COUNT];
    CUfunction function[SDW_CUDA_KERNEL_COUNT];
    unsigned shared_allowed[SDW_CUDA_KERNEL_COUNT]; /* bytes; above 48 KB must be asked for */
    void *workspace; /* on the device, for the length of one operator: the stream keeps order */
    struct sdw_cuda_staging {
        void *host;
        CUevent done; /* the last copy from here */
    } staging[2];
    int next_staging;
    struct sdw_cublas *cublas; /* NULL where our own kernels multiply */
    struct sdw_cudnn *cudnn;   /* NULL where our own kernels convolve */
    size_t peak_bytes;         /* of the GPU that were seen in use */
    bool recording;            /* what is queued is written down: nobody may wait or allocate */
};

struct sdw_cuda_weight {
    struct sdw_weight base;
    void *weight;      /* [o][i], of a convolution [o][k][k][i], in the compute type */
    float *bias;       /* [o], zeros where the layer has none; behind the weight */
    void *bias_narrow; /* the same in the compute type; of f32 the same address */
};

struct sdw_cuda_grid {
    int64_t x;
    int y, z, threads;
    size_t shared_bytes;
};

/* device.c */

/* Makes the context this thread's. To be called before any call of the driver. */
void sdw_cuda_enter(const struct sdw_cuda *cuda);

/* True when the driver's call went well; otherwise the device has failed: SDW_MEMORY for memory,
 * SDW_DEVICE for the rest. `what`: "waiting for the GPU". */
bool sdw_cuda_ok(struct sdw_device *dev, CUresult result, const char *what);

/* Queues a kernel with its structure of args.h. */
void sdw_cuda_launch(struct sdw_device *dev, enum sdw_cuda_kernel kernel, struct sdw_cuda_grid grid,
                     const void *arguments);

/* memory.c */
void *sdw_cuda_buffer_new(struct sdw_device *dev, size_t bytes);
void sdw_cuda_buffer_free(struct sdw_device *dev, void *buffer);
void sdw_cuda_upload(struct sdw_device *dev, void *to, const void *from_host, size_t bytes);
void sdw_cuda_download(struct sdw_device *dev, void *to_host, const void *from, size_t bytes);
size_t sdw_cuda_memory_free(struct sdw_device *dev);
size_t sdw_cuda_memory_peak(struct sdw_device *dev);

/* For a trial: 0, and no failure of the device, where there is none; the driver's cuMemFree. */
CUdeviceptr sdw_cuda_memory_new(struct sdw_cuda *cuda, size_t bytes);

/* record.c */
void sdw_cuda_record_begin(struct sdw_device *dev);
void *sdw_cuda_record_end(struct sdw_device *dev);
void sdw_cuda_record_play(struct sdw_device *dev, void *tape);
void sdw_cuda_record_free(struct sdw_device *dev, void *tape);

/* limits.c */
void sdw_cuda_limits(struct sdw_device *dev, struct sdw_limits *limits);

/* weight.c */
struct sdw_weight *sdw_cuda_pack_linear(struct sdw_device *dev, const struct sdw_array *weight,
                                        const struct sdw_array *bias);
struct sdw_weight *sdw_cuda_pack_conv(struct sdw_device *dev, const struct sdw_array *weight,
                                      const struct sdw_array *bias,
                                      struct sdw_conv_geometry geometry);
void sdw_cuda_weight_free(struct sdw_device *dev, struct sdw_weight *weight);

/* The rows: matrix.c, attention.c, norm.c, pointwise.c. */
#define SDW_CUDA_ROW(row, arguments) void sdw_cuda_##row arguments;
SDW_OPS_TABLE(SDW_CUDA_ROW)
#undef SDW_CUDA_ROW

/* matrix.c, attention.c: by our own kernels, whatever cuDNN says. */
void sdw_cuda_conv2d_own(struct sdw_device *dev, const struct sdw_tensor *out,
                         const struct sdw_tensor *in, const struct sdw_weight *weight,
                         const struct sdw_tensor *residual);

void sdw_cuda_attention_own(struct sdw_device *dev, const struct sdw_tensor *out,
                            const struct sdw_tensor *q, const struct sdw_tensor *k,
                            const struct sdw_tensor *v, struct sdw_attention_geometry geometry);

static inline CUdeviceptr sdw_cuda_address(const void *pointer)
{
    return (CUdeviceptr)(uintptr_t)pointer;
}

/* Elements that a thread moves at a time in rows of c. */
static inline int sdw_cuda_width(int c)
{
    return c % 8 == 0 ? 8 : 1;
}

#endif
