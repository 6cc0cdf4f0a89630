/* ops.h: THE table of operators. A device is one filled copy of it; models call the functions below
 * and never learn which device they run on.
 *
 * Rules for every row
 * - Activations are NHWC (tensor.h). Destination first. Operands never overlap, except where a line
 * says so.
 * - Two element types carry a model: the device's `stream` type (the residual stream: long sums,
 * kept precise) and its `compute` type (what matrix products read). In f32 both are f32; in bf16 on
 * a CPU the stream is f32. Unless a line says otherwise inputs and outputs may be either of the
 * two; sums are kept in f32.
 * - Rows compute eagerly or queue work in order. A row that fails calls sdw_device_fail; the device
 * keeps its first failure, every later call does nothing, and sdw_sync returns it: a forward pass
 * reads as mathematics.
 * - Shapes are the caller's promise: the functions below assert them once, for all devices. */
#ifndef SDW_TENSOR_OPS_H
#define SDW_TENSOR_OPS_H

#include "base/status.h"
#include "tensor/tensor.h"

#include <stdbool.h>

struct sdw_device;
struct sdw_weight; /* a packed linear or convolution weight with its bias, in whatever form the
                      device likes */

enum sdw_act { SDW_ACT_NONE, SDW_ACT_SILU, SDW_ACT_GELU, SDW_ACT_QUICK_GELU, SDW_ACT_COUNT };
/* silu x*sigmoid(x); gelu x/2*(1+erf(x/sqrt 2)); quick_gelu x*sigmoid(1.702 x) (OpenAI CLIP) */

struct sdw_conv_geometry {
    int stride;                   /* 1 or 2 */
    int top, left, bottom, right; /* zero padding, pixels */
    /* The picture is read at twice its size: pixel (y, x) is in's (y/2, x/2), nearest neighbour;
     * out is [n, 2h or 2h-1, 2w or 2w-1, o]. A 3x3 kernel, stride 1, padding 1 all round. */
    bool doubled;
};

struct sdw_attention_geometry {
    int heads;
    float scale; /* on q.k, before the softmax; over 0, usually 1/sqrt(width of a head) */
    bool causal; /* token i sees tokens 0..i only */
};

struct sdw_norm {
    const float *weight, *bias; /* [c] f32 on the device */
    float epsilon;
    int groups; /* group_norm only */
};

/* X(name, arguments after the device) */
#define SDW_OPS_TABLE(X)                                                                           \
    /* out [..,o] = act(in [..,i] . W^T + b) + residual. in: compute type. out and residual: one   \
     * type, either. residual may be NULL, or be out itself: h += f(x) without a copy. */          \
    X(linear,                                                                                      \
      (struct sdw_device * dev, const struct sdw_tensor *out, const struct sdw_tensor *in,         \
       const struct sdw_weight *weight, enum sdw_act act, const struct sdw_tensor *residual))      \
    /* out [n,oh,ow,o] = conv(in [n,h,w,i]) + b + residual, kernel and geometry as packed. Types   \
     * and residual as for linear. oh = (h + top + bottom - kernel)/stride + 1. */                 \
    X(conv2d, (struct sdw_device * dev, const struct sdw_tensor *out, const struct sdw_tensor *in, \
               const struct sdw_weight *weight, const struct sdw_tensor *residual))                \
    /* out [n,q,heads*d] = softmax(scale q k^T) v by head; q [n,lq,heads*d], k and v [n,lk,..], l  \
     * = h*w. The softmax is in f32; the score matrix is never stored. All of the compute type. */ \
    X(attention, (struct sdw_device * dev, const struct sdw_tensor *out,                           \
                  const struct sdw_tensor *q, const struct sdw_tensor *k,                          \
                  const struct sdw_tensor *v, struct sdw_attention_geometry geometry))             \
    /* out = act(norm(in + add)), mean and variance over the pixels and the channels of a group    \
     * (Wu and He 2018). add [n,1,1,c], the time embedding of a resnet block, may be NULL; out may \
     * be in where they have one type. */                                                          \
    X(group_norm,                                                                                  \
      (struct sdw_device * dev, const struct sdw_tensor *out, const struct sdw_tensor *in,         \
       const struct sdw_norm *norm, enum sdw_act act, const struct sdw_tensor *add))               \
    /* out = norm(in), mean and variance over the channels of each row (Ba et al. 2016). */        \
    X(layer_norm, (struct sdw_device * dev, const struct sdw_tensor *out,                          \
                   const struct sdw_tensor *in, const struct sdw_norm *norm))                      \
    /* out [..,c] = in [..,0:c] * gelu(in [..,c:2c]) (Shazeer 2020). */                            \
    X(geglu, (struct sdw_device * dev, const struct sdw_tensor *out, const struct sdw_tensor *in)) \
    /* out = act(in); out may be in. */                                                            \
    X(act, (struct sdw_device * dev, const struct sdw_tensor *out, const struct sdw_tensor *in,    \
            enum sdw_act act))                                                                     \
    /* out = a + b; b's n, or its n, h and w, may be 1: it is repeated. out may be a. */           \
    X(add, (struct sdw_device * dev, const struct sdw_tensor *out, const struct sdw_tensor *a,     \
            const struct sdw_tensor *b))                                                           \
    /* out [n,h,w,ca+cb] = a [n,h,w,ca] beside b [n,h,w,cb]; types may differ. */                  \
    X(concat, (struct sdw_device * dev, const struct sdw_tensor *out, const struct sdw_tensor *a,  \
               const struct sdw_tensor *b))                                                        \
    /* out [n,t,1,c] = table [1,rows,1,c] at ids [n,t,1,1] (I32, on the device), 0 <= id < rows.   \
     */                                                                                            \
    X(embed, (struct sdw_device * dev, const struct sdw_tensor *out,                               \
              const struct sdw_tensor *table, const struct sdw_tensor *ids))                       \
    /* out = in, in another element type (or the same: a copy). */                                 \
    X(cast, (struct sdw_device * dev, const struct sdw_tensor *out, const struct sdw_tensor *in))

/* The most that a device does a second: what `bench --limit` measures everything against. */
struct sdw_limits {
    double f32_operations;     /* an operation is half a multiply-add */
    double compute_operations; /* in the device's compute type */
    double read_bytes;         /* from memory that no cache holds */
};

struct sdw_ops {
    const char *name; /* "cpu", "cuda", "metal", "trace" */
    bool beside;      /* computes while the processor does something else: a GPU */

    /* Memory. Sizes in bytes. buffer_new returns NULL after sdw_device_fail(SDW_MEMORY). */
    void *(*buffer_new)(struct sdw_device *dev, size_t bytes);
    void (*buffer_free)(struct sdw_device *dev, void *buffer);
    void (*upload)(struct sdw_device *dev, void *to, const void *from_host, size_t bytes);
    void (*download)(struct sdw_device *dev, void *to_host, const void *from, size_t bytes);

    /* Bytes that the device could still give; SIZE_MAX where nobody knows. */
    size_t (*memory_free)(struct sdw_device *dev);

    /* The most bytes that were in use on the device at once, its libraries' and other programs'
     * among them, as far as it looked. NULL: it does not know. */
    size_t (*memory_peak)(struct sdw_device *dev);

    /* Packs once, at load. weight: linear [o,i], conv [o,i,k,k] (a linear weight may also come as
     * [o,i,1,1]); bias [o] or NULL. F32, F16 or BF16 on the host; not read any more when the call
     * has returned, unless the device took hold of weight->mapping (weight.h, mapped). */
    struct sdw_weight *(*pack_linear)(struct sdw_device *dev, const struct sdw_array *weight,
                                      const struct sdw_array *bias);
    struct sdw_weight *(*pack_conv)(struct sdw_device *dev, const struct sdw_array *weight,
                                    const struct sdw_array *bias,
                                    struct sdw_conv_geometry geometry);
    void (*weight_free)(struct sdw_device *dev, struct sdw_weight *weight);

    /* Measures what the device can do at most, which takes about a second. NULL: it cannot tell. */
    void (*limits)(struct sdw_device *dev, struct sdw_limits *limits);

    /* For recording.h; NULL where a device has none. Between begin and end nothing is run: what is
     * queued is written down, and play queues all of it in one call. record_end returns NULL when
     * the device could not; a failure that it met is noted as always. */
    void (*record_begin)(struct sdw_device *dev);
    void *(*record_end)(struct sdw_device *dev);
    void (*record_play)(struct sdw_device *dev, void *tape);
    void (*record_free)(struct sdw_device *dev, void *tape);

    /* Waits for all queued work; device failures that show up late are noted with sdw_device_fail.
     */
    void (*sync)(struct sdw_device *dev);
    void (*close)(struct sdw_device *dev);

#define SDW_OPS_ROW(row, arguments) void(*row) arguments;
    SDW_OPS_TABLE(SDW_OPS_ROW)
#undef SDW_OPS_ROW
};

/* What models call: sdw_linear(...), sdw_conv2d(...), one for every row of the table. */
#define SDW_OPS_CALL(row, arguments) void sdw_##row arguments;
SDW_OPS_TABLE(SDW_OPS_CALL)
#undef SDW_OPS_CALL

#endif
