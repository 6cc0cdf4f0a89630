/* ref_pointwise.c: the operators that touch each element once, and element access for all
 * references. */
#include "backend/cpu/cpu.h"

#include "base/half.h"

#include <assert.h>
#include <math.h>
#include <string.h>

float sdw_ref_get(const struct sdw_tensor *t, int64_t i)
{
    switch (t->dtype) {
    case SDW_F32: return ((const float *)t->data)[i];
    case SDW_BF16: return sdw_bf16_to_f32(((const uint16_t *)t->data)[i]);
    case SDW_F16: return sdw_f16_to_f32(((const uint16_t *)t->data)[i]);
    default: assert(!"a float tensor"); return 0;
    }
}

void sdw_ref_set(const struct sdw_tensor *t, int64_t i, float value)
{
    switch (t->dtype) {
    case SDW_F32: ((float *)t->data)[i] = value; break;
    case SDW_BF16: ((uint16_t *)t->data)[i] = sdw_f32_to_bf16(value); break;
    case SDW_F16: ((uint16_t *)t->data)[i] = sdw_f32_to_f16(value); break;
    default: assert(!"a float tensor");
    }
}

double sdw_ref_act_value(double x, enum sdw_act act)
{
    switch (act) {
    case SDW_ACT_SILU: return x / (1 + exp(-x));
    case SDW_ACT_GELU: return 0.5 * x * (1 + erf(x * 0.70710678118654752440));
    case SDW_ACT_QUICK_GELU: return x / (1 + exp(-1.702 * x));
    default: return x;
    }
}

void sdw_ref_geglu(struct sdw_device *dev, const struct sdw_tensor *out,
                   const struct sdw_tensor *in)
{
    (void)dev;
    for (int64_t r = 0; r < sdw_tensor_rows(out); r++)
        for (int c = 0; c < out->c; c++) {
            double gate = sdw_ref_act_value(sdw_ref_get(in, r * in->c + out->c + c), SDW_ACT_GELU);
            sdw_ref_set(out, r * out->c + c, (float)(sdw_ref_get(in, r * in->c + c) * gate));
        }
}

void sdw_ref_act(struct sdw_device *dev, const struct sdw_tensor *out, const struct sdw_tensor *in,
                 enum sdw_act act)
{
    (void)dev;
    for (int64_t i = 0; i < sdw_tensor_count(in); i++)
        sdw_ref_set(out, i, (float)sdw_ref_act_value(sdw_ref_get(in, i), act));
}

void sdw_ref_add(struct sdw_device *dev, const struct sdw_tensor *out, const struct sdw_tensor *a,
                 const struct sdw_tensor *b)
{
    int64_t pixels = (int64_t)a->h * a->w, at = 0;
    (void)dev;
    for (int n = 0; n < a->n; n++)
        for (int64_t p = 0; p < pixels; p++)
            for (int c = 0; c < a->c; c++, at++) {
                int64_t row =
                    (int64_t)(b->n == 1 ? 0 : n) * b->h * b->w + (b->h == 1 && b->w == 1 ? 0 : p);
                sdw_ref_set(out, at, sdw_ref_get(a, at) + sdw_ref_get(b, row * b->c + c));
            }
}

void sdw_ref_concat(struct sdw_device *dev, const struct sdw_tensor *out,
                    const struct sdw_tensor *a, const struct sdw_tensor *b)
{
    (void)dev;
    for (int64_t r = 0; r < sdw_tensor_rows(out); r++)
        for (int c = 0; c < out->c; c++)
            sdw_ref_set(out, r * out->c + c,
                        c < a->c ? sdw_ref_get(a, r * a->c + c)
                                 : sdw_ref_get(b, r * b->c + c - a->c));
}

void sdw_ref_embed(struct sdw_device *dev, const struct sdw_tensor *out,
                   const struct sdw_tensor *table, const struct sdw_tensor *ids)
{
    (void)dev;
    for (int64_t r = 0; r < sdw_tensor_rows(out); r++) {
        int32_t id = ((const int32_t *)ids->data)[r];
        assert(id >= 0 && id < sdw_tensor_rows(table));
        for (int c = 0; c < out->c; c++)
            sdw_ref_set(out, r * out->c + c, sdw_ref_get(table, (int64_t)id * table->c + c));
    }
}

void sdw_ref_cast(struct sdw_device *dev, const struct sdw_tensor *out, const struct sdw_tensor *in)
{
    (void)dev;
    for (int64_t i = 0; i < sdw_tensor_count(in); i++)
        sdw_ref_set(out, i, sdw_ref_get(in, i));
}

void sdw_ref_fill(struct sdw_ops *ops)
{
#define SDW_REF_ROW(row, arguments) ops->row = sdw_ref_##row;
    SDW_OPS_TABLE(SDW_REF_ROW)
#undef SDW_REF_ROW
}
