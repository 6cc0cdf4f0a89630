/* cudnn_graph.h: a convolution as cuDNN sees it: out = conv(in, weight) + bias + residual as a
 * graph of operations, and the library's plans for that graph. Nothing here runs anything: plans
 * can be made without a GPU, too, for one that a text describes
 * (tests/cuda_host/test_cudnn_plans.c). */
#ifndef SDW_BACKEND_CUDA_CUDNN_GRAPH_H
#define SDW_BACKEND_CUDA_CUDNN_GRAPH_H

#include "tensor/tensor.h"

#include <cudnn_graph.h>
#include <stdbool.h>
#include <stddef.h>

#define SDW_CUDNN_TABLE(X)                                                                         \
    X(cudnnCreate)                                                                                 \
    X(cudnnDestroy)                                                                                \
    X(cudnnGetVersion)                                                                             \
    X(cudnnGetErrorString)                                                                         \
    X(cudnnSetStream)                                                                              \
    X(cudnnBackendCreateDescriptor)                                                                \
    X(cudnnBackendDestroyDescriptor)                                                               \
    X(cudnnBackendSetAttribute)                                                                    \
    X(cudnnBackendGetAttribute)                                                                    \
    X(cudnnBackendFinalize)                                                                        \
    X(cudnnBackendExecute)

struct sdw_cudnn_api {
    void *library;
#define SDW_CUDNN_MEMBER(name) __typeof__(name) *name;
    SDW_CUDNN_TABLE(SDW_CUDNN_MEMBER)
#undef SDW_CUDNN_MEMBER
};

/* Opens libcudnn.so.9, or what the environment's SDW_CUDA_CUDNN names. NULL when all is well, else
 * what is wrong: "is not on this machine". */
const char *sdw_cudnn_api_open(struct sdw_cudnn_api *api);
void sdw_cudnn_api_close(struct sdw_cudnn_api *api);

/* out = conv(in, weight) + bias + residual: in [n,h,w,in], weight [out,kernel,kernel,in] of the
 * compute type, bias [out] f32, residual and out [n,oh,ow,out] of out_type; sums and what lies
 * between the operations f32. */
struct sdw_cudnn_shape {
    int n, h, w, in, out, oh, ow;
    int kernel, stride, top, left, bottom, right;
    enum sdw_dtype compute, out_type;
    bool residual;
};

/* out = softmax(scale q k^T) v by head: q and out [n,queries,heads*width], k and v likewise of
 * keys; the scale is an f32 of the host. */
struct sdw_cudnn_heads {
    int n, queries, keys, heads, width;
    enum sdw_dtype compute;
};

/* The operands of a plan, by the names that its graph gives them. */
enum {
    SDW_CUDNN_IN = 1,
    SDW_CUDNN_WEIGHT,
    SDW_CUDNN_BIAS,
    SDW_CUDNN_RESIDUAL,
    SDW_CUDNN_QUERY,
    SDW_CUDNN_KEY,
    SDW_CUDNN_VALUE,
    SDW_CUDNN_SCALE,
    SDW_CUDNN_OUT,
};

/* For whom plans are made: a handle, of an open GPU; or a description of one. */
struct sdw_cudnn_target {
    cudnnHandle_t handle;
    cudnnBackendDescriptor_t device; /* NULL, or instead of a handle */
};

struct sdw_cudnn_plan {
    cudnnBackendDescriptor_t plan, config; /* the plan reads its configuration; NULL: none */
    size_t workspace_bytes;
    int engine; /* as the library numbers them */
};

/* The library's proposals for a shape, those that it expects to be fastest first, made ready to
 * run: at most `max`, with at most that much work space, and none whose result differs from run to
 * run or whose sums are not f32. The library compiles, for some tenths of a second a plan: after a
 * second there is no further one. Returns how many. */
int sdw_cudnn_plans_convolve(struct sdw_cudnn_plan *plans, int max, const struct sdw_cudnn_api *api,
                             const struct sdw_cudnn_target *target,
                             const struct sdw_cudnn_shape *shape, size_t workspace_bytes_max);
int sdw_cudnn_plans_attend(struct sdw_cudnn_plan *plans, int max, const struct sdw_cudnn_api *api,
                           const struct sdw_cudnn_target *target,
                           const struct sdw_cudnn_heads *heads, size_t workspace_bytes_max);
/* A plan as the library writes it, with what it compiled: *length bytes, owned by the caller; NULL
 * where it cannot. */
char *sdw_cudnn_plan_text(const struct sdw_cudnn_plan *plan, const struct sdw_cudnn_api *api,
                          size_t *length);
/* The plan of such a text, as the same library would have made it for the same GPU. */
bool sdw_cudnn_plan_restore(struct sdw_cudnn_plan *plan, const struct sdw_cudnn_api *api,
                            const struct sdw_cudnn_target *target, const char *text, size_t length,
                            size_t workspace_bytes_max);
void sdw_cudnn_plan_free(struct sdw_cudnn_plan *plan, const struct sdw_cudnn_api *api);

#endif
