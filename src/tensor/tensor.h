/* tensor.h: the two shapes that data has.
 *
 * `struct sdw_tensor` is what models compute with: always four dimensions [n, h, w, c], row-major,
 * contiguous (NHWC), in the memory of a device. A sequence of tokens is an image of one row or one
 * column ([n, 77, 1, c]): a 1x1 convolution is a linear layer and attention reads an image as h*w
 * tokens, so nothing is ever permuted.
 *
 * `struct sdw_array` is what files hold: up to SDW_RANK_MAX dimensions in host memory, in the order
 * of the format. */
#ifndef SDW_TENSOR_TENSOR_H
#define SDW_TENSOR_TENSOR_H

#include <stddef.h>
#include <stdint.h>

enum sdw_dtype {
    SDW_F32,
    SDW_F16,
    SDW_BF16,
    SDW_I32,
    SDW_U8,
    SDW_I64,
    SDW_F64,
    SDW_BOOL,
    SDW_DTYPE_COUNT
};

size_t sdw_dtype_bytes(enum sdw_dtype dtype);
const char *sdw_dtype_name(enum sdw_dtype dtype); /* "f32", "bf16", ... */

struct sdw_tensor {
    void *data; /* an address of the device; not owned by the tensor; NULL once the device has
                   failed */
    enum sdw_dtype dtype;
    int n, h, w, c;
};

static inline int64_t sdw_tensor_rows(const struct sdw_tensor *t)
{
    return (int64_t)t->n * t->h * t->w;
}

static inline int64_t sdw_tensor_count(const struct sdw_tensor *t)
{
    return sdw_tensor_rows(t) * t->c;
}

static inline size_t sdw_tensor_bytes(const struct sdw_tensor *t)
{
    return (size_t)sdw_tensor_count(t) * sdw_dtype_bytes(t->dtype);
}

/* Images first..first+n-1 of t, in place. */
static inline struct sdw_tensor sdw_tensor_part(const struct sdw_tensor *t, int first, int n)
{
    struct sdw_tensor part = *t;
    size_t image_bytes = sdw_tensor_bytes(t) / (size_t)t->n;
    if (t->data)
        part.data = (char *)t->data + (size_t)first * image_bytes;
    part.n = n;
    return part;
}

/* Rows of pixels first..first+h-1 of a single image, in place. */
static inline struct sdw_tensor sdw_tensor_strip(const struct sdw_tensor *t, int first, int h)
{
    struct sdw_tensor strip = *t; /* n is 1 */
    size_t row_bytes = sdw_tensor_bytes(t) / (size_t)t->h;
    if (t->data)
        strip.data = (char *)t->data + (size_t)first * row_bytes;
    strip.h = h;
    return strip;
}

#define SDW_RANK_MAX 8

struct sdw_mapping; /* base/mapping.h */

struct sdw_array {
    const void *data; /* host memory, owned by whoever made the array; NULL in a trace, where only
                         shapes count */
    enum sdw_dtype dtype;
    int rank;
    int64_t dim[SDW_RANK_MAX];
    struct sdw_mapping *mapping; /* NULL, or the file in which the data lie: who wants to read them
                                    for longer holds it */
};

int64_t sdw_array_count(const struct sdw_array *array);

/* Widens count elements of an F32, F16, BF16 or F64 array, starting at element `first`, to f32. */
void sdw_array_to_f32(float *to, const struct sdw_array *array, int64_t first, int64_t count);

#endif
