/* amx_product.c: 32 rows by 32 output channels at a time: four tiles of sums, two of A, two of B,
 * so that four products need four loads. A panel's weights are walked in pieces that the
 * first-level cache holds while all rows meet them; between pieces the sums wait in scratch memory.
 */
#include "backend/cpu/amx_product.h"
#include "backend/cpu/amx_tiles.h"

#include <assert.h>

#define PIECE_STEPS 40 /* of 2 KB each */
#define ROWS        (2 * TILE_ROWS)
#define LANES       16
#define INLINE      static inline __attribute__((always_inline))

void sdw_amx_sum_add(struct sdw_amx_sum *sum, int64_t a, int64_t b, int steps)
{
    int pieces = (steps + PIECE_STEPS - 1) / PIECE_STEPS;
    for (int i = 0; i < pieces; i++) {
        int first = steps * i / pieces, end = steps * (i + 1) / pieces;
        assert(sum->parts < AMX_PARTS_MAX);
        sum->part[sum->parts++] = (struct sdw_amx_part){
            a + (int64_t)first * TILE_DEPTH, b + (int64_t)first * 2 * TILE_BF16, end - first};
    }
}

size_t sdw_amx_scratch_floats(int rows)
{
    return (size_t)((rows + ROWS - 1) / ROWS) * ROWS * AMX_PANEL;
}

/* sums [ROWS][AMX_PANEL] = or += the parts' products; `down` tiles of rows, a constant. */
INLINE void multiply(float *sums, const uint16_t *a, int64_t pitch, const uint16_t *panel,
                     const struct sdw_amx_part *part, const struct sdw_amx_part *end, bool more,
                     int down)
{
    const size_t line = AMX_PANEL * sizeof *sums, bytes = (size_t)pitch * sizeof *a;
    float *below = sums + TILE_ROWS * AMX_PANEL;
    TILES_SEE_MEMORY;
    if (more) {
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
    for (; part < end; part++) {
        const uint16_t *upper = a + part->a, *lower = upper + TILE_ROWS * pitch;
        const uint16_t *b = panel + part->b;
        for (int step = 0; step < part->steps; step++) {
            _tile_loadd(6, b, 64);
            _tile_loadd(4, upper, bytes);
            _tile_dpbf16ps(0, 4, 6);
            _tile_loadd(7, b + TILE_BF16, 64);
            _tile_dpbf16ps(1, 4, 7);
            if (down == 2) {
                _tile_loadd(5, lower, bytes);
                _tile_dpbf16ps(2, 5, 6);
                _tile_dpbf16ps(3, 5, 7);
            }
            upper += TILE_DEPTH;
            lower += TILE_DEPTH;
            b += 2 * TILE_BF16;
        }
    }
    _tile_stored(0, sums, line);
    _tile_stored(1, sums + LANES, line);
    if (down == 2) {
        _tile_stored(2, below, line);
        _tile_stored(3, below + LANES, line);
    }
    TILES_SEE_MEMORY;
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
    const struct sdw_amx_part *part = sum->part, *last = sum->part + sum->parts;
    while (part < last) {
        const struct sdw_amx_part *end = part;
        for (int steps = 0; end < last && (end == part || steps + end->steps <= PIECE_STEPS); end++)
            steps += end->steps;
        bool more = part > sum->part, whole = sum->part == part && end == last;
        for (int r = 0; r < rows->count; r += ROWS) {
            float *sums = whole ? scratch : scratch + (int64_t)r * AMX_PANEL;
            const uint16_t *a = rows->a + (int64_t)r * rows->pitch;
            int left = rows->count - r < ROWS ? rows->count - r : ROWS;
            if (left > TILE_ROWS)
                multiply(sums, a, rows->pitch, b, part, end, more, 2);
            else
                multiply(sums, a, rows->pitch, b, part, end, more, 1);
            if (end == last)
                write_rows(product, rows, panel, sums, r, r + left);
        }
        part = end;
    }
}
