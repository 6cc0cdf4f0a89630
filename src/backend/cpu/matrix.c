/* matrix.c: linear layers and convolutions of any kernel, stride and padding on our own f32 kernel,
 * for machines without oneDNN. A convolution is a sum of matrix products, one for each pixel of the
 * kernel: the inner loop takes pointers to the rows that it reads, and a row of zeros stands in for
 * what lies outside the picture. */
#include "backend/cpu/cpu.h"
#include "backend/cpu/kernels.h"
#include "base/pool.h"

#include <string.h>

#define TILE_ROWS 48 /* output rows of one tile */

struct matrix {
    const struct sdw_cpu_kernels *kernels;
    const struct sdw_tensor *out, *in, *residual;
    const struct sdw_cpu_weight *weight;
    enum sdw_act act;
    int taps, panel; /* pixels of the kernel; output channels of a panel */
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
    if (iy < 0 || iy >= in->h || ix < 0 || ix >= in->w)
        return m->zeros;
    return (const float *)in->data + ((n * in->h + iy) * in->w + ix) * in->c;
}

/* Bias, activation, residual of `width` outputs of row r from channel o on. */
static void finish(const struct matrix *m, float *values, int64_t r, int o, int width)
{
    const struct sdw_tensor *out = m->out;
    size_t at = (size_t)(r * out->c + o);
    float extra[64];
    m->kernels->add(values, values, m->weight->bias + o, width);
    m->kernels->activate(values, m->act, width);
    if (m->residual) {
        m->kernels->widen(
            extra, (const char *)m->residual->data + at * sdw_dtype_bytes(m->residual->dtype),
            m->residual->dtype, width);
        m->kernels->add(values, values, extra, width);
    }
    m->kernels->narrow((char *)out->data + at * sdw_dtype_bytes(out->dtype), values, out->dtype,
                       width);
}

static void matrix_tile(void *context, int64_t i, int thread)
{
    const struct matrix *m = context;
    const float *a[SDW_MATRIX_ROWS * 9];
    float values[SDW_MATRIX_ROWS * 64];
    int64_t all = sdw_tensor_rows(m->out),
            last = (i + 1) * TILE_ROWS < all ? (i + 1) * TILE_ROWS : all;
    size_t panel_floats = (size_t)m->panel * (size_t)m->taps * (size_t)m->in->c;
    (void)thread;
    for (int o = 0; o < m->out->c; o += m->panel) {
        const float *panel = m->weight->plain + (size_t)(o / m->panel) * panel_floats;
        int width = m->out->c - o < m->panel ? m->out->c - o : m->panel;
        for (int64_t r = i * TILE_ROWS; r < last; r += SDW_MATRIX_ROWS) {
            int rows = last - r < SDW_MATRIX_ROWS ? (int)(last - r) : SDW_MATRIX_ROWS;
            for (int tap = 0; tap < m->taps; tap++)
                for (int j = 0; j < rows; j++)
                    a[tap * rows + j] = tap_row(m, r + j, tap);
            m->kernels->multiply(values, a, panel, rows, m->taps, m->in->c);
            for (int j = 0; j < rows; j++)
                finish(m, values + j * m->panel, r + j, o, width);
        }
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
    sdw_pool_run((sdw_tensor_rows(out) + TILE_ROWS - 1) / TILE_ROWS, matrix_tile, &m);
}
