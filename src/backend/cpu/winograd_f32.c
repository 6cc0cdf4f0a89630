/* winograd_f32.c: 3x3 convolutions of stride 1 by Winograd's F(4x4, 3x3) in f32 (Lavin and Gray
 * 2015, "Fast Algorithms for Convolutional Neural Networks", section 4.2): 36 multiplications where
 * the direct form has 144, for four times the memory of a weight.
 *
 * The polynomials are taken at 0, +-1/sqrt 2, +-sqrt 2 and infinity instead of the usual 0, +-1,
 * +-2: the transforms' numbers lie closer together, and the error of a layer falls from 3.5e-6 to
 * 1.7e-6 (relative RMS). Transforms and products are rows of the kernel table, so every instruction
 * set has them. As in winograd.c, a work item is a block of tiles times a range of output channels
 * and shares nothing with the others. */
#include "backend/cpu/cpu.h"
#include "backend/cpu/kernels.h"
#include "base/pool.h"

#include <math.h>
#include <string.h>

#define POSITIONS SDW_WINOGRAD_POSITIONS
#define SIDE      SDW_WINOGRAD_SIDE    /* of a tile's inputs */
#define OUTPUTS   SDW_WINOGRAD_OUTPUTS /* of a tile, each way */
#define TILES_MAX 48                   /* of a work item: a weight is read once for so many tiles */
#define BLOCK     64 /* output channels at a time: their products stay in the second-level cache */
#define LANES     16 /* channels come in multiples of this: of every vector length */
#define PANEL_MAX 32 /* output channels of a panel: two of the longest vectors */
#define ITEMS_MIN 16 /* fewer blocks of tiles than this are divided by output channels, too */

bool sdw_winograd_f32_usable(int in, int out)
{
    return in % LANES == 0 && out % LANES == 0;
}

/* ---- packing ---- */

/* y = G x, for one line of each of PANEL_MAX kernels side by side. */
static void transform_line(double y[SIDE][PANEL_MAX], double x[3][PANEL_MAX])
{
    for (int l = 0; l < PANEL_MAX; l++) {
        double even1 = -2.0 / 3 * x[0][l] - 1.0 / 3 * x[2][l], odd1 = 2.0 / 3 * M_SQRT1_2 * x[1][l];
        double even2 = 1.0 / 6 * x[0][l] + 1.0 / 3 * x[2][l], odd2 = 1.0 / 6 * M_SQRT2 * x[1][l];
        y[0][l] = x[0][l];
        y[1][l] = even1 - odd1;
        y[2][l] = even1 + odd1;
        y[3][l] = even2 + odd2;
        y[4][l] = even2 - odd2;
        y[5][l] = x[2][l];
    }
}

/* U lies as [block of 64 outputs][position][panel of 2 vectors][in][2 vectors]. */
struct packing {
    float *u;
    const float *kernels; /* [out][in][9] */
    int in, out, panel;
};

/* U = G g G^T of the kernels from input channel c to a panel of outputs, whole lines of the cache
 * at a time; outputs that are not there are zero. */
static void pack_kernels(const struct packing *p, float *to, int first, int c)
{
    double g[3][3][PANEL_MAX] = {0}, t[3][SIDE][PANEL_MAX], line[3][PANEL_MAX],
           u[SIDE][PANEL_MAX]; /* g[x][y] */
    int64_t plane = (int64_t)BLOCK * p->in;
    for (int l = 0; l < p->panel && first + l < p->out; l++)
        for (int tap = 0; tap < 9; tap++)
            g[tap % 3][tap / 3][l] = p->kernels[((int64_t)(first + l) * p->in + c) * 9 + tap];
    for (int x = 0; x < 3; x++)
        transform_line(t[x], g[x]);
    for (int y = 0; y < SIDE; y++) {
        for (int x = 0; x < 3; x++)
            memcpy(line[x], t[x][y], sizeof line[x]);
        transform_line(u, line);
        for (int x = 0; x < SIDE; x++, to += plane)
            for (int l = 0; l < p->panel; l++)
                to[l] = (float)u[x][l];
    }
}

/* A tile of the packing is one panel. */
static void pack_panel(void *context, int64_t i, int thread)
{
    const struct packing *p = context;
    int first = (int)i * p->panel;
    float *to = p->u + (int64_t)(first / BLOCK) * POSITIONS * BLOCK * p->in +
                (int64_t)(first % BLOCK) * p->in;
    (void)thread;
    for (int c = 0; c < p->in; c++, to += p->panel)
        pack_kernels(p, to, first, c);
}

bool sdw_winograd_f32_pack(struct sdw_device *dev, struct sdw_cpu_weight *weight,
                           const struct sdw_array *array)
{
    struct packing p = {.kernels = sdw_cpu_staging(dev, array),
                        .in = weight->base.in,
                        .out = weight->base.out,
                        .panel = 2 * ((struct sdw_cpu *)dev)->kernels->vector_floats};
    size_t outputs = ((size_t)p.out + BLOCK - 1) / BLOCK * BLOCK;
    weight->base.bytes = outputs * (size_t)p.in * POSITIONS * sizeof *p.u;
    p.u = weight->tiled = dev->ops->buffer_new(dev, weight->base.bytes);
    if (!p.kernels || !p.u)
        return false;
    sdw_pool_run((p.out + p.panel - 1) / p.panel, pack_panel, &p);
    return true;
}

/* ---- running ---- */

struct convolution {
    const struct sdw_cpu_kernels *kernels;
    const struct sdw_tensor *out, *in, *residual;
    const struct sdw_cpu_weight *weight;
    int tiles_x, tiles_y; /* of one picture */
    int64_t tiles;        /* of all pictures */
    int tiles_per_item;
    int splits;     /* ranges of output channels */
    float *scratch; /* a slice for each thread: V, the products, a pixel to be thrown away */
    size_t scratch_floats;
    const float *zeros; /* [in]: a pixel outside the picture */
};

struct corner {
    int n, y, x; /* of a tile's first output */
};

static struct corner corner_of(const struct convolution *conv, int64_t tile)
{
    int per_picture = conv->tiles_x * conv->tiles_y, rest = (int)(tile % per_picture);
    return (struct corner){(int)(tile / per_picture), OUTPUTS * (rest / conv->tiles_x),
                           OUTPUTS * (rest % conv->tiles_x)};
}

/* V [position][tile][in] of one tile. */
static void take_tile(const struct convolution *conv, int64_t tile, float *v, int64_t plane)
{
    const struct sdw_tensor *in = conv->in, *out = conv->out;
    bool doubled = conv->weight->base.geometry.doubled;
    struct corner at = corner_of(conv, tile);
    const float *pixels[POSITIONS];
    for (int i = 0; i < POSITIONS; i++) {
        int y = at.y - 1 + i / SIDE, x = at.x - 1 + i % SIDE;
        bool inside = y >= 0 && y < out->h && x >= 0 && x < out->w; /* in has out's size, or half */
        int64_t row = (int64_t)at.n * in->h + (y >> doubled);
        pixels[i] =
            inside ? (const float *)in->data + (row * in->w + (x >> doubled)) * in->c : conv->zeros;
    }
    conv->kernels->winograd_take(v, plane, pixels, in->c);
}

/* The outputs of one tile, `width` channels from channel o on. */
static void give_tile(const struct convolution *conv, int64_t tile, const float *m, int64_t plane,
                      float *nowhere, int o, int width)
{
    const struct sdw_tensor *out = conv->out;
    struct corner at = corner_of(conv, tile);
    float *pixels[OUTPUTS * OUTPUTS];
    const float *extra[OUTPUTS * OUTPUTS];
    for (int i = 0; i < OUTPUTS * OUTPUTS; i++) {
        int y = at.y + i / OUTPUTS, x = at.x + i % OUTPUTS;
        bool inside = y < out->h && x < out->w;
        int64_t pixel = (((int64_t)at.n * out->h + y) * out->w + x) * out->c + o;
        pixels[i] = inside ? (float *)out->data + pixel : nowhere;
        if (conv->residual)
            extra[i] = inside ? (const float *)conv->residual->data + pixel : nowhere;
    }
    conv->kernels->winograd_give(pixels, conv->residual ? extra : NULL, m, plane,
                                 conv->weight->bias + o, width);
}

/* m [position][tiles][BLOCK] = v [position][tiles][in] times the weights of one block. */
static void multiply_block(const struct convolution *conv, int block, float *m, const float *v,
                           int tiles)
{
    int in = conv->weight->base.in, panel = 2 * conv->kernels->vector_floats;
    int width = conv->weight->base.out - block * BLOCK;
    const float *u = conv->weight->tiled + (int64_t)block * POSITIONS * BLOCK * in;
    const float *a[SDW_MATRIX_ROWS];
    for (int p = 0; p < POSITIONS; p++)
        for (int o = 0; o < BLOCK; o += panel, u += (int64_t)in * panel)
            for (int t = 0; t < tiles && o < width; t += SDW_MATRIX_ROWS) {
                int rows = tiles - t < SDW_MATRIX_ROWS ? tiles - t : SDW_MATRIX_ROWS;
                int64_t first = (int64_t)p * conv->tiles_per_item + t;
                for (int j = 0; j < rows; j++)
                    a[j] = v + (first + j) * in;
                conv->kernels->multiply(m + first * BLOCK + o, BLOCK, a, u, rows, 1, in);
            }
}

static void run_item(void *context, int64_t item, int thread)
{
    const struct convolution *conv = context;
    const struct sdw_cpu_weight *weight = conv->weight;
    int64_t first = item / conv->splits * conv->tiles_per_item, left = conv->tiles - first;
    int count = left < conv->tiles_per_item ? (int)left : conv->tiles_per_item;
    int64_t v_plane = (int64_t)conv->tiles_per_item * weight->base.in,
            m_plane = (int64_t)conv->tiles_per_item * BLOCK;
    float *v = conv->scratch + (size_t)thread * conv->scratch_floats, *m = v + POSITIONS * v_plane,
          *nowhere = m + POSITIONS * m_plane;
    for (int t = 0; t < count; t++)
        take_tile(conv, first + t, v + (int64_t)t * weight->base.in, v_plane);

    int blocks = (weight->base.out + BLOCK - 1) / BLOCK, split = (int)(item % conv->splits);
    for (int block = blocks * split / conv->splits; block < blocks * (split + 1) / conv->splits;
         block++) {
        int rest = weight->base.out - block * BLOCK, width = rest < BLOCK ? rest : BLOCK;
        multiply_block(conv, block, m, v, count);
        for (int t = 0; t < count; t++)
            give_tile(conv, first + t, m + t * BLOCK, m_plane, nowhere, block * BLOCK, width);
    }
}

void sdw_winograd_f32_run(struct sdw_device *dev, const struct sdw_tensor *out,
                          const struct sdw_tensor *in, const struct sdw_cpu_weight *weight,
                          const struct sdw_tensor *residual)
{
    struct convolution conv = {.kernels = ((struct sdw_cpu *)dev)->kernels,
                               .out = out,
                               .in = in,
                               .residual = residual,
                               .weight = weight};
    conv.tiles_x = (out->w + OUTPUTS - 1) / OUTPUTS;
    conv.tiles_y = (out->h + OUTPUTS - 1) / OUTPUTS;
    conv.tiles = (int64_t)out->n * conv.tiles_x * conv.tiles_y;
    int64_t items = (conv.tiles + TILES_MAX - 1) / TILES_MAX;
    conv.tiles_per_item = (int)((conv.tiles + items - 1) / items);
    int blocks = (out->c + BLOCK - 1) / BLOCK;
    conv.splits = items >= ITEMS_MIN ? 1 : (int)((ITEMS_MIN + items - 1) / items);
    conv.splits = conv.splits < blocks ? conv.splits : blocks;

    size_t threads = (size_t)sdw_pool_threads(), tiles = (size_t)conv.tiles_per_item;
    conv.scratch_floats = POSITIONS * tiles * ((size_t)in->c + BLOCK) + BLOCK;
    size_t floats = threads * conv.scratch_floats + (size_t)in->c;
    conv.scratch = sdw_cpu_workspace(dev, floats * sizeof(float));
    if (!conv.scratch)
        return;
    conv.zeros =
        memset(conv.scratch + threads * conv.scratch_floats, 0, (size_t)in->c * sizeof(float));
    sdw_pool_run(items * conv.splits, run_item, &conv);
}
