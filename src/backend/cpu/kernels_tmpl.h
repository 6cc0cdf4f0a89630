/* kernels_tmpl.h: the kernels over vectors of SDW_VEC_BYTES, in the vector extensions that gcc and
 * clang share; the including file sets SDW_VEC_BYTES, SDW_KERNELS (the name of the table) and
 * SDW_KERNELS_NAME. */
#include "backend/cpu/kernels.h"
#include "base/half.h"

#include <float.h>
#include <math.h>
#include <string.h>

typedef float vec __attribute__((vector_size(SDW_VEC_BYTES)));
typedef int32_t ivec __attribute__((vector_size(SDW_VEC_BYTES)));
typedef uint16_t hvec __attribute__((vector_size(SDW_VEC_BYTES / 2)));

#define V      ((int)(SDW_VEC_BYTES / sizeof(float)))
#define INLINE static inline __attribute__((always_inline))

INLINE vec load(const float *from)
{
    vec v;
    memcpy(&v, from, sizeof v);
    return v;
}

INLINE void store(float *to, vec v)
{
    memcpy(to, &v, sizeof v);
}

INLINE vec splat(float value)
{
    return value - (vec){0};
}

INLINE vec choose(ivec mask, vec yes, vec no)
{
    return (vec)((mask & (ivec)yes) | (~mask & (ivec)no));
}

/* 2^x for x <= 127, by 2^round(x) times the series of e^(f ln 2), |f| <= 1/2: relative error under
 * 2e-7. */
INLINE vec exp2_of(vec x)
{
    x = choose(x < splat(-126.0f), splat(-126.0f), x);
    vec shifted = x + splat(0x1.8p23f),
        whole = shifted - splat(0x1.8p23f); /* rounds to the nearest integer */
    vec f = x - whole;
    vec p = splat(1.5252734e-5f);
    p = p * f + splat(1.5403530e-4f);
    p = p * f + splat(1.3333558e-3f);
    p = p * f + splat(9.6181291e-3f);
    p = p * f + splat(5.5504109e-2f);
    p = p * f + splat(2.4022651e-1f);
    p = p * f + splat(6.9314718e-1f);
    p = p * f + splat(1.0f);
    ivec exponent = (ivec)shifted << 23; /* the integer sits in the low bits of the shifted sum */
    return (vec)((ivec)p + exponent);
}

INLINE vec sigmoid_of(vec x)
{
    vec y = x * splat(-1.44269504f);
    y = choose(y > splat(126.0f), splat(126.0f), y);
    return splat(1.0f) / (splat(1.0f) + exp2_of(y));
}

/* x/2 (1 + erf(x/sqrt 2)); erf by Abramowitz and Stegun 7.1.26, absolute error under 1.5e-7. */
INLINE vec gelu_of(vec x)
{
    vec z = x * splat(0.70710678f);
    vec a = (vec)((ivec)z & 0x7fffffff);
    vec t = splat(1.0f) / (splat(1.0f) + splat(0.3275911f) * a);
    vec p = splat(1.061405429f);
    p = p * t + splat(-1.453152027f);
    p = p * t + splat(1.421413741f);
    p = p * t + splat(-0.284496736f);
    p = p * t + splat(0.254829592f);
    vec tail = p * t * exp2_of(a * a * splat(-1.44269504f)); /* 1 - erf(|z|) */
    vec positive = splat(1.0f) - splat(0.5f) * tail, negative = splat(0.5f) * tail;
    return x * choose(x < splat(0.0f), negative, positive);
}

INLINE vec act_of(vec x, enum sdw_act act)
{
    switch (act) {
    case SDW_ACT_SILU: return x * sigmoid_of(x);
    case SDW_ACT_GELU: return gelu_of(x);
    case SDW_ACT_QUICK_GELU: return x * sigmoid_of(x * splat(1.702f));
    default: return x;
    }
}

/* The last elements of a row go through a vector on the stack. */
INLINE vec load_part(const float *from, int64_t n)
{
    float part[SDW_VEC_BYTES / sizeof(float)] = {0};
    memcpy(part, from, (size_t)n * sizeof *part);
    return load(part);
}

INLINE void store_part(float *to, vec v, int64_t n)
{
    float part[SDW_VEC_BYTES / sizeof(float)];
    store(part, v);
    memcpy(to, part, (size_t)n * sizeof *part);
}

static void widen(float *to, const void *from, enum sdw_dtype dtype, int64_t n)
{
    if (dtype == SDW_F32) {
        memcpy(to, from, (size_t)n * sizeof *to);
        return;
    }
    const uint16_t *half = from;
    int64_t i = 0;
    if (dtype == SDW_BF16)
        for (; i + V <= n; i += V) {
            hvec h;
            memcpy(&h, half + i, sizeof h);
            store(to + i, (vec)(__builtin_convertvector(h, ivec) << 16));
        }
    for (; i < n; i++)
        to[i] = dtype == SDW_BF16 ? sdw_bf16_to_f32(half[i]) : sdw_f16_to_f32(half[i]);
}

static void narrow(void *to, const float *from, enum sdw_dtype dtype, int64_t n)
{
    if (dtype == SDW_F32) {
        memcpy(to, from, (size_t)n * sizeof *from);
        return;
    }
    uint16_t *half = to;
    int64_t i = 0;
    if (dtype == SDW_BF16)
        for (; i + V <= n; i += V) {
            vec v = load(from + i);
            ivec bits = (ivec)v, rounded = bits + 0x7fff + (bits >> 16 & 1);
            rounded = (v != v) ? bits | 0x400000 : rounded; /* a NaN stays one */
            hvec h = __builtin_convertvector(rounded >> 16, hvec);
            memcpy(half + i, &h, sizeof h);
        }
    for (; i < n; i++)
        half[i] = dtype == SDW_BF16 ? sdw_f32_to_bf16(from[i]) : sdw_f32_to_f16(from[i]);
}

INLINE void activate_as(float *values, enum sdw_act act, int64_t n)
{
    int64_t i = 0;
    for (; i + V <= n; i += V)
        store(values + i, act_of(load(values + i), act));
    if (i < n)
        store_part(values + i, act_of(load_part(values + i, n - i), act), n - i);
}

static void activate(float *values, enum sdw_act act, int64_t n)
{
    switch (act) { /* the switch leaves the loop */
    case SDW_ACT_SILU: activate_as(values, SDW_ACT_SILU, n); break;
    case SDW_ACT_GELU: activate_as(values, SDW_ACT_GELU, n); break;
    case SDW_ACT_QUICK_GELU: activate_as(values, SDW_ACT_QUICK_GELU, n); break;
    default: break;
    }
}

static void gate(float *out, const float *x, const float *gates, int64_t n)
{
    int64_t i = 0;
    for (; i + V <= n; i += V)
        store(out + i, load(x + i) * gelu_of(load(gates + i)));
    if (i < n)
        store_part(out + i, load_part(x + i, n - i) * gelu_of(load_part(gates + i, n - i)), n - i);
}

static void add(float *out, const float *a, const float *b, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        out[i] = a[i] + b[i];
}

static void affine(float *out, const float *in, const float *scale, const float *offset, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        out[i] = in[i] * scale[i] + offset[i];
}

static void moments(float *sum, float *squares, const float *in, const float *shift, int64_t n)
{
    for (int64_t i = 0; i < n; i++) {
        float value = in[i] - shift[i];
        sum[i] += value;
        squares[i] += value * value;
    }
}

INLINE float total_of(vec v)
{
    float part[SDW_VEC_BYTES / sizeof(float)], sum = 0;
    store(part, v);
    for (int i = 0; i < V; i++)
        sum += part[i];
    return sum;
}

static float total(const float *in, int64_t n)
{
    vec sum = {0};
    int64_t i = 0;
    for (; i + V <= n; i += V)
        sum += load(in + i);
    if (i < n)
        sum += load_part(in + i, n - i);
    return total_of(sum);
}

static float total_squares(const float *in, float shift, int64_t n)
{
    vec sum = {0};
    int64_t i = 0;
    for (; i + V <= n; i += V) {
        vec value = load(in + i) - splat(shift);
        sum += value * value;
    }
    float rest = 0;
    for (; i < n; i++)
        rest += (in[i] - shift) * (in[i] - shift);
    return total_of(sum) + rest;
}

/* ---- attention in f32. Packed: q [rows][width]; k [width][SDW_ATTENTION_KEYS]; v
 * [SDW_ATTENTION_KEYS][width]. ---- */

static void pack_queries(void *to, const void *from, int64_t stride, int rows, int width,
                         int padded)
{
    for (int r = 0; r < rows; r++) {
        float *row = (float *)to + (int64_t)r * padded;
        memcpy(row, (const float *)from + r * stride, (size_t)width * sizeof *row);
        memset(row + width, 0, (size_t)(padded - width) * sizeof *row);
    }
}

static void pack_keys(void *k_to, void *v_to, const void *k, const void *v, int64_t stride,
                      int rows, int width, int padded)
{
    float *columns = k_to, *lines = v_to;
    memset(columns, 0, (size_t)padded * SDW_ATTENTION_KEYS * sizeof *columns);
    memset(lines, 0, (size_t)padded * SDW_ATTENTION_KEYS * sizeof *lines);
    for (int r = 0; r < rows; r++) {
        const float *key = (const float *)k + r * stride;
        for (int c = 0; c < width; c++)
            columns[(int64_t)c * SDW_ATTENTION_KEYS + r] = key[c];
        memcpy(lines + (int64_t)r * padded, (const float *)v + r * stride,
               (size_t)width * sizeof *lines);
    }
}

/* scores[r][2 vectors from `key`] for up to six rows. */
INLINE void score_rows(const struct sdw_attention_block *block, int first, int rows, int key)
{
    const float *q = (const float *)block->q + (int64_t)first * block->width,
                *k = (const float *)block->k + key;
    vec a[6], b[6];
    for (int r = 0; r < rows; r++)
        a[r] = b[r] = (vec){0};
    for (int c = 0; c < block->used; c++, k += SDW_ATTENTION_KEYS) {
        vec k0 = load(k), k1 = load(k + V);
#pragma GCC unroll 6
        for (int r = 0; r < rows; r++) {
            vec value = splat(q[(int64_t)r * block->width + c]);
            a[r] += value * k0;
            b[r] += value * k1;
        }
    }
    for (int r = 0; r < rows; r++) {
        float *to = block->scores + (first + r) * SDW_ATTENTION_KEYS + key;
        store(to, a[r] * splat(block->scale));
        store(to + V, b[r] * splat(block->scale));
    }
}

static void score(const struct sdw_attention_block *block, int keys)
{
    for (int key = 0; key < keys; key += 2 * V) {
        int r = 0;
        for (; r + 6 <= block->rows; r += 6)
            score_rows(block, r, 6, key);
        for (; r < block->rows; r++)
            score_rows(block, r, 1, key);
    }
}

/* Turns a row of scores into weights 2^(s - top), updates top and sum; returns the factor for what
 * was summed before. */
INLINE float weigh(const struct sdw_attention_block *block, int r, int keys)
{
    float *s = block->scores + r * SDW_ATTENTION_KEYS;
    int seen =
        block->causal_first + r + 1 < block->keys ? block->causal_first + r + 1 : block->keys;
    for (int j = seen > 0 ? seen : 0; j < keys; j++)
        s[j] = -INFINITY;
    vec tops = splat(block->top[r]);
    for (int j = 0; j < keys; j += V)
        tops = choose(load(s + j) > tops, load(s + j), tops);
    float top = block->top[r], lanes[SDW_VEC_BYTES / sizeof(float)];
    store(lanes, tops);
    for (int i = 0; i < V; i++)
        top = lanes[i] > top ? lanes[i] : top;
    vec sums = {0};
    for (int j = 0; j < keys; j += V) {
        vec value = load(s + j);
        vec weight = choose(value > splat(-FLT_MAX), exp2_of(value - splat(top)), splat(0.0f));
        store(s + j, weight);
        sums += weight;
    }
    float factor = block->top[r] > -FLT_MAX ? exp2f(block->top[r] - top) : 0;
    block->sum[r] = block->sum[r] * factor + total_of(sums);
    block->top[r] = top;
    return factor;
}

/* out[r] = out[r] * factor[r] + weights[r] . v, two vectors of channels from `c` on, for up to six
 * rows. */
INLINE void gather_rows(const struct sdw_attention_block *block, const float *factor, int first,
                        int rows, int c, int keys)
{
    const float *v = (const float *)block->v + c,
                *p = block->scores + (int64_t)first * SDW_ATTENTION_KEYS;
    float *out = block->out + (int64_t)first * block->width + c;
    vec a[6], b[6];
    for (int r = 0; r < rows; r++) {
        a[r] = load(out + (int64_t)r * block->width) * splat(factor[first + r]);
        b[r] = load(out + (int64_t)r * block->width + V) * splat(factor[first + r]);
    }
    for (int j = 0; j < keys; j++, v += block->width) {
        vec v0 = load(v), v1 = load(v + V);
#pragma GCC unroll 6
        for (int r = 0; r < rows; r++) {
            vec weight = splat(p[r * SDW_ATTENTION_KEYS + j]);
            a[r] += weight * v0;
            b[r] += weight * v1;
        }
    }
    for (int r = 0; r < rows; r++) {
        store(out + (int64_t)r * block->width, a[r]);
        store(out + (int64_t)r * block->width + V, b[r]);
    }
}

static void attend_block(const struct sdw_attention_block *block)
{
    float factor[SDW_ATTENTION_ROWS];
    int keys = (block->keys + 2 * V - 1) / (2 * V) *
               (2 * V); /* whole vectors; a block's size is a multiple */
    score(block, keys);
    for (int r = 0; r < block->rows; r++)
        factor[r] = weigh(block, r, keys);
    for (int c = 0; c < block->width; c += 2 * V) {
        int r = 0;
        for (; r + 6 <= block->rows; r += 6)
            gather_rows(block, factor, r, 6, c, block->keys);
        for (; r < block->rows; r++)
            gather_rows(block, factor, r, 1, c, block->keys);
    }
}

/* ---- matrix products in f32, for machines without oneDNN ---- */

INLINE void multiply_rows(float *out, const float *const *a, const float *panel, int rows, int taps,
                          int64_t in)
{
    vec left[SDW_MATRIX_ROWS], right[SDW_MATRIX_ROWS];
    for (int r = 0; r < rows; r++)
        left[r] = right[r] = (vec){0};
    for (int tap = 0; tap < taps; tap++, a += rows)
        for (int64_t i = 0; i < in; i++, panel += 2 * V) {
            vec w0 = load(panel), w1 = load(panel + V);
#pragma GCC unroll 6
            for (int r = 0; r < rows; r++) {
                vec value = splat(a[r][i]);
                left[r] += value * w0;
                right[r] += value * w1;
            }
        }
    for (int r = 0; r < rows; r++) {
        store(out + r * 2 * V, left[r]);
        store(out + r * 2 * V + V, right[r]);
    }
}

static void multiply(float *out, const float *const *a, const float *panel, int rows, int taps,
                     int64_t in)
{
    switch (rows) {
    case 6: multiply_rows(out, a, panel, 6, taps, in); break;
    case 5: multiply_rows(out, a, panel, 5, taps, in); break;
    case 4: multiply_rows(out, a, panel, 4, taps, in); break;
    case 3: multiply_rows(out, a, panel, 3, taps, in); break;
    case 2: multiply_rows(out, a, panel, 2, taps, in); break;
    default: multiply_rows(out, a, panel, 1, taps, in); break;
    }
}

#ifndef SDW_KERNELS_OWN_ATTENTION
const struct sdw_cpu_kernels SDW_KERNELS = {
    .name = SDW_KERNELS_NAME,
    .vector_floats = V,
    .widen = widen,
    .narrow = narrow,
    .activate = activate,
    .gate = gate,
    .add = add,
    .affine = affine,
    .moments = moments,
    .total = total,
    .total_squares = total_squares,
    .attention_dtype = SDW_F32,
    .attention_pad = 2 * V,
    .pack_queries = pack_queries,
    .pack_keys = pack_keys,
    .attend_block = attend_block,
    .multiply = multiply,
};
#endif
