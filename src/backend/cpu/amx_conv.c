/* amx_conv.c: 3x3 convolutions on tiles.
 *
 * A work item copies the rows of pixels that it needs into a plane with a column of zeros on the
 * left and rows of zeros above and below, where the picture ends. A plane is one long row of
 * pixels: the pixel under another pixel of the kernel lies a constant distance further on, also
 * across its edges, for the zeros at the end of a row of pixels are those at the start of the next.
 * So each pixel of the kernel is a matrix product over the same rows of A, and only the outputs
 * that fall on the column of zeros are computed for nothing.
 *
 * With stride 2 there are four planes, of even and odd rows and columns, in each of which the
 * pixels that follow one another belong to outputs that do. A doubled picture is four convolutions
 * of 2x2 pixels on one plane (amx.h); where its last row or column is cut off, the outputs there
 * must not see it, and a plane of the negative numbers takes its part away again. */
#include "backend/cpu/amx_product.h"
#include "backend/cpu/amx_tiles.h"
#include "base/pool.h"

#include <string.h>

#define PLANE_BYTES  (1 << 20) /* in the second-level cache */
#define ITEMS_WANTED 16
#define PHASES       4
#define AXIS_MAX     3

struct convolution {
    struct sdw_amx_product product;
    const struct sdw_tensor *in;
    const struct sdw_conv_geometry *geometry;
    int h, w;                             /* of the rows of outputs, before doubling */
    int line;                             /* pixels of a plane's row */
    int64_t plane;                        /* numbers of a plane */
    int64_t picture;                      /* numbers of all planes of one picture's band */
    int band, bands;                      /* rows of outputs of an item; items of a picture */
    int group, groups;                    /* pictures of an item; items of a band */
    int splits;                           /* ranges of panels */
    struct sdw_amx_sum sum[PHASES];       /* [0] alone where the picture is not doubled */
    int64_t loaded[SDW_POOL_THREADS_MAX]; /* 1 + the band and group in a thread's planes */
    char *scratch;                        /* a slice for each thread: sums, then planes */
    size_t scratch_bytes, sums_bytes;
};

/* Row u of a plane that starts `row`, `column` pixels into the padded picture. */
static void fill_row(const struct convolution *conv, uint16_t *to, int n, int row, int column)
{
    const struct sdw_tensor *in = conv->in;
    const struct sdw_conv_geometry *g = conv->geometry;
    int y = row - g->top;
    size_t pixel = (size_t)in->c;
    if (y < 0 || y >= in->h) {
        memset(to, 0, (size_t)conv->line * pixel * sizeof *to);
        return;
    }
    const uint16_t *from = (const uint16_t *)in->data + ((int64_t)n * in->h + y) * in->w * in->c;
    if (g->stride == 1) { /* line = w + 1 */
        memset(to, 0, pixel * sizeof *to);
        memcpy(to + pixel, from, (size_t)in->w * pixel * sizeof *to);
        return;
    }
    for (int v = 0; v < conv->line; v++, to += pixel) {
        int x = v * g->stride + column - g->left;
        if (x >= 0 && x < in->w)
            memcpy(to, from + (size_t)x * pixel, pixel * sizeof *to);
        else
            memset(to, 0, pixel * sizeof *to);
    }
}

static bool is_cut(const struct convolution *conv)
{
    return conv->geometry->doubled &&
           (conv->product.out->h % 2 != 0 || conv->product.out->w % 2 != 0);
}

static void fill_planes(const struct convolution *conv, uint16_t *planes, int n, int first)
{
    int stride = conv->geometry->stride;
    int64_t row = (int64_t)conv->line * conv->in->c, rows = conv->plane / row;
    for (int p = 0; p < stride * stride; p++) {
        uint16_t *plane = planes + p * conv->plane;
        for (int64_t u = 0; u < rows - 1; u++)
            fill_row(conv, plane + u * row, n, (first + (int)u) * stride + p / stride, p % stride);
        memset(plane + (rows - 1) * row, 0, (size_t)row * sizeof *plane);
    }
    if (is_cut(conv))
        for (int64_t i = 0; i < conv->plane; i++)
            planes[conv->plane + i] = planes[i] ^ 0x8000;
}

/* How outputs of a doubled picture see pixels, one way: rows or columns. */
struct axis {
    struct {
        int odd, tap; /* of the matrix */
        int shift;    /* rows or columns on in the plane */
        bool negative;
    } term[AXIS_MAX];
    int terms;
};

/* `cut`: the outputs lie on the last pixel, of which they must see one copy, not two. */
static struct axis axis_of(int odd, bool cut)
{
    struct axis axis = {{{odd, 0, odd, false}, {odd, 1, odd + 1, false}, {1, 1, 1, true}}, 2 + cut};
    return axis;
}

static void sum_doubled(const struct convolution *conv, struct sdw_amx_sum *sum, struct axis y,
                        struct axis x)
{
    const struct sdw_amx_weight *w = conv->product.weight;
    *sum = (struct sdw_amx_sum){.steps = w->steps, .next = w->taps * AMX_STEP};
    for (int i = 0; i < y.terms; i++)
        for (int j = 0; j < x.terms; j++, sum->taps++) {
            int phase = 2 * y.term[i].odd + x.term[j].odd;
            int tap = 2 * y.term[i].tap + x.term[j].tap;
            int64_t pixels = (int64_t)y.term[i].shift * conv->line + x.term[j].shift;
            bool negative = y.term[i].negative != x.term[j].negative;
            sum->tap[sum->taps].a = pixels * conv->in->c + (negative ? conv->plane : 0);
            sum->tap[sum->taps].b = (int64_t)phase * w->steps * sum->next + tap * AMX_STEP;
        }
}

static void sum_direct(const struct convolution *conv, struct sdw_amx_sum *sum)
{
    const struct sdw_amx_weight *w = conv->product.weight;
    int stride = conv->geometry->stride;
    *sum = (struct sdw_amx_sum){
        .taps = w->taps, .steps = w->steps, .next = (int64_t)w->taps * AMX_STEP};
    for (int y = 0; y < 3; y++)
        for (int x = 0; x < 3; x++) {
            int64_t pixels = (int64_t)(y / stride) * conv->line + x / stride;
            int64_t plane = (y % stride) * stride + x % stride;
            sum->tap[3 * y + x].a = plane * conv->plane + pixels * conv->in->c;
            sum->tap[3 * y + x].b = (3 * y + x) * AMX_STEP;
        }
}

/* What an item has at hand. */
struct place {
    const uint16_t *planes;
    float *sums;
    int n, first, rows; /* picture, rows of outputs */
    int panel;
};

/* Outputs on the last row or column of a doubled picture that is cut off there. */
static void run_edge(const struct convolution *conv, const struct place *place,
                     struct sdw_amx_rows rows, int phase, bool bottom, bool right)
{
    struct sdw_amx_sum sum;
    sum_doubled(conv, &sum, axis_of(phase / 2, bottom), axis_of(phase % 2, right));
    if (rows.count > 0)
        sdw_amx_panel_run(&conv->product, &sum, &rows, place->panel, place->sums);
}

static void run_doubled(const struct convolution *conv, const struct place *place)
{
    const struct sdw_tensor *out = conv->product.out;
    int64_t line = (int64_t)out->w * out->c, pixel = conv->in->c;
    bool cut_y = out->h % 2 != 0 && place->first + place->rows == conv->h, cut_x = out->w % 2 != 0;
    int h = place->rows - cut_y, w = conv->w - cut_x;
    for (int phase = 0; phase < PHASES; phase++) {
        int64_t y = 2 * (int64_t)place->first + phase / 2;
        struct sdw_amx_rows rows = {.a = place->planes,
                                    .pitch = pixel,
                                    .count = h * conv->line,
                                    .line = conv->line,
                                    .width = w,
                                    .pixel_step = 2 * out->c,
                                    .line_step = 2 * line};
        rows.at = ((int64_t)place->n * out->h + y) * line + (int64_t)(phase % 2) * out->c;
        if (rows.count > 0)
            sdw_amx_panel_run(&conv->product, &conv->sum[phase], &rows, place->panel, place->sums);
        struct sdw_amx_rows bottom = rows, right = rows, corner = rows;
        bottom.a += (int64_t)h * conv->line * pixel;
        bottom.at += h * rows.line_step;
        bottom.count = w;
        right.a += w * pixel;
        right.at += w * rows.pixel_step;
        right.pitch = conv->line * pixel;
        right.count = h;
        right.line = right.width = 1;
        corner.a = bottom.a + w * pixel;
        corner.at = bottom.at + w * rows.pixel_step;
        corner.count = corner.width = 1;
        if (cut_y && phase / 2 == 0)
            run_edge(conv, place, bottom, phase, true, false);
        if (cut_x && phase % 2 == 0)
            run_edge(conv, place, right, phase, false, true);
        if (cut_y && cut_x && phase == 0)
            run_edge(conv, place, corner, phase, true, true);
    }
}

static void run_direct(const struct convolution *conv, const struct place *place)
{
    const struct sdw_tensor *out = conv->product.out;
    struct sdw_amx_rows rows = {.a = place->planes,
                                .pitch = conv->in->c,
                                .count = place->rows * conv->line,
                                .line = conv->line,
                                .width = conv->w,
                                .pixel_step = out->c,
                                .line_step = (int64_t)out->w * out->c};
    rows.at = ((int64_t)place->n * out->h + place->first) * rows.line_step;
    sdw_amx_panel_run(&conv->product, &conv->sum[0], &rows, place->panel, place->sums);
}

static void run_item(void *context, int64_t item, int thread)
{
    struct convolution *conv = context;
    int64_t places = (int64_t)conv->bands * conv->groups, at = item % places;
    int split = (int)(item / places), panels = conv->product.weight->panels;
    int first = (int)(at % conv->bands) * conv->band, n = (int)(at / conv->bands) * conv->group;
    int pictures = conv->in->n - n < conv->group ? conv->in->n - n : conv->group;
    char *scratch = conv->scratch + (size_t)thread * conv->scratch_bytes;
    uint16_t *planes = (uint16_t *)(scratch + conv->sums_bytes);
    if (conv->loaded[thread] != at + 1)
        for (int i = 0; i < pictures; i++)
            fill_planes(conv, planes + i * conv->picture, n + i, first);
    conv->loaded[thread] = at + 1;
    tiles_begin();
    for (int panel = panels * split / conv->splits; panel < panels * (split + 1) / conv->splits;
         panel++)
        for (int i = 0; i < pictures; i++) {
            struct place place = {
                planes + i * conv->picture, (float *)scratch, n + i, first, conv->band, panel};
            if (conv->h - first < place.rows)
                place.rows = conv->h - first;
            (conv->geometry->doubled ? run_doubled : run_direct)(conv, &place);
        }
    tiles_end();
}

/* Bands of as many rows, groups of as many pictures as the cache holds. */
static void divide(struct convolution *conv)
{
    const struct sdw_tensor *in = conv->in;
    bool apart = conv->geometry->stride == 2;
    int planes = apart ? 4 : is_cut(conv) ? 2 : 1, more = apart ? 1 : 2;
    int64_t row = (int64_t)conv->line * in->c, room = PLANE_BYTES / (int64_t)sizeof(uint16_t);
    int64_t fits = room / (planes * row) - more;
    conv->bands = fits >= conv->h ? 1 : fits < 1 ? conv->h : (int)((conv->h + fits - 1) / fits);
    conv->band = (conv->h + conv->bands - 1) / conv->bands;
    conv->bands = (conv->h + conv->band - 1) / conv->band;
    conv->plane = (conv->band + more + 1) * row; /* the last one ends the last but one */
    int64_t beyond = 2 * TILE_ROWS * (is_cut(conv) ? conv->line : 1); /* pixels a tile may read */
    conv->picture = planes * conv->plane + beyond * in->c;
    fits = room / conv->picture;
    conv->group = conv->bands > 1 || fits < 1 ? 1 : fits > in->n ? in->n : (int)fits;
    conv->groups = (in->n + conv->group - 1) / conv->group;
    int items = conv->bands * conv->groups;
    conv->splits = (ITEMS_WANTED + items - 1) / items;
    if (conv->splits > conv->product.weight->panels)
        conv->splits = conv->product.weight->panels;
}

void sdw_amx_conv2d(struct sdw_device *dev, const struct sdw_tensor *out,
                    const struct sdw_tensor *in, const struct sdw_cpu_weight *weight,
                    const struct sdw_tensor *residual)
{
    const struct sdw_conv_geometry *g = &weight->base.geometry;
    if (weight->base.kernel == 1) {
        sdw_amx_linear(dev, out, in, weight, SDW_ACT_NONE, residual);
        return;
    }
    struct convolution conv = {.product = {.kernels = ((struct sdw_cpu *)dev)->kernels,
                                           .out = out,
                                           .residual = residual,
                                           .weight = weight->amx,
                                           .bias = weight->bias},
                               .in = in,
                               .geometry = g};
    conv.h = g->doubled ? in->h : out->h;
    conv.w = g->doubled ? in->w : out->w;
    conv.line = conv.w + 1;
    divide(&conv);
    if (g->doubled)
        for (int phase = 0; phase < PHASES; phase++)
            sum_doubled(&conv, &conv.sum[phase], axis_of(phase / 2, false),
                        axis_of(phase % 2, false));
    else
        sum_direct(&conv, &conv.sum[0]);
    conv.sums_bytes = sdw_amx_scratch_floats(conv.band * conv.line) * sizeof(float);
    conv.scratch_bytes =
        conv.sums_bytes + (size_t)(conv.group * conv.picture) * sizeof(uint16_t) + 63;
    conv.scratch_bytes &= ~(size_t)63;
    conv.scratch = sdw_cpu_workspace(dev, (size_t)sdw_pool_threads() * conv.scratch_bytes);
    if (conv.scratch)
        sdw_pool_run((int64_t)conv.bands * conv.groups * conv.splits, run_item, &conv);
}
