/* metal.h: an Apple GPU as a device, by kernels of our own in Metal Shading Language.
 *
 * The kernels (*.metal) are embedded in the program as one text and compiled when the device opens;
 * beside each family stands its launcher in C. Storage is f32, f16 or bf16, sums are f32, the
 * residual stream is f32. Memory is shared between processor and GPU: an address of the device is
 * an address of the host, and upload and download are copies after a wait. */
#ifndef SDW_BACKEND_METAL_METAL_H
#define SDW_BACKEND_METAL_METAL_H

#include "backend/metal/objc.h"
#include "backend/metal/params.h"
#include "tensor/backend.h"
#include "tensor/weight.h"

extern const struct sdw_backend sdw_backend_metal;

/* The kernels by the names that they have in the source. */
#define SDW_METAL_KERNELS(X)                                                                       \
    X(act)                                                                                         \
    X(add)                                                                                         \
    X(attention_f32)                                                                               \
    X(attention_narrow)                                                                            \
    X(concat)                                                                                      \
    X(embed)                                                                                       \
    X(geglu)                                                                                       \
    X(matrix_f32)                                                                                  \
    X(matrix_narrow)                                                                               \
    X(norm)
/* And those that only GPUs with simdgroup matrices have. */
#define SDW_METAL_KERNELS_SIMDGROUPS(X)                                                            \
    X(attention_simdgroups_f32)                                                                    \
    X(attention_simdgroups_narrow)

enum sdw_metal_kernel {
#define SDW_METAL_KERNEL(name) SDW_METAL_KERNEL_##name,
    SDW_METAL_KERNELS(SDW_METAL_KERNEL) SDW_METAL_KERNELS_SIMDGROUPS(SDW_METAL_KERNEL)
#undef SDW_METAL_KERNEL
        SDW_METAL_KERNEL_COUNT,
    SDW_METAL_KERNEL_COUNT_PLAIN = SDW_METAL_KERNEL_attention_simdgroups_f32 /* before the first */
};

/* A command buffer holds what is queued until somebody waits, which is a step of a model, but no
 * more than this. The system ends a command buffer that keeps the GPU from the screen for seconds
 * (MTLCommandBufferErrorTimeout): hence a bound of the floating-point operations, which a step of
 * SD 1.5 at 512 x 512 with guidance, 1.6e12, is within. A GPU without simdgroup matrices is an
 * older and mostly slower one. The second bound is of the memory that encoded dispatches take. */
#define SDW_METAL_OPERATIONS_MAX        2e12
#define SDW_METAL_OPERATIONS_MAX_SLOWER 2.5e11
#define SDW_METAL_DISPATCHES_MAX        4096
#define SDW_METAL_IN_FLIGHT_MAX         8 /* committed command buffers that were not waited for */

struct sdw_metal {
    struct sdw_device base;
    struct sdw_objc objc;
    void *device, *queue; /* id<MTLDevice>, id<MTLCommandQueue> */
    void *pipeline[SDW_METAL_KERNEL_COUNT];
    unsigned long group_bytes_max, buffer_bytes_max;
    bool simdgroups;                   /* matrices are multiplied by simdgroups */
    bool unified;                      /* processor and GPU have one memory */
    void *commands, *encoder;          /* what is being encoded, or NULL */
    int encoded;                       /* dispatches in it */
    double operations, operations_max; /* in it, and in any */
    void *in_flight[SDW_METAL_IN_FLIGHT_MAX];
    int in_flight_count;
    struct sdw_metal_buffer {
        char *contents;
        size_t bytes;
        void *object; /* id<MTLBuffer> */
        size_t lead;  /* of contents in the object, which begins at a page */
    } * buffer;       /* by address */
    int buffers, buffers_room;
};

struct sdw_metal_weight {
    struct sdw_weight base;
    char *weight; /* [o][i], of a convolution [o][k][k][i], in the compute type */
    float *bias;  /* [o] */
    char *own;    /* the buffer of both, or of the bias alone where the weight is mapped */
    struct sdw_mapping *mapping; /* NULL, or the file in which the weight lies; held */
};

/* One run of a kernel. */
struct sdw_metal_dispatch {
    enum sdw_metal_kernel kernel;
    const void *buffer[5]; /* addresses of the device, in the kernel's order */
    int buffers;
    const void *params; /* the argument after the buffers */
    size_t params_bytes;
    size_t group_bytes; /* memory of a group; 0: the kernel takes none */
    size_t groups_x, groups_y, groups_z;
    double operations; /* of matrix products, which take the time; half a multiply-add each */
};

/* device.c: queues it; in order. */
void sdw_metal_run(struct sdw_device *dev, const struct sdw_metal_dispatch *dispatch);

/* memory.c */
void *sdw_metal_buffer_new(struct sdw_device *dev, size_t bytes);
/* A buffer over the pages in which `data` lie: nothing is copied, and they must outlive it. Gives
 * data, or NULL without failing the device: where the GPU has its own memory, where another buffer
 * has some of these bytes, or where Metal does not take these pages. */
char *sdw_metal_buffer_map(struct sdw_device *dev, const void *data, size_t bytes);
void sdw_metal_buffer_free(struct sdw_device *dev, void *buffer);
/* The buffer that holds an address, or NULL. */
const struct sdw_metal_buffer *sdw_metal_buffer_of(const struct sdw_metal *metal,
                                                   const void *address);
size_t sdw_metal_memory_free(struct sdw_device *dev);

/* weight.c */
struct sdw_weight *sdw_metal_pack_linear(struct sdw_device *dev, const struct sdw_array *weight,
                                         const struct sdw_array *bias);
struct sdw_weight *sdw_metal_pack_conv(struct sdw_device *dev, const struct sdw_array *weight,
                                       const struct sdw_array *bias,
                                       struct sdw_conv_geometry geometry);
void sdw_metal_weight_free(struct sdw_device *dev, struct sdw_weight *weight);

/* The rows: matrix.c, attention.c, norm.c, pointwise.c. */
#define SDW_METAL_ROW(row, arguments) void sdw_metal_##row arguments;
SDW_OPS_TABLE(SDW_METAL_ROW)
#undef SDW_METAL_ROW

/* The kernels' source, embedded at build time (cmake/embed.cmake); ends with a NUL. */
extern const unsigned char sdw_metal_source[];
extern const size_t sdw_metal_source_length; /* without the NUL */

#endif
