/* trace.c: every row of the table does nothing; the front of the table (tensor/ops.c) has already
 * checked the shapes and counted the operations. */
#include "backend/trace/trace.h"

#include "tensor/weight.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

/* Any address but NULL, which means failure. */
#define SOMEWHERE ((char *)(uintptr_t)SDW_SCRATCH_ALIGN)

static void *buffer_new(struct sdw_device *dev, size_t bytes)
{
    (void)dev, (void)bytes;
    return SOMEWHERE;
}

static void buffer_free(struct sdw_device *dev, void *buffer)
{
    (void)dev, (void)buffer;
}

static void upload(struct sdw_device *dev, void *to, const void *from_host, size_t bytes)
{
    (void)dev, (void)to, (void)from_host, (void)bytes;
}

static void download(struct sdw_device *dev, void *to_host, const void *from, size_t bytes)
{
    (void)dev, (void)to_host, (void)from, (void)bytes;
}

static struct sdw_weight *pack(struct sdw_device *dev, const struct sdw_array *weight,
                               const struct sdw_array *bias)
{
    struct sdw_weight *packed = calloc(1, sizeof *packed);
    if (!packed) {
        sdw_device_fail(dev, SDW_MEMORY, "trace: no memory for a weight's shape");
        return NULL;
    }
    packed->out = (int)weight->dim[0];
    packed->in = (int)weight->dim[1];
    packed->bytes = (size_t)sdw_array_count(weight) * sdw_dtype_bytes(dev->compute) +
                    (bias ? (size_t)sdw_array_count(bias) * sizeof(float) : 0);
    return packed;
}

static struct sdw_weight *pack_linear(struct sdw_device *dev, const struct sdw_array *weight,
                                      const struct sdw_array *bias)
{
    return pack(dev, weight, bias);
}

static struct sdw_weight *pack_conv(struct sdw_device *dev, const struct sdw_array *weight,
                                    const struct sdw_array *bias, struct sdw_conv_geometry geometry)
{
    struct sdw_weight *packed = pack(dev, weight, bias);
    if (packed) {
        packed->kernel = (int)weight->dim[2];
        packed->geometry = geometry;
    }
    return packed;
}

static void weight_free(struct sdw_device *dev, struct sdw_weight *weight)
{
    (void)dev;
    free(weight);
}

static size_t memory_free(struct sdw_device *dev)
{
    (void)dev;
    return SIZE_MAX;
}

static void sync(struct sdw_device *dev)
{
    (void)dev;
}

static void close(struct sdw_device *dev)
{
    free(dev);
}

/* A row for each signature of the table. */
static void linear(struct sdw_device *dev, const struct sdw_tensor *out,
                   const struct sdw_tensor *in, const struct sdw_weight *weight, enum sdw_act act,
                   const struct sdw_tensor *residual)
{
    (void)dev, (void)out, (void)in, (void)weight, (void)act, (void)residual;
}

static void conv2d(struct sdw_device *dev, const struct sdw_tensor *out,
                   const struct sdw_tensor *in, const struct sdw_weight *weight,
                   const struct sdw_tensor *residual)
{
    (void)dev, (void)out, (void)in, (void)weight, (void)residual;
}

static void attention(struct sdw_device *dev, const struct sdw_tensor *out,
                      const struct sdw_tensor *q, const struct sdw_tensor *k,
                      const struct sdw_tensor *v, struct sdw_attention_geometry geometry)
{
    (void)dev, (void)out, (void)q, (void)k, (void)v, (void)geometry;
}

static void group_norm(struct sdw_device *dev, const struct sdw_tensor *out,
                       const struct sdw_tensor *in, const struct sdw_norm *norm, enum sdw_act act,
                       const struct sdw_tensor *add)
{
    (void)dev, (void)out, (void)in, (void)norm, (void)act, (void)add;
}

static void layer_norm(struct sdw_device *dev, const struct sdw_tensor *out,
                       const struct sdw_tensor *in, const struct sdw_norm *norm)
{
    (void)dev, (void)out, (void)in, (void)norm;
}

static void activation(struct sdw_device *dev, const struct sdw_tensor *out,
                       const struct sdw_tensor *in, enum sdw_act act)
{
    (void)dev, (void)out, (void)in, (void)act;
}

static void one(struct sdw_device *dev, const struct sdw_tensor *out, const struct sdw_tensor *in)
{
    (void)dev, (void)out, (void)in;
}

static void two(struct sdw_device *dev, const struct sdw_tensor *out, const struct sdw_tensor *a,
                const struct sdw_tensor *b)
{
    (void)dev, (void)out, (void)a, (void)b;
}

static const struct sdw_ops ops = {
    .name = "trace",
    .buffer_new = buffer_new,
    .buffer_free = buffer_free,
    .upload = upload,
    .download = download,
    .pack_linear = pack_linear,
    .pack_conv = pack_conv,
    .weight_free = weight_free,
    .memory_free = memory_free,
    .sync = sync,
    .close = close,
    .linear = linear,
    .conv2d = conv2d,
    .attention = attention,
    .group_norm = group_norm,
    .layer_norm = layer_norm,
    .geglu = one,
    .act = activation,
    .add = two,
    .concat = two,
    .embed = two,
    .cast = one,
};

static enum sdw_status open(struct sdw_device **dev, const struct sdw_device_options *options,
                            struct sdw_error *err)
{
    struct sdw_device *trace = calloc(1, sizeof *trace);
    if (!trace)
        return sdw_fail(err, SDW_MEMORY, "no memory for the trace device");
    sdw_device_init(trace, &ops);
    snprintf(trace->id, sizeof trace->id, "trace");
    snprintf(trace->description, sizeof trace->description, "shapes only");
    trace->compute = options->dtype < SDW_DTYPE_COUNT ? options->dtype : SDW_F32;
    trace->stream = SDW_F32;
    sdw_scratch_reserve(trace, SIZE_MAX / 4);
    *dev = trace;
    return SDW_OK;
}

const struct sdw_backend sdw_backend_trace = {.name = "trace", .open = open};
