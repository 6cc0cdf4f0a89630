/* winograd.c: see winograd.h.
 *
 * The picture is cut into tiles of 2x2 outputs, each from 4x4 inputs, or from 3x3 of a picture that
 * is doubled. A work item is a block of tiles times a range of output channels: it transforms its
 * inputs to 16 (9) matrices V [tiles, in], multiplies each with the matrix U [in, out] of its
 * position, 64 output channels at a time, and transforms the products back. Everything that an item
 * touches between reading inputs and writing outputs stays in its core's cache, and items share
 * nothing, so there is no barrier: they are handed out from the pool's counter. */
#include "backend/cpu/winograd.h"

#include "base/half.h"
#include "base/pool.h"

#include <stdlib.h>
#include <string.h>

#if defined(__x86_64__)
#include <immintrin.h>

#define POSITIONS         16
#define POSITIONS_DOUBLED 9
#define TILES_MAX         48 /* of a work item: V and the products stay in the second-level cache */
#define ROWS                                                                                       \
    6 /* tiles that the inner kernel holds in registers, times BLOCK channels: 24 of 32 registers  \
       */
#define LANES       16
#define PACK_INPUTS 32 /* input channels that are read at a time at packing */
#define BLOCK       64 /* output channels at a time */
#define TARGET      __attribute__((target("avx512f,avx512bw,avx512vl,avx512bf16")))
#define FORCE       static inline __attribute__((always_inline)) TARGET

struct sdw_winograd {
    int in, out;
    bool doubled;
    int positions;
    float *bias; /* [out] */
    uint16_t *u; /* for each block of 64 outputs: [positions][in/2][outputs of the block][2] */
};

bool sdw_winograd_usable(int in, int out)
{
    return in % 32 == 0 && out % LANES == 0 && __builtin_cpu_supports("avx512bf16") &&
           __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl");
}

typedef float lanes __attribute__((vector_size(LANES * sizeof(float))));

/* U = G g G^T of 16 kernels side by side. */
TARGET static void transform_kernels(lanes u[POSITIONS], const lanes g[9])
{
    lanes t[4][3];
    for (int x = 0; x < 3; x++) {
        t[0][x] = g[x];
        t[1][x] = (g[x] + g[3 + x] + g[6 + x]) * 0.5f;
        t[2][x] = (g[x] - g[3 + x] + g[6 + x]) * 0.5f;
        t[3][x] = g[6 + x];
    }
    for (int y = 0; y < 4; y++) {
        u[4 * y] = t[y][0];
        u[4 * y + 1] = (t[y][0] + t[y][1] + t[y][2]) * 0.5f;
        u[4 * y + 2] = (t[y][0] - t[y][1] + t[y][2]) * 0.5f;
        u[4 * y + 3] = t[y][2];
    }
}

/* The same for a doubled picture: its middle two positions are one. */
TARGET static void transform_kernels_doubled(lanes u[POSITIONS_DOUBLED], const lanes g[9])
{
    lanes t[3][3];
    for (int x = 0; x < 3; x++) {
        t[0][x] = g[x];
        t[1][x] = g[x] + g[3 + x] + g[6 + x];
        t[2][x] = g[6 + x];
    }
    for (int y = 0; y < 3; y++) {
        u[3 * y] = t[y][0];
        u[3 * y + 1] = t[y][0] + t[y][1] + t[y][2];
        u[3 * y + 2] = t[y][2];
    }
}

struct packing {
    struct sdw_winograd *to;
    const struct sdw_array *from;
};

static int block_width(const struct sdw_winograd *weight, int block)
{
    int rest = weight->out - block * BLOCK;
    return rest < BLOCK ? rest : BLOCK;
}

static uint16_t *block_start(const struct sdw_winograd *weight, int block)
{
    return weight->u + (size_t)block * BLOCK * (size_t)weight->positions * (size_t)weight->in;
}

/* The kernels from input channel `i` to 16 output channels, transformed and rounded to bf16. */
TARGET static void pack_kernels(const struct sdw_winograd *to, __m256i u[POSITIONS],
                                float rows[LANES][PACK_INPUTS * 9], int i)
{
    lanes g[9], values[POSITIONS];
    for (int tap = 0; tap < 9; tap++)
        for (int lane = 0; lane < LANES; lane++)
            g[tap][lane] = rows[lane][i * 9 + tap];
    (to->doubled ? transform_kernels_doubled : transform_kernels)(values, g);
    for (int p = 0; p < to->positions; p++)
        u[p] = (__m256i)_mm512_cvtneps_pbh((__m512)values[p]);
}

/* A tile of the packing is 16 output channels: what it writes are whole lines of the cache. */
TARGET static void pack_channels(void *context, int64_t group, int thread)
{
    struct packing *packing = context;
    struct sdw_winograd *to = packing->to;
    int first = (int)group * LANES, block = first / BLOCK, width = block_width(to, block);
    float rows[LANES][PACK_INPUTS * 9];
    (void)thread;
    for (int i = 0; i < to->in; i++) {
        if (i % PACK_INPUTS == 0)
            for (int lane = 0; lane < LANES; lane++)
                sdw_array_to_f32(rows[lane], packing->from,
                                 ((int64_t)(first + lane) * to->in + i) * 9, PACK_INPUTS * 9);
        if (i % 2)
            continue;
        __m256i even[POSITIONS], odd[POSITIONS];
        pack_kernels(to, even, rows, i % PACK_INPUTS);
        pack_kernels(to, odd, rows, i % PACK_INPUTS + 1);
        uint16_t *u =
            block_start(to, block) + ((size_t)i / 2 * (size_t)width + (size_t)(first % BLOCK)) * 2;
        for (int p = 0; p < to->positions; p++, u += (size_t)to->in * (size_t)width)
            _mm512_store_si512(
                u, _mm512_or_si512(_mm512_cvtepu16_epi32(even[p]),
                                   _mm512_slli_epi32(_mm512_cvtepu16_epi32(odd[p]), 16)));
    }
}

struct sdw_winograd *sdw_winograd_pack(const struct sdw_array *weight, const struct sdw_array *bias,
                                       bool doubled, size_t *bytes)
{
    struct sdw_winograd *packed = calloc(1, sizeof *packed);
    if (!packed)
        return NULL;
    packed->out = (int)weight->dim[0];
    packed->in = (int)weight->dim[1];
    packed->doubled = doubled;
    packed->positions = doubled ? POSITIONS_DOUBLED : POSITIONS;
    size_t size =
        (size_t)packed->in * (size_t)packed->out * (size_t)packed->positions * sizeof(uint16_t);
    packed->u = aligned_alloc(64, (size + 63) & ~(size_t)63);
    packed->bias = calloc((size_t)packed->out, sizeof(float));
    if (!packed->u || !packed->bias) {
        sdw_winograd_free(packed);
        return NULL;
    }
    if (bias)
        sdw_array_to_f32(packed->bias, bias, 0, packed->out);
    struct packing packing = {packed, weight};
    sdw_pool_run(packed->out / LANES, pack_channels, &packing);
    *bytes = size + (size_t)packed->out * sizeof(float);
    return packed;
}

void sdw_winograd_free(struct sdw_winograd *weight)
{
    if (!weight)
        return;
    free(weight->u);
    free(weight->bias);
    free(weight);
}

/* One convolution, as all its work items see it. */
struct convolution {
    const struct sdw_tensor *out, *in, *residual;
    const struct sdw_winograd *weight;
    int tiles_x, tiles_y; /* of one picture */
    int64_t tiles;        /* of all pictures */
    int tiles_per_item;
    int splits;    /* ranges of output channels */
    char *scratch; /* a slice for each thread: V, then the products */
    size_t scratch_bytes;
    const uint16_t *zeros; /* [in]: a pixel outside the picture */
};

FORCE __m512 load_bf16(const uint16_t *from)
{
    return _mm512_castsi512_ps(
        _mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)from)), 16));
}

FORCE void store_bf16(uint16_t *to, __m512 value)
{
    _mm256_storeu_si256((__m256i *)to, (__m256i)_mm512_cvtneps_pbh(value));
}

/* The pixel (y, x) of picture n, or zeros outside. */
static const uint16_t *pixel(const struct convolution *conv, int n, int y, int x)
{
    const struct sdw_tensor *in = conv->in;
    if (y < 0 || y >= in->h || x < 0 || x >= in->w)
        return conv->zeros;
    return (const uint16_t *)in->data + (((int64_t)n * in->h + y) * in->w + x) * in->c;
}

/* V = B^T d B of one tile: 16 channels at a time, row transform in registers, then the columns. */
TARGET static void transform_tile(const struct convolution *conv, int64_t tile, uint16_t *v,
                                  size_t plane)
{
    int in = conv->in->c, per_picture = conv->tiles_x * conv->tiles_y;
    int n = (int)(tile / per_picture), rest = (int)(tile % per_picture);
    int y = 2 * (rest / conv->tiles_x) - 1, x = 2 * (rest % conv->tiles_x) - 1;
    const uint16_t *d[4][4];
    for (int i = 0; i < 4; i++)
        for (int j = 0; j < 4; j++)
            d[i][j] = pixel(conv, n, y + i, x + j);
    for (int c = 0; c < in; c += LANES) {
        __m512 t[4][4];
#pragma GCC unroll 4
        for (int j = 0; j < 4; j++) {
            __m512 d0 = load_bf16(d[0][j] + c), d1 = load_bf16(d[1][j] + c);
            __m512 d2 = load_bf16(d[2][j] + c), d3 = load_bf16(d[3][j] + c);
            t[0][j] = _mm512_sub_ps(d0, d2);
            t[1][j] = _mm512_add_ps(d1, d2);
            t[2][j] = _mm512_sub_ps(d2, d1);
            t[3][j] = _mm512_sub_ps(d1, d3);
        }
#pragma GCC unroll 4
        for (int i = 0; i < 4; i++) {
            uint16_t *to = v + (size_t)(4 * i) * plane + c;
            store_bf16(to, _mm512_sub_ps(t[i][0], t[i][2]));
            store_bf16(to + plane, _mm512_add_ps(t[i][1], t[i][2]));
            store_bf16(to + 2 * plane, _mm512_sub_ps(t[i][2], t[i][1]));
            store_bf16(to + 3 * plane, _mm512_sub_ps(t[i][1], t[i][3]));
        }
    }
}

/* The same of a doubled picture, from the pixels around the one that the tile shows twice. */
TARGET static void transform_tile_doubled(const struct convolution *conv, int64_t tile, uint16_t *v,
                                          size_t plane)
{
    int in = conv->in->c, per_picture = conv->tiles_x * conv->tiles_y;
    int n = (int)(tile / per_picture), rest = (int)(tile % per_picture);
    int y = rest / conv->tiles_x - 1, x = rest % conv->tiles_x - 1;
    const uint16_t *d[3][3];
    for (int i = 0; i < 3; i++)
        for (int j = 0; j < 3; j++)
            d[i][j] = pixel(conv, n, y + i, x + j);
    for (int c = 0; c < in; c += LANES) {
        __m512 t[3][3];
#pragma GCC unroll 3
        for (int j = 0; j < 3; j++) {
            __m512 middle = load_bf16(d[1][j] + c);
            t[0][j] = _mm512_sub_ps(load_bf16(d[0][j] + c), middle);
            t[1][j] = middle;
            t[2][j] = _mm512_sub_ps(middle, load_bf16(d[2][j] + c));
        }
#pragma GCC unroll 3
        for (int i = 0; i < 3; i++) {
            uint16_t *to = v + (size_t)(3 * i) * plane + c;
            store_bf16(to, _mm512_sub_ps(t[i][0], t[i][1]));
            store_bf16(to + plane, t[i][1]);
            store_bf16(to + 2 * plane, _mm512_sub_ps(t[i][1], t[i][2]));
        }
    }
}

/* m [rows][BLOCK] = v [rows][in] . u [in/2][16 vectors][2]; rows and vectors are constants wherever
 * it is expanded. */
FORCE void multiply(int rows, int vectors, float *m, const uint16_t *v, const uint16_t *u, int in)
{
    __m512 sum[ROWS][BLOCK / LANES];
#pragma GCC unroll 6
    for (int r = 0; r < rows; r++)
#pragma GCC unroll 4
        for (int j = 0; j < vectors; j++)
            sum[r][j] = _mm512_setzero_ps();
    for (int k = 0; k < in; k += 2) {
        __m512bh b[BLOCK / LANES];
#pragma GCC unroll 4
        for (int j = 0; j < vectors; j++)
            b[j] = (__m512bh)_mm512_load_si512(u + (size_t)(j * LANES) * 2);
        u += vectors * LANES * 2;
#pragma GCC unroll 6
        for (int r = 0; r < rows; r++) {
            int pair;
            memcpy(&pair, v + (size_t)r * (size_t)in + k, sizeof pair);
            __m512bh a = (__m512bh)_mm512_set1_epi32(pair);
#pragma GCC unroll 4
            for (int j = 0; j < vectors; j++)
                sum[r][j] = _mm512_dpbf16_ps(sum[r][j], a, b[j]);
        }
    }
#pragma GCC unroll 6
    for (int r = 0; r < rows; r++)
#pragma GCC unroll 4
        for (int j = 0; j < vectors; j++)
            _mm512_store_ps(m + r * BLOCK + j * LANES, sum[r][j]);
}

#define MULTIPLY(rows, vectors)                                                                    \
    TARGET static void multiply_##rows##_##vectors(float *m, const uint16_t *v, const uint16_t *u, \
                                                   int in)                                         \
    {                                                                                              \
        multiply(rows, vectors, m, v, u, in);                                                      \
    }
#define MULTIPLY_ROWS(vectors)                                                                     \
    MULTIPLY(1, vectors)                                                                           \
    MULTIPLY(2, vectors)                                                                           \
    MULTIPLY(3, vectors) MULTIPLY(4, vectors) MULTIPLY(5, vectors) MULTIPLY(6, vectors)
MULTIPLY_ROWS(1)
MULTIPLY_ROWS(2)
MULTIPLY_ROWS(3)
MULTIPLY_ROWS(4)

#define COLUMN(vectors)                                                                            \
    {                                                                                              \
        multiply_1_##vectors, multiply_2_##vectors, multiply_3_##vectors, multiply_4_##vectors,    \
            multiply_5_##vectors, multiply_6_##vectors                                             \
    }
static void (*const multiply_table[BLOCK / LANES][ROWS])(float *, const uint16_t *,
                                                         const uint16_t *, int) = {
    COLUMN(1), COLUMN(2), COLUMN(3), COLUMN(4)};

/* Adds bias and residual to one output pixel's vector and writes it. */
FORCE void write_vector(const struct convolution *conv, int64_t at, __m512 value)
{
    if (conv->out->dtype == SDW_F32) {
        if (conv->residual)
            value = _mm512_add_ps(value, _mm512_loadu_ps((const float *)conv->residual->data + at));
        _mm512_storeu_ps((float *)conv->out->data + at, value);
    } else {
        if (conv->residual)
            value = _mm512_add_ps(value, load_bf16((const uint16_t *)conv->residual->data + at));
        store_bf16((uint16_t *)conv->out->data + at, value);
    }
}

/* Y = A^T m A: 16 channels of a tile's four outputs. */
FORCE void transform_back(__m512 y[2][2], const float *m, size_t plane)
{
    __m512 top[4], bottom[4];
#pragma GCC unroll 4
    for (int j = 0; j < 4; j++) {
        __m512 m0 = _mm512_load_ps(m + (size_t)j * plane);
        __m512 m1 = _mm512_load_ps(m + (size_t)(4 + j) * plane);
        __m512 m2 = _mm512_load_ps(m + (size_t)(8 + j) * plane);
        __m512 m3 = _mm512_load_ps(m + (size_t)(12 + j) * plane);
        top[j] = _mm512_add_ps(_mm512_add_ps(m0, m1), m2);
        bottom[j] = _mm512_sub_ps(_mm512_sub_ps(m1, m2), m3);
    }
    y[0][0] = _mm512_add_ps(_mm512_add_ps(top[0], top[1]), top[2]);
    y[0][1] = _mm512_sub_ps(_mm512_sub_ps(top[1], top[2]), top[3]);
    y[1][0] = _mm512_add_ps(_mm512_add_ps(bottom[0], bottom[1]), bottom[2]);
    y[1][1] = _mm512_sub_ps(_mm512_sub_ps(bottom[1], bottom[2]), bottom[3]);
}

/* The same of a doubled picture. In a tile that is cut off after its first row the second pixel is
 * not b but outside, which takes g2 b away, and m3 is that: c is outside, too. */
FORCE void transform_back_doubled(__m512 y[2][2], const float *m, size_t plane, bool right,
                                  bool below)
{
    __m512 top[3], bottom[3];
#pragma GCC unroll 3
    for (int j = 0; j < 3; j++) {
        __m512 m1 = _mm512_load_ps(m + (size_t)(3 + j) * plane);
        bottom[j] = _mm512_sub_ps(m1, _mm512_load_ps(m + (size_t)(6 + j) * plane));
        top[j] = _mm512_add_ps(_mm512_load_ps(m + (size_t)j * plane), below ? m1 : bottom[j]);
    }
    y[0][1] = _mm512_sub_ps(top[1], top[2]);
    y[0][0] = _mm512_add_ps(top[0], right ? top[1] : y[0][1]);
    y[1][1] = _mm512_sub_ps(bottom[1], bottom[2]);
    y[1][0] = _mm512_add_ps(bottom[0], right ? bottom[1] : y[1][1]);
}

/* Transforms one tile's products back and writes `width` channels from channel `o` on. */
TARGET static void write_tile(const struct convolution *conv, int64_t tile, const float *m,
                              size_t plane, int o, int width)
{
    const struct sdw_tensor *out = conv->out;
    int per_picture = conv->tiles_x * conv->tiles_y;
    int n = (int)(tile / per_picture), rest = (int)(tile % per_picture);
    int y = 2 * (rest / conv->tiles_x), x = 2 * (rest % conv->tiles_x);
    int64_t corner = (((int64_t)n * out->h + y) * out->w + x) * out->c + o;
    int64_t row = (int64_t)out->w * out->c;
    bool right = x + 1 < out->w, below = y + 1 < out->h;
    for (int c = 0; c < width; c += LANES) {
        __m512 values[2][2], bias = _mm512_loadu_ps(conv->weight->bias + o + c);
        if (conv->weight->doubled)
            transform_back_doubled(values, m + c, plane, right, below);
        else
            transform_back(values, m + c, plane);
        write_vector(conv, corner + c, _mm512_add_ps(values[0][0], bias));
        if (right)
            write_vector(conv, corner + out->c + c, _mm512_add_ps(values[0][1], bias));
        if (below)
            write_vector(conv, corner + row + c, _mm512_add_ps(values[1][0], bias));
        if (right && below)
            write_vector(conv, corner + row + out->c + c, _mm512_add_ps(values[1][1], bias));
    }
}

static void run_item(void *context, int64_t item, int thread)
{
    const struct convolution *conv = context;
    const struct sdw_winograd *weight = conv->weight;
    int in = weight->in;
    int64_t first = item / conv->splits * conv->tiles_per_item;
    int count = (int)(conv->tiles - first < conv->tiles_per_item ? conv->tiles - first
                                                                 : conv->tiles_per_item);
    size_t v_plane = (size_t)conv->tiles_per_item * (size_t)in,
           m_plane = (size_t)conv->tiles_per_item * BLOCK;
    uint16_t *v = (uint16_t *)(conv->scratch + (size_t)thread * conv->scratch_bytes);
    float *m = (float *)(v + (size_t)weight->positions * v_plane);

    for (int t = 0; t < count; t++)
        (weight->doubled ? transform_tile_doubled
                         : transform_tile)(conv, first + t, v + (size_t)t * (size_t)in, v_plane);

    int blocks = (weight->out + BLOCK - 1) / BLOCK, split = (int)(item % conv->splits);
    for (int block = blocks * split / conv->splits; block < blocks * (split + 1) / conv->splits;
         block++) {
        int width = block_width(weight, block);
        const uint16_t *u = block_start(weight, block);
        for (int p = 0; p < weight->positions; p++, u += (size_t)width * (size_t)in)
            for (int t = 0; t < count; t += ROWS) {
                int rows = count - t < ROWS ? count - t : ROWS;
                multiply_table[width / LANES - 1][rows - 1](
                    m + (size_t)p * m_plane + t * BLOCK,
                    v + (size_t)p * v_plane + (size_t)t * (size_t)in, u, in);
            }
        for (int t = 0; t < count; t++)
            write_tile(conv, first + t, m + t * BLOCK, m_plane, block * BLOCK, width);
    }
}

bool sdw_winograd_run(const struct sdw_tensor *out, const struct sdw_tensor *in,
                      const struct sdw_winograd *weight, const struct sdw_tensor *residual)
{
    struct convolution conv = {.out = out, .in = in, .residual = residual, .weight = weight};
    conv.tiles_x = (out->w + 1) / 2;
    conv.tiles_y = (out->h + 1) / 2;
    conv.tiles = (int64_t)out->n * conv.tiles_x * conv.tiles_y;

    /* Few tiles: split the channels too, so that every thread has work and the weights are read
     * once. The split depends on shapes alone; sums do not depend on it at all. */
    int64_t items = (conv.tiles + TILES_MAX - 1) / TILES_MAX;
    conv.tiles_per_item = (int)((conv.tiles + items - 1) / items);
    conv.splits = items >= 16 ? 1 : 8;
    int blocks = (weight->out + BLOCK - 1) / BLOCK;
    if (conv.splits > blocks)
        conv.splits = blocks;

    int threads = sdw_pool_threads();
    size_t pixels = (size_t)conv.tiles_per_item * (size_t)weight->positions;
    conv.scratch_bytes = pixels * ((size_t)weight->in * sizeof(uint16_t) + BLOCK * sizeof(float));
    size_t zeros_bytes = (size_t)weight->in * sizeof(uint16_t);
    char *memory =
        aligned_alloc(64, ((size_t)threads * conv.scratch_bytes + zeros_bytes + 63) & ~(size_t)63);
    if (!memory)
        return false;
    conv.scratch = memory;
    conv.zeros = memset(memory + (size_t)threads * conv.scratch_bytes, 0, zeros_bytes);
    sdw_pool_run(items * conv.splits, run_item, &conv);
    free(memory);
    return true;
}

#else

bool sdw_winograd_usable(int in, int out)
{
    (void)in, (void)out;
    return false;
}

struct sdw_winograd *sdw_winograd_pack(const struct sdw_array *weight, const struct sdw_array *bias,
                                       bool doubled, size_t *bytes)
{
    (void)weight, (void)bias, (void)doubled, (void)bytes;
    return NULL;
}

void sdw_winograd_free(struct sdw_winograd *weight)
{
    (void)weight;
}

bool sdw_winograd_run(const struct sdw_tensor *out, const struct sdw_tensor *in,
                      const struct sdw_winograd *weight, const struct sdw_tensor *residual)
{
    (void)out, (void)in, (void)weight, (void)residual;
    return false;
}

#endif
