/* amx_linear.c: a linear layer on tiles. A reads the input where it lies; only what is left of the
 * rows after the last 16 is copied, because a tile reads 16. A work item is a block of rows that
 * the second-level cache holds, times a range of panels. */
#include "backend/cpu/amx_product.h"
#include "backend/cpu/amx_tiles.h"
#include "base/pool.h"

#include <limits.h>
#include <string.h>

#define WEIGHT_BYTES                                                                               \
    (7 << 18) /* of all weights, that they count as being in the second-level cache */
#define BLOCK_BYTES  (1 << 20) /* of A, there */
#define ROWS_FEW     64
#define ROWS_MANY    256
#define ITEMS_WANTED 16

struct linear {
    struct sdw_amx_product product;
    const struct sdw_tensor *in;
    struct sdw_amx_sum sum;
    int64_t rows, blocks;
    int block_rows, splits;
    char *scratch; /* a slice for each thread: sums, then a tile's rows of A */
    size_t scratch_bytes, sums_bytes;
};

static void run_item(void *context, int64_t item, int thread)
{
    const struct linear *l = context;
    int64_t first = item % l->blocks * l->block_rows, width = l->in->c;
    int split = (int)(item / l->blocks), panels = l->product.weight->panels;
    int count = (int)(l->rows - first < l->block_rows ? l->rows - first : l->block_rows);
    int rest = count % TILE_ROWS, whole = count - rest;
    char *scratch = l->scratch + (size_t)thread * l->scratch_bytes;
    uint16_t *copy = (uint16_t *)(scratch + l->sums_bytes);
    struct sdw_amx_rows rows = {.a = (const uint16_t *)l->in->data + first * width,
                                .pitch = width,
                                .count = whole,
                                .line = INT_MAX,
                                .width = INT_MAX,
                                .at = first * l->product.out->c,
                                .pixel_step = l->product.out->c};
    struct sdw_amx_rows tail = rows;
    tail.a = copy;
    tail.count = rest;
    tail.at += (int64_t)whole * l->product.out->c;
    if (rest) {
        memcpy(copy, rows.a + whole * width, (size_t)(rest * width) * sizeof *copy);
        memset(copy + rest * width, 0, (size_t)((TILE_ROWS - rest) * width) * sizeof *copy);
    }
    tiles_begin();
    for (int panel = panels * split / l->splits; panel < panels * (split + 1) / l->splits;
         panel++) {
        if (whole)
            sdw_amx_panel_run(&l->product, &l->sum, &rows, panel, (float *)scratch);
        if (rest)
            sdw_amx_panel_run(&l->product, &l->sum, &tail, panel, (float *)scratch);
    }
    tiles_end();
}

/* Where all weights fit the second-level cache, few rows meet them there; else as many as fit share
 * what is read of them. */
static int block_rows(const struct sdw_cpu_weight *weight, int in)
{
    int64_t fits = BLOCK_BYTES / ((int64_t)in * (int64_t)sizeof(uint16_t)) / 32 * 32;
    if (weight->base.bytes <= WEIGHT_BYTES || fits < ROWS_FEW)
        return ROWS_FEW;
    return fits > ROWS_MANY ? ROWS_MANY : (int)fits;
}

void sdw_amx_linear(struct sdw_device *dev, const struct sdw_tensor *out,
                    const struct sdw_tensor *in, const struct sdw_cpu_weight *weight,
                    enum sdw_act act, const struct sdw_tensor *residual)
{
    struct linear l = {.product = {.kernels = ((struct sdw_cpu *)dev)->kernels,
                                   .out = out,
                                   .residual = residual,
                                   .weight = weight->amx,
                                   .bias = weight->bias,
                                   .act = act},
                       .in = in,
                       .sum = {.taps = 1, .steps = weight->amx->steps, .next = AMX_STEP},
                       .rows = sdw_tensor_rows(in)};
    l.block_rows = block_rows(weight, in->c);
    if (l.rows < l.block_rows)
        l.block_rows = (int)l.rows;
    l.blocks = (l.rows + l.block_rows - 1) / l.block_rows;
    l.splits = (int)((ITEMS_WANTED + l.blocks - 1) / l.blocks);
    if (l.splits > weight->amx->panels)
        l.splits = weight->amx->panels;
    l.sums_bytes = sdw_amx_scratch_floats(l.block_rows) * sizeof(float);
    l.scratch_bytes = l.sums_bytes + (size_t)in->c * TILE_ROWS * sizeof(uint16_t);
    l.scratch = sdw_cpu_workspace(dev, (size_t)sdw_pool_threads() * l.scratch_bytes);
    if (l.scratch)
        sdw_pool_run(l.blocks * l.splits, run_item, &l);
}
