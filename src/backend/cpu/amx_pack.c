/* amx_pack.c: brings weights into tiles. A work item is a panel of 32 output channels, read 32
 * input channels at a time: it writes its part of the packed form from front to back. */
#include "backend/cpu/amx_tiles.h"
#include "backend/cpu/amx_weight.h"
#include "base/half.h"
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
};

/* The kernel's pixels that output phase `odd` (0, 1) sees on pixel `tap` (0, 1) of the small
 * picture, each way: an even row sees {0}, {1, 2}, an odd one {0, 1}, {2}. */
static void seen(int odd, int tap, int *first, int *end)
{
    static const int firsts[2][2] = {{0, 1}, {0, 2}}, ends[2][2] = {{1, 3}, {2, 3}};
    *first = firsts[odd][tap];
    *end = ends[odd][tap];
}

/* One channel's kernel g [3][3] to the sums that the 16 matrices of a doubled picture hold. */
static void sum_pixels(float sums[MATRICES_DOUBLED], const float *g)
{
    for (int m = 0; m < MATRICES_DOUBLED; m++) {
        int y0, y1, x0, x1;
        seen(m >> 3 & 1, m >> 1 & 1, &y0, &y1);
        seen(m >> 2 & 1, m & 1, &x0, &x1);
        sums[m] = 0;
        for (int y = y0; y < y1; y++)
            for (int x = x0; x < x1; x++)
                sums[m] += g[3 * y + x];
    }
}

/* 32 input channels of one output channel: column `column` of a tile of each matrix. values
 * [32][taps]. */
static void pack_column(const struct packing *p, uint16_t *to, const float *values, int column)
{
    int64_t matrix = (int64_t)p->to->steps * 2 * TILE_BF16;
    for (int i = 0; i < TILE_DEPTH; i++) {
        uint16_t *at = to + (i / 2 * TILE_ROWS + column) * 2 + i % 2;
        const float *of = values + i * p->taps;
        float sums[MATRICES_DOUBLED];
        if (p->doubled) {
            sum_pixels(sums, of);
            of = sums;
        }
        for (int m = 0; m < p->to->matrices; m++)
            at[m * matrix] = sdw_f32_to_bf16(of[m]);
    }
}

/* A panel's 32 output channels, or what is left of them: the rest stays zero. */
static void pack_panel(void *context, int64_t panel, int thread)
{
    const struct packing *p = context;
    int64_t count = sdw_amx_panel_count(p->to);
    uint16_t *to = p->to->tiles + panel * count;
    float values[TILE_DEPTH * TAPS_MAX];
    int first = (int)panel * AMX_PANEL;
    (void)thread;
    if (first + AMX_PANEL > p->out)
        memset(to, 0, (size_t)count * sizeof *to);
    for (int step = 0; step < p->to->steps; step++)
        for (int column = 0; column < AMX_PANEL && first + column < p->out; column++) {
            int64_t from = ((int64_t)(first + column) * p->in + step * TILE_DEPTH) * p->taps;
            sdw_array_to_f32(values, p->from, from, TILE_DEPTH * p->taps);
            pack_column(p, to + (step * 2 + column / TILE_ROWS) * TILE_BF16, values,
                        column % TILE_ROWS);
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
    w->matrices = packing.doubled ? MATRICES_DOUBLED : packing.taps;
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
