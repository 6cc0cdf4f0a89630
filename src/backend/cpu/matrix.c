/* matrix.c: linear layers and convolutions of any kernel, stride and padding on our own f32 kernel,
 * for machines without oneDNN. A convolution is a sum of matrix products, one for each pixel of the
 * kernel: the inner loop takes pointers to the rows that it reads, and a row of zeros stands in for
 * what lies outside the picture. */
#include "backend/cpu/cpu.h"
#include "backend/cpu/kernels.h"
#include "base/pool.h"

#include <string.h>

#define TILE_ROWS    48  /* output rows of one tile */
#define TILE_COLUMNS 256 /* its output channels: a multiple of CHUNK */
#define CHUNK        64  /* output channels: a multiple of every panel */

struct matrix {
    const struct sdw_cpu_kernels *kernels;
    const struct sdw_tensor *out, *in, *residual;
    const struct sdw_cpu_weight *weight;
    enum sdw_act act;
    int taps, panel; /* pixels of the kernel; output channels of a panel */
    int64_t row_tiles;
    const float *zeros;
};

/* Panels of 2 vectors of output channels: [panel][tap][in][2 vectors], zero-padded. */
bool sdw_matrix_pack(struct sdw_device *dev, struct sdw_cpu_weight *weight,
                     const struct sdw_array *array)
{
    int panel = 2 * ((struct sdw_cpu *)dev)->kernels->vector_floats, in = weight->base.in,
        out = weight->base.out;
    int taps = weight->base.kernel ? weight->base.kernel * weight->base.kernel : 1;
    int panels = (out + panel - 1) / panel;
    weight->base.bytes = (size_t)panels * (size_t)panel * (size_t)taps * (size_t)in * sizeof(float);
    weight->plain = sdw_cpu_alloc(dev, weight->base.bytes, 1);
    float *row = sdw_cpu_alloc(dev, (size_t)in * (size_t)taps, sizeof *row);
    if (!weight->plain || !row) {
        dev->ops->buffer_free(dev, row);
        return false;
    }
    for (int o = 0; o < out; o++) {
        sdw_array_to_f32(row, array, (int64_t)o * in * taps, (int64_t)in * taps);
        float *to = weight->plain +
                    (size_t)(o / panel) * (size_t)panel * (size_t)taps * (size_t)in + o % panel;
        for (int i = 0; i < in; i++)
            for (int tap = 0; tap < taps; tap++)
                to[((size_t)tap * (size_t)in + (size_t)i) * (size_t)panel] =
                    row[(size_t)i * (size_t)taps + (size_t)tap];
    }
    dev->ops->buffer_free(dev, row);
    return true;
}

/* The input row under pixel `tap` of the kernel for output row r. */
static const float *tap_row(const struct matrix *m, int64_t r, int tap)
{
    const struct sdw_tensor *in = m->in, *out = m->out;
    const struct sdw_conv_geometry *g = &m->weight->base.geometry;
    int k = m->weight->base.kernel;
    if (k == 0)
        return (const float *)in->data + r * in->c;
    int64_t x = r % out->w, y = r / out->w % out->h, n = r / out->w / out->h;
    int64_t iy = y * g->stride - g->top + tap / k, ix = x * g->stride - g->left + tap % k;
    int height = g->doubled ? out->h : in->h, width = g->doubled ? out->w : in->w;
    if (iy < 0 || iy >= height || ix < 0 || ix >= width)
        return m->zeros;
    iy >>= g->doubled;
    ix >>= g->doubled;
    return (const float *)in->data + ((n * in->h + iy) * in->w + ix) * in->c;
}

/* Bias, activation, residual of `width` outputs of row r from channel o on, in place where the
 * output is f32. */
static void finish(const struct matrix *m, float *values, int64_t r, int o, int width)
{
    const struct sdw_tensor *out = m->out, *residual = m->residual;
    size_t at = (size_t)(r * out->c + o);
    float *to = out->dtype == SDW_F32 ? (float *)out->data + at : values, room[CHUNK];
    if (residual && residual->dtype != SDW_F32)
        m->kernels->widen(room, (const uint16_t *)residual->data + at, residual->dtype, width);
    const float *extra =
        residual && residual->dtype == SDW_F32 ? (const float *)residual->data + at : room;
    float *sum = residual ? values : to;
    m->kernels->add(sum, values, m->weight->bias + o, width);
    if (m->act != SDW_ACT_NONE)
        m->kernels->activate(sum, m->act, width);
    if (residual)
        m->kernels->add(to, values, extra, width);
    if (out->dtype != SDW_F32)
        m->kernels->narrow((uint16_t *)out->data + at, values, out->dtype, width);
}

/* One tile: some rows times some outputs, whose weights stay in a cache from one tile of rows to
 * the next; CHUNK of them at a time, so that what follows the products runs over longer rows than a
 * panel's. */
static void matrix_tile(void *context, int64_t i, int thread)
{
    const struct matrix *m = context;
    const float *a[SDW_MATRIX_ROWS * 9];
    float values[TILE_ROWS * CHUNK];
    int64_t all = sdw_tensor_rows(m->out), first = i % m->row_tiles * TILE_ROWS;
    int columns = (int)(i / m->row_tiles) * TILE_COLUMNS;
    int end = m->out->c - columns < TILE_COLUMNS ? m->out->c : columns + TILE_COLUMNS;
    int count = all - first < TILE_ROWS ? (int)(all - first) : TILE_ROWS;
    size_t panel_floats = (size_t)m->panel * (size_t)m->taps * (size_t)m->in->c;
    (void)thread;
    for (int chunk = columns; chunk < end; chunk += CHUNK) {
        int width = end - chunk < CHUNK ? end - chunk : CHUNK;
        for (int o = 0; o < width; o += m->panel) {
            const float *panel = m->weight->plain + (size_t)((chunk + o) / m->panel) * panel_floats;
            for (int r = 0; r < count; r += SDW_MATRIX_ROWS) {
                int rows = count - r < SDW_MATRIX_ROWS ? count - r : SDW_MATRIX_ROWS;
                for (int tap = 0; tap < m->taps; tap++)
                    for (int j = 0; j < rows; j++)
                        a[tap * rows + j] = tap_row(m, first + r + j, tap);
                m->kernels->multiply(values + r * CHUNK + o, CHUNK, a, panel, rows, m->taps,
                                     m->in->c);
            }
        }
        for (int r = 0; r < count; r++)
            finish(m, values + r * CHUNK, first + r, chunk, width);
    }
}

void sdw_matrix_run(struct sdw_device *dev, const struct sdw_tensor *out,
                    const struct sdw_tensor *in, const struct sdw_cpu_weight *weight,
                    enum sdw_act act, const struct sdw_tensor *residual)
{
    struct matrix m = {
        .kernels = ((struct sdw_cpu *)dev)->kernels, .out = out, .in = in, .residual = residual};
    m.weight = weight;
    m.act = act;
    m.taps = weight->base.kernel ? weight->base.kernel * weight->base.kernel : 1;
    m.panel = 2 * m.kernels->vector_floats;
    float *zeros = sdw_cpu_workspace(dev, (size_t)in->c * sizeof *zeros);
    if (!zeros)
        return;
    m.zeros = memset(zeros, 0, (size_t)in->c * sizeof *zeros);
    m.row_tiles = (sdw_tensor_rows(out) + TILE_ROWS - 1) / TILE_ROWS;
    sdw_pool_run(m.row_tiles * ((out->c + TILE_COLUMNS - 1) / TILE_COLUMNS), matrix_tile, &m);
}
