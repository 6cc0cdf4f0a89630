/* amx_product.c: 32 rows by 32 output channels at a time: four tiles of sums, two of A, two of B,
 * so that four products need four loads. A panel's weights are walked in pieces, each of which all
 * rows meet before the next; between pieces the sums wait in scratch memory.
 *
 * Most weights come from memory in every step, and the processor does not see it coming: the rows
 * of A keep its prefetchers busy. So while a piece is multiplied the next one is asked for, a few
 * lines a product. */
#include "backend/cpu/amx_product.h"
#include "backend/cpu/amx_tiles.h"

#define PIECE_MATRICES 72 /* of 2 KB each */
#define CACHE_LINE     64
#define MATRIX_LINES   (AMX_STEP * (int)sizeof(uint16_t) / CACHE_LINE)
#define ROWS           (2 * TILE_ROWS)
#define LANES          16
#define INLINE         static inline __attribute__((always_inline))

size_t sdw_amx_scratch_floats(int rows)
{
    return (size_t)((rows + ROWS - 1) / ROWS) * ROWS * AMX_PANEL;
}

/* Steps first..end-1 of a panel. */
struct piece {
    const uint16_t *panel;
    int first, end;
    const char *ahead; /* of the next piece */
    int lines;         /* of the cache, to ask for with each product */
};

/* sums [ROWS][AMX_PANEL] = or += a piece's products; `down` tiles of rows, a constant. */
INLINE void multiply(float *sums, const struct sdw_amx_rows *rows, int r,
                     const struct sdw_amx_sum *sum, struct piece *piece, int down)
{
    const size_t line = AMX_PANEL * sizeof *sums, bytes = (size_t)rows->pitch * sizeof *rows->a;
    const uint16_t *a = rows->a + r * rows->pitch + (int64_t)piece->first * TILE_DEPTH;
    float *below = sums + TILE_ROWS * AMX_PANEL;
    const uint16_t *panel = piece->panel + piece->first * sum->next;
    const char *ahead = piece->ahead;
    TILES_SEE_MEMORY;
    if (piece->first > 0) {
        _tile_loadd(0, sums, line);
        _tile_loadd(1, sums + LANES, line);
        if (down == 2) {
            _tile_loadd(2, below, line);
            _tile_loadd(3, below + LANES, line);
        }
    } else {
        _tile_zero(0);
        _tile_zero(1);
        _tile_zero(2);
        _tile_zero(3);
    }
    for (int tap = 0; tap < sum->taps; tap++) {
        const uint16_t *upper = a + sum->tap[tap].a, *b = panel + sum->tap[tap].b;
        for (int step = piece->first; step < piece->end; step++) {
            for (int i = 0; i < piece->lines; i++, ahead += CACHE_LINE)
                _mm_prefetch(ahead, _MM_HINT_T1);
            _tile_loadd(6, b, 64);
            _tile_loadd(4, upper, bytes);
            _tile_dpbf16ps(0, 4, 6);
            _tile_loadd(7, b + TILE_BF16, 64);
            _tile_dpbf16ps(1, 4, 7);
            if (down == 2) {
                _tile_loadd(5, upper + TILE_ROWS * rows->pitch, bytes);
                _tile_dpbf16ps(2, 5, 6);
                _tile_dpbf16ps(3, 5, 7);
            }
            upper += TILE_DEPTH;
            b += sum->next;
        }
    }
    _tile_stored(0, sums, line);
    _tile_stored(1, sums + LANES, line);
    if (down == 2) {
        _tile_stored(2, below, line);
        _tile_stored(3, below + LANES, line);
    }
    TILES_SEE_MEMORY;
    piece->ahead = ahead;
}

INLINE __m512 load_bf16(const uint16_t *from, __mmask16 mask)
{
    __m256i half = _mm256_maskz_loadu_epi16(mask, from);
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(half), 16));
}

/* 16 sums of channels from number `at` of the output on. */
INLINE void write_vector(const struct sdw_amx_product *p, int64_t at, __m512 value, __mmask16 mask)
{
    const struct sdw_tensor *out = p->out, *residual = p->residual;
    if (out->dtype == SDW_F32) {
        if (residual)
            value = _mm512_add_ps(value,
                                  _mm512_maskz_loadu_ps(mask, (const float *)residual->data + at));
        _mm512_mask_storeu_ps((float *)out->data + at, mask, value);
    } else {
        if (residual)
            value = _mm512_add_ps(value, load_bf16((const uint16_t *)residual->data + at, mask));
        _mm256_mask_storeu_epi16((uint16_t *)out->data + at, mask,
                                 (__m256i)_mm512_cvtneps_pbh(value));
    }
}

/* Rows first..end-1, whose sums are complete: bias, activation, residual, and out. */
static void write_rows(const struct sdw_amx_product *p, const struct sdw_amx_rows *rows, int panel,
                       float *sums, int first, int end)
{
    int o = panel * AMX_PANEL, left = p->out->c - o;
    __mmask16 mask0 = left >= LANES ? 0xffff : (__mmask16)((1u << left) - 1);
    __mmask16 mask1 = left >= 2 * LANES ? 0xffff
                      : left > LANES    ? (__mmask16)((1u << (left - LANES)) - 1)
                                        : 0;
    __m512 bias0 = _mm512_maskz_loadu_ps(mask0, p->bias + o),
           bias1 = mask1 ? _mm512_maskz_loadu_ps(mask1, p->bias + o + LANES) : bias0;
    int y = first / rows->line, x = first % rows->line;
    for (int r = first; r < end; r++, sums += AMX_PANEL) {
        if (x < rows->width) {
            int64_t at = rows->at + y * rows->line_step + x * rows->pixel_step + o;
            __m512 v0 = _mm512_add_ps(_mm512_loadu_ps(sums), bias0);
            __m512 v1 = _mm512_add_ps(_mm512_loadu_ps(sums + LANES), bias1);
            if (p->act != SDW_ACT_NONE) {
                _mm512_storeu_ps(sums, v0);
                _mm512_storeu_ps(sums + LANES, v1);
                p->kernels->activate(sums, p->act, AMX_PANEL);
                v0 = _mm512_loadu_ps(sums);
                v1 = _mm512_loadu_ps(sums + LANES);
            }
            write_vector(p, at, v0, mask0);
            if (mask1)
                write_vector(p, at + LANES, v1, mask1);
        }
        if (++x == rows->line) {
            x = 0;
            y++;
        }
    }
}

void sdw_amx_panel_run(const struct sdw_amx_product *product, const struct sdw_amx_sum *sum,
                       const struct sdw_amx_rows *rows, int panel, float *scratch)
{
    const uint16_t *b =
        product->weight->tiles + (int64_t)panel * sdw_amx_panel_count(product->weight);
    int steps = PIECE_MATRICES / sum->taps, blocks = (rows->count + ROWS - 1) / ROWS;
    for (int first = 0; first < sum->steps; first += steps) {
        int end = first + steps < sum->steps ? first + steps : sum->steps;
        struct piece piece = {b, first, end, NULL, MATRIX_LINES / blocks};
        piece.ahead = (const char *)(b + end * sum->next);
        for (int r = 0; r < rows->count; r += ROWS) {
            float *sums = steps >= sum->steps ? scratch : scratch + (int64_t)r * AMX_PANEL;
            int left = rows->count - r < ROWS ? rows->count - r : ROWS;
            if (left > TILE_ROWS)
                multiply(sums, rows, r, sum, &piece, 2);
            else
                multiply(sums, rows, r, sum, &piece, 1);
            if (end == sum->steps)
                write_rows(product, rows, panel, sums, r, r + left);
        }
    }
}
