/* kernels_avx512_bf16.c: attention on vdpbf16ps, which multiplies pairs of bf16 and adds them to
 * f32: twice the rate of f32. Packed: q [rows][width]; k [pairs of
 * channels][KEYS][2]; v [pairs of keys][width][2]. The weights of the softmax are
 * rounded to bf16 before they meet the values; their sum is of the rounded ones' f32 originals. */
#define SDW_VEC_BYTES 64
#include "backend/cpu/kernels_tmpl.h"

#include <immintrin.h>

#define LANES 16
#define ROWS  12  /* queries at a time: two groups of six */
#define KEYS  256 /* of a block */

static float spin_bf16(int64_t rounds)
{
    __m512 sum[SPIN];
    __m512bh a = (__m512bh)_mm512_set1_epi32(0x3f803f80), b = (__m512bh)_mm512_set1_epi32(0);
#pragma GCC unroll 12
    for (int i = 0; i < SPIN; i++)
        sum[i] = _mm512_set1_ps((float)i);
    for (int64_t round = 0; round < rounds; round++)
#pragma GCC unroll 12
        for (int i = 0; i < SPIN; i++)
            sum[i] = _mm512_dpbf16_ps(sum[i], a, b);
    for (int i = 1; i < SPIN; i++)
        sum[0] = _mm512_add_ps(sum[0], sum[i]);
    return _mm512_reduce_add_ps(sum[0]);
}

static void pack_keys_bf16(void *k_to, void *v_to, const void *k, const void *v, int64_t stride,
                           int rows, int width, int padded)
{
    uint16_t *pairs = k_to, *lines = v_to;
    memset(pairs, 0, (size_t)padded * KEYS * sizeof *pairs);
    memset(lines, 0, (size_t)padded * KEYS * sizeof *lines);
    for (int r = 0; r < rows; r++) {
        const uint16_t *key = (const uint16_t *)k + r * stride,
                       *value = (const uint16_t *)v + r * stride;
        for (int c = 0; c < width; c++)
            pairs[((int64_t)(c / 2) * KEYS + r) * 2 + (c & 1)] = key[c];
        uint16_t *line = lines + (int64_t)(r / 2) * padded * 2 + (r & 1);
        for (int c = 0; c < width; c++)
            line[2 * c] = value[c];
    }
}

/* Two bf16 that stand side by side, in every lane. */
INLINE __m512bh splat_pair(const uint16_t *pair)
{
    int bits;
    memcpy(&bits, pair, sizeof bits);
    return (__m512bh)_mm512_set1_epi32(bits);
}

/* scores[r][64 keys from `key`] for `rows` rows, a constant where it is expanded. */
INLINE void score_rows_bf16(const struct sdw_attention_block *block, int first, int rows, int key)
{
    const uint16_t *q = (const uint16_t *)block->q + (int64_t)first * block->width;
    const uint16_t *k = (const uint16_t *)block->k + (int64_t)key * 2;
    __m512 sum[6][4];
#pragma GCC unroll 6
    for (int r = 0; r < rows; r++)
#pragma GCC unroll 4
        for (int j = 0; j < 4; j++)
            sum[r][j] = _mm512_setzero_ps();
    for (int c = 0; c < block->used; c += 2, k += KEYS * 2) {
        __m512bh b[4];
#pragma GCC unroll 4
        for (int j = 0; j < 4; j++)
            b[j] = (__m512bh)_mm512_loadu_si512(k + j * LANES * 2);
#pragma GCC unroll 6
        for (int r = 0; r < rows; r++) {
            __m512bh a = splat_pair(q + (int64_t)r * block->width + c);
#pragma GCC unroll 4
            for (int j = 0; j < 4; j++)
                sum[r][j] = _mm512_dpbf16_ps(sum[r][j], a, b[j]);
        }
    }
    __m512 scale = _mm512_set1_ps(block->scale);
#pragma GCC unroll 6
    for (int r = 0; r < rows; r++)
#pragma GCC unroll 4
        for (int j = 0; j < 4; j++)
            _mm512_storeu_ps(block->scores + (first + r) * KEYS + key + j * LANES,
                             _mm512_mul_ps(sum[r][j], scale));
}

/* 2^x for x <= 0: the weights are rounded to bf16, a polynomial of degree 4 is ten times finer. */
INLINE __m512 weight_of(__m512 x)
{
    x = _mm512_max_ps(x, _mm512_set1_ps(-126.0f));
    __m512 whole = _mm512_roundscale_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC),
           f = _mm512_sub_ps(x, whole);
    __m512 p = _mm512_set1_ps(9.6181291e-3f);
    p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(5.5504109e-2f));
    p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(2.4022651e-1f));
    p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(6.9314718e-1f));
    p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(1.0f));
    return _mm512_scalef_ps(p, whole);
}

/* As `weigh` of the template, and leaves the weights as bf16 at the start of the row of scores. */
INLINE float weigh_bf16(const struct sdw_attention_block *block, int r, int keys)
{
    float *s = block->scores + r * KEYS;
    uint16_t *weights = (uint16_t *)s;
    int seen =
        block->causal_first + r + 1 < block->keys ? block->causal_first + r + 1 : block->keys;
    for (int j = seen > 0 ? seen : 0; j < keys; j++)
        s[j] = -INFINITY;
    __m512 tops = _mm512_set1_ps(block->top[r]);
    for (int j = 0; j < keys; j += LANES)
        tops = _mm512_max_ps(tops, _mm512_loadu_ps(s + j));
    float top = _mm512_reduce_max_ps(tops);
    __m512 sums = _mm512_setzero_ps(), topmost = _mm512_set1_ps(top),
           least = _mm512_set1_ps(-FLT_MAX);
    for (int j = 0; j < keys; j += LANES) {
        __m512 value = _mm512_loadu_ps(s + j);
        __mmask16 counts = _mm512_cmp_ps_mask(value, least, _CMP_GE_OQ);
        __m512 weight = _mm512_maskz_mov_ps(counts, weight_of(_mm512_sub_ps(value, topmost)));
        sums = _mm512_add_ps(sums, weight);
        _mm256_storeu_si256((__m256i *)(weights + j),
                            (__m256i)_mm512_cvtneps_pbh(weight)); /* never ahead of s + j */
    }
    float factor = block->top[r] > -FLT_MAX ? exp2f(block->top[r] - top) : 0;
    block->sum[r] = block->sum[r] * factor + _mm512_reduce_add_ps(sums);
    block->top[r] = top;
    return factor;
}

/* out[r] = out[r] * factor[r] + weights[r] . v for `rows` rows and `vectors` vectors of channels,
 * both constants. */
INLINE void gather_rows_bf16(const struct sdw_attention_block *block, const float *factor,
                             int first, int rows, int c, int vectors)
{
    const uint16_t *v = (const uint16_t *)block->v + (int64_t)c * 2;
    const float *p = block->scores + (int64_t)first * KEYS;
    float *out = block->out + (int64_t)first * block->width + c;
    __m512 sum[6][4];
#pragma GCC unroll 6
    for (int r = 0; r < rows; r++)
#pragma GCC unroll 4
        for (int j = 0; j < vectors; j++)
            sum[r][j] = _mm512_mul_ps(_mm512_loadu_ps(out + (int64_t)r * block->width + j * LANES),
                                      _mm512_set1_ps(factor[first + r]));
    for (int key = 0; key < block->keys; key += 2, v += block->width * 2) {
        __m512bh b[4];
#pragma GCC unroll 4
        for (int j = 0; j < vectors; j++)
            b[j] = (__m512bh)_mm512_loadu_si512(v + j * LANES * 2);
#pragma GCC unroll 6
        for (int r = 0; r < rows; r++) {
            __m512bh a = splat_pair((const uint16_t *)(p + r * KEYS) + key);
#pragma GCC unroll 4
            for (int j = 0; j < vectors; j++)
                sum[r][j] = _mm512_dpbf16_ps(sum[r][j], a, b[j]);
        }
    }
#pragma GCC unroll 6
    for (int r = 0; r < rows; r++)
#pragma GCC unroll 4
        for (int j = 0; j < vectors; j++)
            _mm512_storeu_ps(out + (int64_t)r * block->width + j * LANES, sum[r][j]);
}

INLINE void gather_bf16(const struct sdw_attention_block *block, const float *factor, int first,
                        int rows)
{
    int c = 0;
    for (; c + 4 * LANES <= block->width; c += 4 * LANES)
        gather_rows_bf16(block, factor, first, rows, c, 4);
    if (block->width - c == 3 * LANES)
        gather_rows_bf16(block, factor, first, rows, c, 3);
    else if (block->width - c == 2 * LANES)
        gather_rows_bf16(block, factor, first, rows, c, 2);
    else if (block->width - c == LANES)
        gather_rows_bf16(block, factor, first, rows, c, 1);
}

static void attend_block_bf16(const struct sdw_attention_block *block)
{
    float factor[ROWS];
    int keys = (block->keys + 4 * LANES - 1) / (4 * LANES) * (4 * LANES), r = 0;
    for (int key = 0; key < keys; key += 4 * LANES) {
        for (r = 0; r + 6 <= block->rows; r += 6)
            score_rows_bf16(block, r, 6, key);
        for (; r < block->rows; r++)
            score_rows_bf16(block, r, 1, key);
    }
    for (r = 0; r < block->rows; r++)
        factor[r] = weigh_bf16(block, r, keys);
    for (r = 0; r + 6 <= block->rows; r += 6)
        gather_bf16(block, factor, r, 6);
    for (; r < block->rows; r++)
        gather_bf16(block, factor, r, 1);
}

static void attend_blocks(const struct sdw_attention_block *block, int count)
{
    for (int i = 0; i < count; i++)
        attend_block_bf16(block + i);
}

const struct sdw_cpu_kernels sdw_kernels_avx512_bf16 = {
    .name = "AVX-512 BF16",
    GENERIC_KERNELS,
    .spin_bf16 = spin_bf16,
    .spin_bf16_operations = 4 * SPIN * LANES,
    .attention_dtype = SDW_BF16,
    .attention_rows = ROWS,
    .attention_keys = KEYS,
    .attention_scores = ROWS * KEYS,
    .attention_pad = LANES,
    .pack_keys = pack_keys_bf16,
    .attend_blocks = attend_blocks,
};
