/* kernels_amx_bf16.c: attention on AMX's tiles. 32 queries meet a block of keys: the scores of 32
 * queries and 32 keys are four tiles, and so are 32 queries of the output by 32 channels.
 *
 * The products take so little time there that the softmax's exponentials are most of it, and a tile
 * has its sums only 50 cycles after it was asked for. So several groups of queries take turns:
 * while the vector units raise powers for one, the tiles multiply for the next and for the one
 * before.
 *
 * Packed: q [rows][padded]; k [padded/32][keys/16][16 pairs of channels][16 keys][2]; v
 * [padded/16][keys/32][16 pairs of keys][16 channels][2]. */
#define SDW_VEC_BYTES 64
#include "backend/cpu/amx_tiles.h"
#include "backend/cpu/kernels_tmpl.h"

#define LANES 16
#define KEYS  256
/* Floats from one query's scores to the next's: not a power of two, where 16 rows of a tile would
 * share few sets of the cache. */
#define LINE   (KEYS + 16)
#define ROWS   32
#define NARROW 64 /* channels of a head whose queries stay in tiles */
#define PAIRS  (TILE_DEPTH / 2)

static float spin_tiles(int64_t rounds)
{
    float sum[TILE_ROWS * LANES];
    tiles_begin();
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
    _tile_zero(4);
    _tile_zero(5);
    _tile_zero(6);
    _tile_zero(7);
    for (int64_t round = 0; round < rounds; round++) {
        _tile_dpbf16ps(0, 4, 6);
        _tile_dpbf16ps(1, 4, 7);
        _tile_dpbf16ps(2, 5, 6);
        _tile_dpbf16ps(3, 5, 7);
    }
    _tile_stored(0, sum, 64);
    TILES_SEE_MEMORY;
    tiles_end();
    return sum[0];
}

/* A tile of keys: pairs of channels of up to 16 keys, `width` of them from there on. */
static void pack_key_tile(uint16_t *to, const uint16_t *from, int64_t stride, int keys, int width)
{
    const __m512i apart = tile_row_starts((int)stride);
    __mmask16 there = (__mmask16)((1u << keys) - 1);
    for (int pair = 0; pair < PAIRS; pair++, to += 2 * LANES) {
        int left = width - 2 * pair;
        __m512i line = _mm512_setzero_si512();
        if (left >= 2)
            line = _mm512_mask_i32gather_epi32(line, there, apart, from + 2 * pair, 2);
        _mm512_storeu_si512(to, line);
        if (left == 1)
            for (int key = 0; key < keys; key++)
                to[2 * key] = from[key * stride + 2 * pair];
    }
}

/* 16 channels of a pair of values, side by side; `second` may be NULL. */
INLINE __m512i pair_of(const uint16_t *first, const uint16_t *second, __mmask16 there)
{
    __m512i even = _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(there, first));
    if (!second)
        return even;
    __m512i odd = _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(there, second));
    return _mm512_or_si512(even, _mm512_slli_epi32(odd, 16));
}

static void pack_keys_tiles(void *k_to, void *v_to, const void *k, const void *v, int64_t stride,
                            int rows, int width, int padded)
{
    const uint16_t *keys = k, *values = v;
    uint16_t *tile = k_to;
    for (int c = 0; c < padded; c += TILE_DEPTH)
        for (int r = 0; r < KEYS; r += TILE_ROWS, tile += TILE_BF16) {
            int there = rows - r < 0 ? 0 : rows - r > TILE_ROWS ? TILE_ROWS : rows - r;
            pack_key_tile(tile, keys + r * stride + c, stride, there, width - c);
        }
    uint16_t *line = v_to;
    for (int c = 0; c < padded; c += LANES) {
        int left = width - c < 0 ? 0 : width - c > LANES ? LANES : width - c;
        __mmask16 there = (__mmask16)((1u << left) - 1);
        for (int r = 0; r < KEYS; r += 2, line += 2 * LANES) {
            const uint16_t *value = values + r * stride + c;
            __m512i pair = _mm512_setzero_si512();
            if (r < rows && left > 0)
                pair = pair_of(value, r + 1 < rows ? value + stride : NULL, there);
            _mm512_storeu_si512(line, pair);
        }
    }
}

/* 2^x for x <= 0, 0 for -infinity: relative error under 1e-4, where rounding to bf16 has 4e-3. */
INLINE __m512 weight_of(__m512 x)
{
    __m512 f = _mm512_reduce_ps(x, _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC); /* x - floor(x) */
    __m512 p = _mm512_set1_ps(7.80241081e-2f);
    p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(2.26067901e-1f));
    p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(6.95833169e-1f));
    p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(9.99925264e-1f));
    return _mm512_scalef_ps(p, x); /* p 2^floor(x) */
}

/* What row r does not see becomes -infinity; returns the largest of the rest and of `top`, in
 * units of the softmax's exponent. */
INLINE float mask_row(const struct sdw_attention_block *block, int r, int keys)
{
    float *s = block->scores + r * LINE;
    int seen = block->causal_first + r + 1;
    if (seen > block->keys)
        seen = block->keys;
    for (int j = seen > 0 ? seen : 0; j < keys; j++)
        s[j] = -INFINITY;
    __m512 even = _mm512_loadu_ps(s), odd = _mm512_loadu_ps(s + LANES);
    for (int j = 2 * LANES; j < keys; j += 2 * LANES) {
        even = _mm512_max_ps(even, _mm512_loadu_ps(s + j));
        odd = _mm512_max_ps(odd, _mm512_loadu_ps(s + j + LANES));
    }
    float top = _mm512_reduce_max_ps(_mm512_max_ps(even, odd)) * block->scale;
    return top > block->top[r] ? top : block->top[r];
}

/* The scores of row r become weights 2^(s - top), as bf16 at the start of the row; returns their
 * sum. */
INLINE float weigh_row(const struct sdw_attention_block *block, int r, int keys, float top)
{
    float *s = block->scores + r * LINE;
    uint16_t *weights = (uint16_t *)s; /* never ahead of what is still to be read */
    __m512 scale = _mm512_set1_ps(block->scale), topmost = _mm512_set1_ps(top);
    __m512 even = _mm512_setzero_ps(), odd = even;
    for (int j = 0; j < keys; j += 2 * LANES) {
        __m512 a = weight_of(_mm512_fmsub_ps(_mm512_loadu_ps(s + j), scale, topmost));
        __m512 b = weight_of(_mm512_fmsub_ps(_mm512_loadu_ps(s + j + LANES), scale, topmost));
        even = _mm512_add_ps(even, a);
        odd = _mm512_add_ps(odd, b);
        _mm512_storeu_si512(weights + j, (__m512i)_mm512_cvtne2ps_pbh(b, a));
    }
    return _mm512_reduce_add_ps(_mm512_add_ps(even, odd));
}

/* ---- products, a step at a time ---- */

/* Scores of 16 keys for heads of up to 64 channels, whose queries stay in tiles 0 to 3. */
INLINE void score_narrow(const struct sdw_attention_block *block, int step)
{
    const size_t line = LINE * sizeof(float), bytes = (size_t)block->width * sizeof(uint16_t);
    const uint16_t *q = block->q, *below = q + TILE_ROWS * block->width;
    const uint16_t *k = (const uint16_t *)block->k + step * TILE_BF16;
    float *to = block->scores + step * TILE_ROWS;
    bool second = block->used > TILE_DEPTH;
    if (step == 0) {
        _tile_loadd(0, q, bytes);
        _tile_loadd(1, below, bytes);
        if (second) {
            _tile_loadd(2, q + TILE_DEPTH, bytes);
            _tile_loadd(3, below + TILE_DEPTH, bytes);
        }
    }
    _tile_zero(4);
    _tile_zero(5);
    _tile_loadd(6, k, 64);
    _tile_dpbf16ps(4, 0, 6);
    _tile_dpbf16ps(5, 1, 6);
    if (second) {
        _tile_loadd(7, k + KEYS / TILE_ROWS * TILE_BF16, 64);
        _tile_dpbf16ps(4, 2, 7);
        _tile_dpbf16ps(5, 3, 7);
    }
    _tile_stored(4, to, line);
    _tile_stored(5, to + TILE_ROWS * LINE, line);
}

/* Scores of 32 keys for wider heads. */
INLINE void score_wide(const struct sdw_attention_block *block, int step)
{
    const size_t line = LINE * sizeof(float), bytes = (size_t)block->width * sizeof(uint16_t);
    const uint16_t *q = block->q, *k = (const uint16_t *)block->k + 2 * step * TILE_BF16;
    float *to = block->scores + step * TILE_DEPTH, *below = to + TILE_ROWS * LINE;
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
    for (int c = 0; c < block->used; c += TILE_DEPTH, k += KEYS / TILE_ROWS * TILE_BF16) {
        _tile_loadd(6, k, 64);
        _tile_loadd(4, q + c, bytes);
        _tile_dpbf16ps(0, 4, 6);
        _tile_loadd(7, k + TILE_BF16, 64);
        _tile_dpbf16ps(1, 4, 7);
        _tile_loadd(5, q + TILE_ROWS * block->width + c, bytes);
        _tile_dpbf16ps(2, 5, 6);
        _tile_dpbf16ps(3, 5, 7);
    }
    _tile_stored(0, to, line);
    _tile_stored(1, to + LANES, line);
    _tile_stored(2, below, line);
    _tile_stored(3, below + LANES, line);
}

/* out [rows][32 channels] += weights . v for 32 keys; the sums stay in tiles 0 to 3 from a block's
 * first keys to its last. */
INLINE void gather(const struct sdw_attention_block *block, int step)
{
    const size_t line = (size_t)block->width * sizeof(float), weights = LINE * sizeof(float);
    const int64_t tiles = KEYS / TILE_DEPTH * TILE_BF16; /* of 16 channels */
    int depth = (block->keys + TILE_DEPTH - 1) / TILE_DEPTH, key = step % depth;
    int c = step / depth * TILE_DEPTH;
    const uint16_t *p = (const uint16_t *)block->scores + key * TILE_DEPTH;
    const uint16_t *v = (const uint16_t *)block->v + c / LANES * tiles + key * TILE_BF16;
    float *out = block->out + c, *below = out + TILE_ROWS * (int64_t)block->width;
    bool second = c + LANES < block->used;
    if (key == 0) {
        _tile_loadd(0, out, line);
        _tile_loadd(2, below, line);
        if (second) {
            _tile_loadd(1, out + LANES, line);
            _tile_loadd(3, below + LANES, line);
        }
    }
    _tile_loadd(4, p, weights);
    _tile_loadd(6, v, 64);
    _tile_dpbf16ps(0, 4, 6);
    _tile_loadd(5, p + 2 * TILE_ROWS * LINE, weights);
    _tile_dpbf16ps(2, 5, 6);
    if (second) {
        _tile_loadd(7, v + tiles, 64);
        _tile_dpbf16ps(1, 4, 7);
        _tile_dpbf16ps(3, 5, 7);
    }
    if (key < depth - 1)
        return;
    _tile_stored(0, out, line);
    _tile_stored(2, below, line);
    if (second) {
        _tile_stored(1, out + LANES, line);
        _tile_stored(3, below + LANES, line);
    }
}

/* The products that wait while a softmax runs: those of one block's values, then those of another
 * block's scores. */
struct waiting {
    const struct sdw_attention_block *gathered, *scored; /* NULL: none */
    int gathers, steps, done;
};

static void wait_for(struct waiting *w, const struct sdw_attention_block *gathered,
                     const struct sdw_attention_block *scored)
{
    *w = (struct waiting){gathered, scored, 0, 0, 0};
    if (gathered)
        w->gathers = (gathered->keys + TILE_DEPTH - 1) / TILE_DEPTH *
                     ((gathered->used + TILE_DEPTH - 1) / TILE_DEPTH);
    w->steps = w->gathers;
    if (scored) {
        int keys = scored->used <= NARROW ? TILE_ROWS : TILE_DEPTH; /* of a step */
        w->steps += (scored->keys + TILE_DEPTH - 1) / TILE_DEPTH * TILE_DEPTH / keys;
    }
}

/* Goes on to step `end`. */
INLINE void multiply_to(struct waiting *w, int end)
{
    TILES_SEE_MEMORY;
    for (; w->done < end; w->done++) {
        if (w->done < w->gathers)
            gather(w->gathered, w->done);
        else if (w->scored->used <= NARROW)
            score_narrow(w->scored, w->done - w->gathers);
        else
            score_wide(w->scored, w->done - w->gathers);
    }
    TILES_SEE_MEMORY;
}

/* The softmax of the block's scores, with the products that wait between its rows; what was summed
 * before is scaled to the new maxima. */
static void weigh(const struct sdw_attention_block *block, struct waiting *waiting)
{
    int keys = (block->keys + TILE_DEPTH - 1) / TILE_DEPTH * TILE_DEPTH;
    float top[ROWS] = {0}, factor[ROWS] = {0};
    bool same = true;
    for (int r = 0; r < block->rows; r++) {
        top[r] = mask_row(block, r, keys);
        same &= top[r] == block->top[r];
        factor[r] = block->top[r] - top[r]; /* very negative at first, when there is no sum yet */
    }
    if (!same)
        for (int r = 0; r < block->rows; r += LANES)
            store(factor + r, exp2_of(load(factor + r)));
    for (int r = 0; r < block->rows; r++) {
        float sum = weigh_row(block, r, keys, top[r]);
        block->sum[r] = same ? block->sum[r] + sum : block->sum[r] * factor[r] + sum;
        block->top[r] = top[r];
        float *out = block->out + (int64_t)r * block->width;
        for (int c = 0; c < block->used && !same; c += V)
            store(out + c, load(out + c) * splat(factor[r]));
        multiply_to(waiting, waiting->steps * (r + 1) / block->rows);
    }
}

/* While a block's softmax runs, the tiles multiply for its neighbours: the weights of the one
 * before by its values, the queries of the one after by its keys. */
static void attend_blocks_tiles(const struct sdw_attention_block *block, int count)
{
    struct waiting waiting;
    tiles_begin();
    wait_for(&waiting, NULL, block);
    multiply_to(&waiting, waiting.steps);
    for (int i = 0; i < count; i++) {
        wait_for(&waiting, i > 0 ? block + i - 1 : NULL, i + 1 < count ? block + i + 1 : NULL);
        weigh(block + i, &waiting);
    }
    wait_for(&waiting, block + count - 1, NULL);
    multiply_to(&waiting, waiting.steps);
    tiles_end();
}

const struct sdw_cpu_kernels sdw_kernels_amx_bf16 = {
    .name = "AMX BF16",
    GENERIC_KERNELS,
    .spin_bf16 = spin_tiles,
    .spin_bf16_operations = 4 * 2 * TILE_ROWS * LANES * TILE_DEPTH,
    .attention_dtype = SDW_BF16,
    .attention_rows = ROWS,
    .attention_keys = KEYS,
    .attention_scores = ROWS * LINE,
    .attention_pad = TILE_DEPTH,
    .pack_keys = pack_keys_tiles,
    .attend_blocks = attend_blocks_tiles,
};
