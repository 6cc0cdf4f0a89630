/* kernels_tmpl.h: the kernels over vectors of SDW_VEC_BYTES, in the vector extensions that gcc and
 * clang share; the including file sets SDW_VEC_BYTES, SDW_KERNELS (the name of the table) and
 * SDW_KERNELS_NAME. */
#include "backend/cpu/kernels.h"
#include "base/half.h"

#include <float.h>
#include <math.h>
#include <string.h>

#if SDW_VEC_BYTES == 64 && defined(__AVX512F__)
#include <immintrin.h>
#endif

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

/* 1/x for 1 <= x < 2^127. A division of 16 numbers takes as long as ten other operations: here it
 * is an estimate of 14 bits and one step of Newton's. */
INLINE vec reciprocal_of(vec x)
{
#if SDW_VEC_BYTES == 64 && defined(__AVX512F__)
    vec r = (vec)_mm512_rcp14_ps((__m512)x);
    return r + r * (splat(1.0f) - x * r);
#else
    return splat(1.0f) / x;
#endif
}

INLINE vec sigmoid_of(vec x)
{
    vec y = x * splat(-1.44269504f);
    y = choose(y > splat(126.0f), splat(126.0f), y);
    return reciprocal_of(splat(1.0f) + exp2_of(y));
}

/* x/2 (1 + erf(x/sqrt 2)); erf by Abramowitz and Stegun 7.1.26, absolute error under 1.5e-7. */
INLINE vec gelu_of(vec x)
{
    vec z = x * splat(0.70710678f);
    vec a = (vec)((ivec)z & 0x7fffffff);
    a = choose(a > splat(64.0f), splat(64.0f), a); /* erf is 1 there */
    vec t = reciprocal_of(splat(1.0f) + splat(0.3275911f) * a);
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

#define SPIN 12 /* sums that wait for nothing but themselves: latency times the units, and some */

static float spin(int64_t rounds)
{
    vec sum[SPIN], factor = splat(0.999f), step = splat(0.001f);
#pragma GCC unroll 12
    for (int i = 0; i < SPIN; i++)
        sum[i] = splat((float)i);
    for (int64_t round = 0; round < rounds; round++)
#pragma GCC unroll 12
        for (int i = 0; i < SPIN; i++)
            sum[i] = sum[i] * factor + step;
    vec all = splat(0);
    for (int i = 0; i < SPIN; i++)
        all += sum[i];
    return all[0];
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
#if SDW_VEC_BYTES == 64 && defined(__AVX512BF16__)
            _mm256_storeu_si256((__m256i *)(half + i), (__m256i)_mm512_cvtneps_pbh((__m512)v));
#else
            ivec bits = (ivec)v, rounded = bits + 0x7fff + (bits >> 16 & 1);
            ivec nan = v != v;
            rounded = (nan & (bits | 0x400000)) | (~nan & rounded); /* a NaN stays one */
            hvec h = __builtin_convertvector(rounded >> 16, hvec);
            memcpy(half + i, &h, sizeof h);
#endif
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

INLINE void affine_as(float *out, const float *in, const float *scale, const float *offset,
                      enum sdw_act act, int64_t n)
{
    int64_t i = 0;
    for (; i + V <= n; i += V)
        store(out + i, act_of(load(in + i) * load(scale + i) + load(offset + i), act));
    if (i < n) {
        vec v = load_part(in + i, n - i) * load_part(scale + i, n - i);
        store_part(out + i, act_of(v + load_part(offset + i, n - i), act), n - i);
    }
}

static void affine(float *out, const float *in, const float *scale, const float *offset,
                   enum sdw_act act, int64_t n)
{
    switch (act) { /* the switch leaves the loop */
    case SDW_ACT_SILU: affine_as(out, in, scale, offset, SDW_ACT_SILU, n); break;
    case SDW_ACT_GELU: affine_as(out, in, scale, offset, SDW_ACT_GELU, n); break;
    case SDW_ACT_QUICK_GELU: affine_as(out, in, scale, offset, SDW_ACT_QUICK_GELU, n); break;
    default: affine_as(out, in, scale, offset, SDW_ACT_NONE, n); break;
    }
}

static void normalize(float *out, const float *in, float mean, float inverse, const float *weight,
                      const float *bias, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        out[i] = (in[i] - mean) * inverse * weight[i] + bias[i];
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

/* ---- matrix products in f32, for machines without oneDNN ---- */

INLINE void multiply_rows(float *out, int64_t stride, const float *const *a, const float *panel,
                          int rows, int taps, int64_t in)
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
        store(out + r * stride, left[r]);
        store(out + r * stride + V, right[r]);
    }
}

static void multiply(float *out, int64_t stride, const float *const *a, const float *panel,
                     int rows, int taps, int64_t in)
{
    switch (rows) {
    case 6: multiply_rows(out, stride, a, panel, 6, taps, in); break;
    case 5: multiply_rows(out, stride, a, panel, 5, taps, in); break;
    case 4: multiply_rows(out, stride, a, panel, 4, taps, in); break;
    case 3: multiply_rows(out, stride, a, panel, 3, taps, in); break;
    case 2: multiply_rows(out, stride, a, panel, 2, taps, in); break;
    default: multiply_rows(out, stride, a, panel, 1, taps, in); break;
    }
}

/* ---- Winograd's F(4,3) at the points 0, +-1/sqrt 2, +-sqrt 2, infinity ---- */

#define ROOT_HALF 0.70710678f
#define ROOT_TWO  1.41421356f
#define SIDE      SDW_WINOGRAD_SIDE
#define OUTPUTS   SDW_WINOGRAD_OUTPUTS

/* t = B^T d */
INLINE void take_line(vec t[SIDE], const vec d[SIDE])
{
    vec even1 = d[4] - splat(2) * d[2], odd1 = splat(ROOT_HALF) * d[3] - splat(ROOT_TWO) * d[1];
    vec even2 = d[4] - splat(0.5f) * d[2], odd2 = splat(ROOT_TWO) * d[3] - splat(ROOT_HALF) * d[1];
    t[0] = d[0] - splat(2.5f) * d[2] + d[4];
    t[1] = even1 + odd1;
    t[2] = even1 - odd1;
    t[3] = even2 + odd2;
    t[4] = even2 - odd2;
    t[5] = d[1] - splat(2.5f) * d[3] + d[5];
}

/* y = A^T m */
INLINE void give_line(vec y[OUTPUTS], const vec m[SIDE])
{
    vec sum1 = m[1] + m[2], sum2 = m[3] + m[4], odd1 = m[1] - m[2], odd2 = m[3] - m[4];
    y[0] = m[0] + sum1 + sum2;
    y[1] = splat(ROOT_HALF) * odd1 + splat(ROOT_TWO) * odd2;
    y[2] = splat(0.5f) * sum1 + splat(2) * sum2;
    y[3] = splat(0.5f * ROOT_HALF) * odd1 + splat(2 * ROOT_TWO) * odd2 + m[5];
}

static void winograd_take(float *v, int64_t plane, const float *const *pixels, int n)
{
    for (int c = 0; c < n; c += V) {
        vec t[SIDE][SIDE], line[SIDE], column[SIDE]; /* t[x][y] */
        for (int x = 0; x < SIDE; x++) {
            for (int y = 0; y < SIDE; y++)
                column[y] = load(pixels[SIDE * y + x] + c);
            take_line(t[x], column);
        }
        for (int y = 0; y < SIDE; y++) {
            for (int x = 0; x < SIDE; x++)
                line[x] = t[x][y];
            take_line(column, line);
            for (int x = 0; x < SIDE; x++)
                store(v + (SIDE * y + x) * plane + c, column[x]);
        }
    }
}

static void winograd_give(float *const *pixels, const float *const *residual, const float *m,
                          int64_t plane, const float *bias, int n)
{
    for (int c = 0; c < n; c += V) {
        vec t[SIDE][OUTPUTS], line[SIDE], y[OUTPUTS]; /* t[x][y] */
        for (int x = 0; x < SIDE; x++) {
            for (int i = 0; i < SIDE; i++)
                line[i] = load(m + (SIDE * i + x) * plane + c);
            give_line(t[x], line);
        }
        for (int i = 0; i < OUTPUTS; i++) {
            for (int x = 0; x < SIDE; x++)
                line[x] = t[x][i];
            give_line(y, line);
            for (int x = 0; x < OUTPUTS; x++) {
                vec value = y[x] + load(bias + c);
                if (residual)
                    value += load(residual[OUTPUTS * i + x] + c);
                store(pixels[OUTPUTS * i + x] + c, value);
            }
        }
    }
}

/* What every table of this width holds. */
#define GENERIC_KERNELS                                                                            \
    .vector_floats = V, .widen = widen, .narrow = narrow, .activate = activate, .gate = gate,      \
    .add = add, .affine = affine, .normalize = normalize, .moments = moments, .total = total,      \
    .total_squares = total_squares, .spin = spin, .spin_operations = 2 * SPIN * V,                 \
    .multiply = multiply, .winograd_take = winograd_take, .winograd_give = winograd_give
