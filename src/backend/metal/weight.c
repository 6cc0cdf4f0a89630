/* weight.c: packing: weights go to the compute type, and a convolution's channels to the end, where
 * the picture has them. The GPU's memory is the host's: they are written where they stay, and where
 * the file has them so already, they are read from the file's own pages. */
#include "backend/metal/metal.h"

#include "base/half.h"
#include "base/mapping.h"

#include <stdlib.h>
#include <string.h>

#define ALIGN ((size_t)256) /* of the bias behind the weight */

/* `count` numbers from f32 to the compute type, at element `first`. */
static void write(char *to, enum sdw_dtype dtype, int64_t first, const float *from, int64_t count)
{
    if (dtype == SDW_F16)
        sdw_f16_from_f32_row((uint16_t *)(void *)to + first, from, count);
    else if (dtype == SDW_BF16)
        sdw_bf16_from_f32_row((uint16_t *)(void *)to + first, from, count);
    else
        memcpy((float *)(void *)to + first, from, (size_t)count * sizeof *from);
}

/* One output's weights, [i][k][k] to [k][k][i]. */
static void turn(float *to, const float *from, int64_t channels, int64_t taps)
{
    for (int64_t i = 0; i < channels; i++)
        for (int64_t t = 0; t < taps; t++)
            to[t * channels + i] = from[i * taps + t];
}

static bool copy(struct sdw_metal_weight *packed, enum sdw_dtype dtype,
                 const struct sdw_array *weight)
{
    int64_t outputs = packed->base.out, row = sdw_array_count(weight) / outputs;
    float *plain = malloc(2 * (size_t)row * sizeof *plain);
    if (!plain)
        return false;
    for (int64_t o = 0; o < outputs; o++) {
        sdw_array_to_f32(plain, weight, o * row, row);
        turn(plain + row, plain, packed->base.in, row / packed->base.in);
        write(packed->weight, dtype, o * row, plain + row, row);
    }
    free(plain);
    return true;
}

/* Takes the weight as it lies in its file, where that is how the kernels want it. */
static bool map(struct sdw_device *dev, struct sdw_metal_weight *packed,
                const struct sdw_array *weight, size_t bytes)
{
    bool turned = weight->rank > 2 && weight->dim[2] > 1;
    if (!weight->mapping || weight->dtype != dev->compute || turned)
        return false;
    packed->weight = sdw_metal_buffer_map(dev, weight->data, bytes);
    packed->base.mapped = packed->weight != NULL;
    if (packed->base.mapped)
        packed->mapping = sdw_mapping_hold(weight->mapping);
    return packed->base.mapped;
}

static struct sdw_metal_weight *pack(struct sdw_device *dev, const struct sdw_array *weight,
                                     const struct sdw_array *bias)
{
    struct sdw_metal_weight *packed = calloc(1, sizeof *packed);
    if (!packed) {
        sdw_device_fail(dev, SDW_MEMORY, "no memory for a weight");
        return NULL;
    }
    packed->base.out = (int)weight->dim[0];
    packed->base.in = (int)weight->dim[1];
    size_t bytes = (size_t)sdw_array_count(weight) * sdw_dtype_bytes(dev->compute);
    size_t bias_bytes = (size_t)packed->base.out * sizeof *packed->bias;
    packed->base.bytes = bytes + bias_bytes;
    bool mapped = map(dev, packed, weight, bytes);
    size_t before = mapped ? 0 : (bytes + ALIGN - 1) & ~(ALIGN - 1);
    packed->own = sdw_metal_buffer_new(dev, before + bias_bytes);
    if (!packed->own) {
        sdw_metal_weight_free(dev, &packed->base);
        return NULL;
    }
    packed->bias = (float *)(void *)(packed->own + before);
    if (bias)
        sdw_array_to_f32(packed->bias, bias, 0, packed->base.out);
    else
        memset(packed->bias, 0, bias_bytes);
    if (mapped)
        return packed;
    packed->weight = packed->own;
    if (copy(packed, dev->compute, weight))
        return packed;
    sdw_device_fail(dev, SDW_MEMORY, "no memory to convert a weight of %zu bytes", bytes);
    sdw_metal_weight_free(dev, &packed->base);
    return NULL;
}

struct sdw_weight *sdw_metal_pack_linear(struct sdw_device *dev, const struct sdw_array *weight,
                                         const struct sdw_array *bias)
{
    struct sdw_metal_weight *packed = pack(dev, weight, bias);
    return packed ? &packed->base : NULL;
}

struct sdw_weight *sdw_metal_pack_conv(struct sdw_device *dev, const struct sdw_array *weight,
                                       const struct sdw_array *bias,
                                       struct sdw_conv_geometry geometry)
{
    struct sdw_metal_weight *packed = pack(dev, weight, bias);
    if (!packed)
        return NULL;
    packed->base.kernel = (int)weight->dim[2];
    packed->base.geometry = geometry;
    return &packed->base;
}

void sdw_metal_weight_free(struct sdw_device *dev, struct sdw_weight *weight)
{
    struct sdw_metal_weight *packed = (struct sdw_metal_weight *)weight;
    if (!packed)
        return;
    if (packed->mapping) {
        dev->ops->sync(dev); /* the queue keeps the buffer, but not the pages */
        sdw_metal_buffer_free(dev, packed->weight);
        sdw_mapping_drop(packed->mapping);
    }
    sdw_metal_buffer_free(dev, packed->own);
    free(packed);
}
