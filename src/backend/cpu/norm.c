/* norm.c: group norm and layer norm, fused with what follows them.
 *
 * Group norm reads its input twice: once for the sums of each channel over tiles of pixels, once to
 * write act(in * scale + offset) with one scale and offset a channel. Sums are taken of differences
 * from the first pixel, so that nothing cancels, and combined in double in the order of the tiles:
 * the same bytes for any number of threads. */
#include "backend/cpu/cpu.h"
#include "backend/cpu/kernels.h"
#include "base/pool.h"

#include <math.h>
#include <string.h>

#define TILE_FLOATS 32768 /* of input that one tile reads: fits the second-level cache twice */

struct group_norm {
    const struct sdw_cpu_kernels *kernels;
    const struct sdw_tensor *out, *in;
    enum sdw_act act;
    int64_t pixels; /* of one picture */
    int tile_pixels;
    int tiles;             /* of one picture */
    float *sums;           /* [n][tiles][2][c] */
    float *shift;          /* [n][c]: the first pixel */
    float *scale, *offset; /* [n][c] */
    float *rows;           /* [threads][c] */
};

static void sum_tile(void *context, int64_t i, int thread)
{
    const struct group_norm *g = context;
    int64_t n = i / g->tiles, first = i % g->tiles * g->tile_pixels, c = g->in->c;
    int64_t last = first + g->tile_pixels < g->pixels ? first + g->tile_pixels : g->pixels;
    float *sum = g->sums + i * 2 * c;
    memset(sum, 0, (size_t)(2 * c) * sizeof *sum);
    for (int64_t p = first; p < last; p++)
        g->kernels->moments(sum, sum + c,
                            sdw_cpu_row(g->kernels, g->in, n * g->pixels + p, g->rows + thread * c),
                            g->shift + n * c, c);
}

static void write_tile(void *context, int64_t i, int thread)
{
    const struct group_norm *g = context;
    int64_t n = i / g->tiles, first = i % g->tiles * g->tile_pixels, c = g->in->c;
    int64_t last = first + g->tile_pixels < g->pixels ? first + g->tile_pixels : g->pixels;
    float *row = g->rows + thread * c;
    for (int64_t p = first; p < last; p++) {
        int64_t r = n * g->pixels + p;
        g->kernels->affine(row, sdw_cpu_row(g->kernels, g->in, r, row), g->scale + n * c,
                           g->offset + n * c, g->act, c);
        g->kernels->narrow((char *)g->out->data + (size_t)(r * c) * sdw_dtype_bytes(g->out->dtype),
                           row, g->out->dtype, c);
    }
}

/* The scale and offset of each channel of picture n, from the tiles' sums. */
static void combine(const struct group_norm *g, const struct sdw_norm *norm, const float *add,
                    int64_t n)
{
    int64_t c = g->in->c;
    int width = (int)c / norm->groups;
    const float *shift = g->shift + n * c;
    for (int group = 0; group < norm->groups; group++) {
        double mean = 0, variance = 0, count = (double)g->pixels * width;
        for (int64_t j = group * width; j < (group + 1) * width; j++) {
            double sum = 0;
            for (int t = 0; t < g->tiles; t++)
                sum += g->sums[((n * g->tiles + t) * 2) * c + j];
            mean += sum + (double)g->pixels * ((double)shift[j] + (add ? add[j] : 0));
        }
        mean /= count;
        for (int64_t j = group * width; j < (group + 1) * width; j++) {
            double sum = 0, squares = 0, away = (double)shift[j] + (add ? add[j] : 0) - mean;
            for (int t = 0; t < g->tiles; t++) {
                sum += g->sums[((n * g->tiles + t) * 2) * c + j];
                squares += g->sums[((n * g->tiles + t) * 2 + 1) * c + j];
            }
            variance += squares + 2 * away * sum + (double)g->pixels * away * away;
        }
        double inverse = 1 / sqrt(variance / count + norm->epsilon);
        for (int64_t j = group * width; j < (group + 1) * width; j++) {
            double scale = inverse * norm->weight[j];
            g->scale[n * c + j] = (float)scale;
            g->offset[n * c + j] = (float)(norm->bias[j] + ((add ? add[j] : 0) - mean) * scale);
        }
    }
}

void sdw_cpu_group_norm(struct sdw_device *dev, const struct sdw_tensor *out,
                        const struct sdw_tensor *in, const struct sdw_norm *norm, enum sdw_act act,
                        const struct sdw_tensor *add)
{
    struct group_norm g = {
        .kernels = ((struct sdw_cpu *)dev)->kernels, .out = out, .in = in, .act = act};
    size_t c = (size_t)in->c, pictures = (size_t)in->n;
    g.pixels = (int64_t)in->h * in->w;
    g.tile_pixels = in->c < TILE_FLOATS ? TILE_FLOATS / in->c : 1;
    g.tiles = (int)((g.pixels + g.tile_pixels - 1) / g.tile_pixels);
    size_t floats =
        pictures * (size_t)g.tiles * 2 * c + 4 * pictures * c + (size_t)sdw_pool_threads() * c;
    g.sums = sdw_cpu_workspace(dev, floats * sizeof(float));
    if (!g.sums)
        return;
    g.shift = g.sums + pictures * (size_t)g.tiles * 2 * c;
    g.scale = g.shift + pictures * c;
    g.offset = g.scale + pictures * c;
    float *added = g.offset + pictures * c;
    g.rows = added + pictures * c;

    for (int n = 0; n < in->n; n++) {
        const float *first = sdw_cpu_row(g.kernels, in, n * g.pixels, g.rows);
        memcpy(g.shift + (size_t)n * c, first, c * sizeof(float));
    }
    sdw_pool_run((int64_t)in->n * g.tiles, sum_tile, &g);
    for (int n = 0; n < in->n; n++)
        combine(&g, norm, add ? sdw_cpu_row(g.kernels, add, n, added + (size_t)n * c) : NULL, n);
    sdw_pool_run((int64_t)in->n * g.tiles, write_tile, &g);
}

struct layer_norm {
    const struct sdw_cpu_kernels *kernels;
    const struct sdw_tensor *out, *in;
    const struct sdw_norm *norm;
    int tile_rows;
    float *rows; /* [threads][c] */
};

static void layer_norm_tile(void *context, int64_t i, int thread)
{
    const struct layer_norm *l = context;
    int64_t c = l->in->c, rows = sdw_tensor_rows(l->in), first = i * l->tile_rows;
    float *row = l->rows + thread * c;
    for (int64_t r = first; r < first + l->tile_rows && r < rows; r++) {
        const float *values = sdw_cpu_row(l->kernels, l->in, r, row);
        float mean = l->kernels->total(values, c) / (float)c;
        float inverse =
            1 / sqrtf(l->kernels->total_squares(values, mean, c) / (float)c + l->norm->epsilon);
        l->kernels->normalize(row, values, mean, inverse, l->norm->weight, l->norm->bias, c);
        l->kernels->narrow((char *)l->out->data + (size_t)(r * c) * sdw_dtype_bytes(l->out->dtype),
                           row, l->out->dtype, c);
    }
}

void sdw_cpu_layer_norm(struct sdw_device *dev, const struct sdw_tensor *out,
                        const struct sdw_tensor *in, const struct sdw_norm *norm)
{
    struct layer_norm l = {
        .kernels = ((struct sdw_cpu *)dev)->kernels, .out = out, .in = in, .norm = norm};
    l.tile_rows = in->c < TILE_FLOATS ? TILE_FLOATS / in->c : 1;
    l.rows = sdw_cpu_workspace(dev, (size_t)sdw_pool_threads() * (size_t)in->c * sizeof(float));
    if (l.rows)
        sdw_pool_run((sdw_tensor_rows(in) + l.tile_rows - 1) / l.tile_rows, layer_norm_tile, &l);
}
