/* attention_tmpl.h: attention in f32 over vectors of SDW_VEC_BYTES, and the table of an instruction
 * set that uses it. Packed: q [rows][width]; k [width][KEYS];
 * v [KEYS][width]. */
#include "backend/cpu/kernels_tmpl.h"

#define ROWS 12  /* queries at a time: two groups of six */
#define KEYS 256 /* of a block */

static void pack_keys(void *k_to, void *v_to, const void *k, const void *v, int64_t stride,
                      int rows, int width, int padded)
{
    float *columns = k_to, *lines = v_to;
    memset(columns, 0, (size_t)padded * KEYS * sizeof *columns);
    memset(lines, 0, (size_t)padded * KEYS * sizeof *lines);
    for (int r = 0; r < rows; r++) {
        const float *key = (const float *)k + r * stride;
        for (int c = 0; c < width; c++)
            columns[(int64_t)c * KEYS + r] = key[c];
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
    for (int c = 0; c < block->used; c++, k += KEYS) {
        vec k0 = load(k), k1 = load(k + V);
#pragma GCC unroll 6
        for (int r = 0; r < rows; r++) {
            vec value = splat(q[(int64_t)r * block->width + c]);
            a[r] += value * k0;
            b[r] += value * k1;
        }
    }
    for (int r = 0; r < rows; r++) {
        float *to = block->scores + (first + r) * KEYS + key;
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
    float *s = block->scores + r * KEYS;
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
    const float *v = (const float *)block->v + c, *p = block->scores + (int64_t)first * KEYS;
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
            vec weight = splat(p[r * KEYS + j]);
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
    float factor[ROWS];
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

static void attend_blocks(const struct sdw_attention_block *block, int count)
{
    for (int i = 0; i < count; i++)
        attend_block(block + i);
}

const struct sdw_cpu_kernels SDW_KERNELS = {
    .name = SDW_KERNELS_NAME,
    GENERIC_KERNELS,
    .attention_dtype = SDW_F32,
    .attention_rows = ROWS,
    .attention_keys = KEYS,
    .attention_scores = ROWS * KEYS,
    .attention_pad = 2 * V,
    .pack_keys = pack_keys,
    .attend_blocks = attend_blocks,
};
