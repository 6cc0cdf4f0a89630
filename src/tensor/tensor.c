/* tensor.c: the table of element types. */
#include "tensor/tensor.h"

#include "base/half.h"

#include <assert.h>
#include <string.h>

static const struct {
    const char *name;
    size_t bytes;
} dtypes[SDW_DTYPE_COUNT] = {
    [SDW_F32] = {"f32", 4}, [SDW_F16] = {"f16", 2},   [SDW_BF16] = {"bf16", 2},
    [SDW_I32] = {"i32", 4}, [SDW_U8] = {"u8", 1},     [SDW_I64] = {"i64", 8},
    [SDW_F64] = {"f64", 8}, [SDW_BOOL] = {"bool", 1},
};

size_t sdw_dtype_bytes(enum sdw_dtype dtype)
{
    assert(dtype < SDW_DTYPE_COUNT);
    return dtypes[dtype].bytes;
}

const char *sdw_dtype_name(enum sdw_dtype dtype)
{
    assert(dtype < SDW_DTYPE_COUNT);
    return dtypes[dtype].name;
}

int64_t sdw_array_count(const struct sdw_array *array)
{
    int64_t count = 1;
    for (int i = 0; i < array->rank; i++)
        count *= array->dim[i];
    return count;
}

void sdw_array_to_f32(float *to, const struct sdw_array *array, int64_t first, int64_t count)
{
    const char *from = (const char *)array->data + (size_t)first * sdw_dtype_bytes(array->dtype);
    switch (array->dtype) {
    case SDW_F32: memcpy(to, from, (size_t)count * sizeof(float)); break;
    case SDW_F16: sdw_f32_from_f16_row(to, (const uint16_t *)from, count); break;
    case SDW_BF16: sdw_f32_from_bf16_row(to, (const uint16_t *)from, count); break;
    case SDW_F64:
        for (int64_t i = 0; i < count; i++)
            to[i] = (float)((const double *)from)[i];
        break;
    default: assert(!"an array of numbers");
    }
}
