/* amx_pack.c: brings weights into tiles. A work item is a panel of 32 output channels, read 32
 * input channels at a time: it writes its part of the packed form from front to back. */
#include "backend/cpu/amx_tiles.h"
#include "backend/cpu/amx_weight.h"
#include "base/pool.h"

#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#if defined(__linux__)
#include <cpuid.h>
#endif

#define ARCH_REQUEST_STATE 0x1023 /* ARCH_REQ_XCOMP_PERM: arch_prctl's word for it */
#define TILE_DATA          18     /* the state component that holds the tiles */
#define TAPS_MAX           9
#define MATRICES_DOUBLED   16
#define PAIRS              (TILE_DEPTH / 2)

bool sdw_amx_allowed(void)
{
#if defined(__linux__)
    const unsigned bf16 = 1u << 22, tile = 1u << 24;
    unsigned a, b, c, d;
    return __get_cpuid_count(7, 0, &a, &b, &c, &d) && (d & bf16) && (d & tile) &&
           syscall(SYS_arch_prctl, ARCH_REQUEST_STATE, TILE_DATA) == 0;
#else
    return false;
#endif
}

bool sdw_amx_usable(const struct sdw_weight *weight)
{
    const struct sdw_conv_geometry *g = &weight->geometry;
    bool padded = g->top == 1 && g->left == 1 && g->bottom == 1 && g->right == 1;
    return weight->in % TILE_DEPTH == 0 &&
           (weight->kernel == 0 || (weight->kernel == 3 && (g->stride == 2 || padded)) ||
            (weight->kernel == 1 && g->stride == 1 && !g->top && !g->left));
}

struct packing {
    struct sdw_amx_weight *to;
    const struct sdw_array *from;
    int in, out, taps;
    bool doubled;
    int matrices; /* of a panel: phases * taps */
};

/* The kernel's pixels that output phase `odd` (0, 1) sees on pixel `tap` (0, 1) of the small
 * picture, each way: an even row sees {0}, {1, 2}, an odd one {0, 1}, {2}. */
static void seen(int odd, int tap, int *first, int *end)
{
    static const int firsts[2][2] = {{0, 1}, {0, 2}}, ends[2][2] = {{1, 3}, {2, 3}};
    *first = firsts[odd][tap];
    *end = ends[odd][tap];
}

/* The kernels g [TILE_DEPTH][3][3] to the sums [TILE_DEPTH][16] that a doubled picture's matrices
 * hold. */
static void sum_pixels(float *sums, const float *g)
{
    memset(sums, 0, sizeof *sums * TILE_DEPTH * MATRICES_DOUBLED);
    for (int m = 0; m < MATRICES_DOUBLED; m++) {
        int y0, y1, x0, x1;
        seen(m >> 3 & 1, m >> 1 & 1, &y0, &y1);
        seen(m >> 2 & 1, m & 1, &x0, &x1);
        for (int y = y0; y < y1; y++)
            for (int x = x0; x < x1; x++)
                for (int i = 0; i < TILE_DEPTH; i++)
                    sums[i * MATRICES_DOUBLED + m] += g[9 * i + 3 * y + x];
    }
}

/* 32 input channels of an output channel, for all matrices, as bf16 [TILE_DEPTH][matrices]. */
static void read_channel(const struct packing *p, uint16_t *to, int o, int step)
{
    float values[TILE_DEPTH * TAPS_MAX], sums[TILE_DEPTH * MATRICES_DOUBLED];
    const float *of = values;
    int count = TILE_DEPTH * p->matrices;
    sdw_array_to_f32(values, p->from, ((int64_t)o * p->in + step * TILE_DEPTH) * p->taps,
                     TILE_DEPTH * p->taps);
    if (p->doubled) {
        sum_pixels(sums, values);
        of = sums;
    }
    for (int i = 0; i < count; i += 16)
        _mm256_storeu_si256((__m256i *)(to + i),
                            (__m256i)_mm512_cvtneps_pbh(_mm512_loadu_ps(of + i)));
}

/* Pair `pair` of input channels in `matrix`, for 16 output channels whose rows [TILE_DEPTH]
 * [matrices] lie one after the other: a row of the tile. */
static __m512i gather_pair(const struct packing *p, const uint16_t *rows, int matrix, int pair)
{
    int matrices = p->matrices;
    const __m512i row = tile_row_starts(TILE_DEPTH * matrices);
    const uint16_t *even = rows + 2 * pair * matrices + matrix;
    if (matrices == 1)
        return _mm512_i32gather_epi32(row, even, 2);
    /* four bytes at each: of the even channel the lower two count, of the odd one the upper two of
     * what begins before it */
    __m512i low = _mm512_i32gather_epi32(row, even, 2),
            high = _mm512_i32gather_epi32(row, even + matrices - 1, 2);
    return _mm512_mask_blend_epi16(0xaaaaaaaa, low, high);
}

/* A panel's 32 output channels; where there are fewer, the rest of the columns are zeros. */
static void pack_panel(void *context, int64_t panel, int thread)
{
    const struct packing *p = context;
    const struct sdw_amx_weight *w = p->to;
    uint16_t *to = w->tiles + panel * sdw_amx_panel_count(w);
    uint16_t rows[AMX_PANEL * TILE_DEPTH * MATRICES_DOUBLED];
    int first = (int)panel * AMX_PANEL, row = TILE_DEPTH * p->matrices;
    (void)thread;
    for (int step = 0; step < w->steps; step++) {
        for (int column = 0; column < AMX_PANEL; column++) {
            if (first + column < p->out)
                read_channel(p, rows + column * row, first + column, step);
            else
                memset(rows + column * row, 0, (size_t)row * sizeof *rows);
        }
        for (int m = 0; m < p->matrices; m++) {
            int phase = m / w->taps, tap = m % w->taps;
            uint16_t *at = to + ((int64_t)(phase * w->steps + step) * w->taps + tap) * AMX_STEP;
            for (int i = 0; i < 2 * PAIRS; i++, at += 2 * TILE_ROWS)
                _mm512_store_si512(
                    at, gather_pair(p, rows + i / PAIRS * TILE_ROWS * row, m, i % PAIRS));
        }
    }
}

bool sdw_amx_pack(struct sdw_device *dev, struct sdw_cpu_weight *weight,
                  const struct sdw_array *array)
{
    const struct sdw_weight *base = &weight->base;
    struct sdw_amx_weight *w = calloc(1, sizeof *w);
    struct packing packing = {.to = w, .from = array, .in = base->in, .out = base->out};
    packing.taps = base->kernel ? base->kernel * base->kernel : 1;
    packing.doubled = base->geometry.doubled;
    weight->amx = w;
    if (!w) {
        sdw_device_fail(dev, SDW_MEMORY, "%s: no memory for a weight", dev->id);
        return false;
    }
    w->panels = (base->out + AMX_PANEL - 1) / AMX_PANEL;
    w->phases = packing.doubled ? 4 : 1;
    w->taps = packing.doubled ? 4 : packing.taps;
    packing.matrices = w->phases * w->taps;
    w->steps = base->in / TILE_DEPTH;
    weight->base.bytes = (size_t)(sdw_amx_panel_count(w) * w->panels) * sizeof *w->tiles;
    w->tiles = dev->ops->buffer_new(dev, weight->base.bytes);
    if (w->tiles)
        sdw_pool_run(w->panels, pack_panel, &packing);
    return w->tiles != NULL;
}

void sdw_amx_weight_free(struct sdw_amx_weight *weight)
{
    if (!weight)
        return;
    free(weight->tiles);
    free(weight);
}
