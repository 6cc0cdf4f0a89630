/* pointwise.c: the operators that touch each element once, row by row in tiles from the pool. Every
 * row is widened to f32, computed, and narrowed again; where types are f32 already nothing is
 * copied. */
#include "backend/cpu/cpu.h"
#include "backend/cpu/kernels.h"
#include "base/pool.h"

#include <string.h>

#define TILE_FLOATS 16384

const float *sdw_cpu_row(const struct sdw_cpu_kernels *kernels, const struct sdw_tensor *t,
                         int64_t r, float *room)
{
    const char *row = (const char *)t->data + (size_t)(r * t->c) * sdw_dtype_bytes(t->dtype);
    if (t->dtype == SDW_F32)
        return (const float *)row;
    kernels->widen(room, row, t->dtype, t->c);
    return room;
}

/* One operator over rows: `row` computes one output row in `to` from f32 inputs, with two rows of
 * room. */
struct rows {
    const struct sdw_cpu_kernels *kernels;
    const struct sdw_tensor *out, *a, *b;
    enum sdw_act act;
    int64_t tile_rows, row_floats;
    float *room; /* [threads][3][row_floats] */
    void (*row)(const struct rows *rows, int64_t r, float *to, float *room);
};

static void rows_tile(void *context, int64_t i, int thread)
{
    const struct rows *rows = context;
    const struct sdw_tensor *out = rows->out;
    float *room = rows->room + thread * 3 * rows->row_floats;
    int64_t last = (i + 1) * rows->tile_rows, all = sdw_tensor_rows(out);
    for (int64_t r = i * rows->tile_rows; r < last && r < all; r++) {
        void *to = (char *)out->data + (size_t)(r * out->c) * sdw_dtype_bytes(out->dtype);
        float *values = out->dtype == SDW_F32 ? to : room;
        rows->row(rows, r, values, room + rows->row_floats);
        if (values == room)
            rows->kernels->narrow(to, values, out->dtype, out->c);
    }
}

static void run_rows(struct sdw_device *dev, struct rows *rows)
{
    int64_t widest = rows->a->c > rows->out->c ? rows->a->c : rows->out->c;
    rows->kernels = ((struct sdw_cpu *)dev)->kernels;
    rows->row_floats = widest;
    rows->tile_rows = widest < TILE_FLOATS ? TILE_FLOATS / widest : 1;
    rows->room = sdw_cpu_workspace(dev, (size_t)(sdw_pool_threads() * 3 * widest) * sizeof(float));
    if (rows->room)
        sdw_pool_run((sdw_tensor_rows(rows->out) + rows->tile_rows - 1) / rows->tile_rows,
                     rows_tile, rows);
}

static void geglu_row(const struct rows *rows, int64_t r, float *to, float *room)
{
    const float *in = sdw_cpu_row(rows->kernels, rows->a, r, room);
    rows->kernels->gate(to, in, in + rows->out->c, rows->out->c);
}

void sdw_cpu_geglu(struct sdw_device *dev, const struct sdw_tensor *out,
                   const struct sdw_tensor *in)
{
    run_rows(dev, &(struct rows){.out = out, .a = in, .row = geglu_row});
}

static void act_row(const struct rows *rows, int64_t r, float *to, float *room)
{
    const float *in = sdw_cpu_row(rows->kernels, rows->a, r, room);
    memmove(to, in, (size_t)rows->out->c * sizeof *to); /* out may be in */
    rows->kernels->activate(to, rows->act, rows->out->c);
}

void sdw_cpu_act(struct sdw_device *dev, const struct sdw_tensor *out, const struct sdw_tensor *in,
                 enum sdw_act act)
{
    run_rows(dev, &(struct rows){.out = out, .a = in, .act = act, .row = act_row});
}

static void add_row(const struct rows *rows, int64_t r, float *to, float *room)
{
    const struct sdw_tensor *a = rows->a, *b = rows->b;
    int64_t pixels = (int64_t)a->h * a->w, b_pixels = (int64_t)b->h * b->w;
    int64_t other = (b->n == 1 ? 0 : r / pixels * b_pixels) + (b_pixels == 1 ? 0 : r % pixels);
    const float *left = sdw_cpu_row(rows->kernels, a, r, room);
    rows->kernels->add(to, left, sdw_cpu_row(rows->kernels, b, other, room + rows->row_floats),
                       a->c);
}

void sdw_cpu_add(struct sdw_device *dev, const struct sdw_tensor *out, const struct sdw_tensor *a,
                 const struct sdw_tensor *b)
{
    run_rows(dev, &(struct rows){.out = out, .a = a, .b = b, .row = add_row});
}

static void concat_row(const struct rows *rows, int64_t r, float *to, float *room)
{
    const struct sdw_tensor *a = rows->a, *b = rows->b;
    memcpy(to, sdw_cpu_row(rows->kernels, a, r, room), (size_t)a->c * sizeof *to);
    memcpy(to + a->c, sdw_cpu_row(rows->kernels, b, r, room), (size_t)b->c * sizeof *to);
}

void sdw_cpu_concat(struct sdw_device *dev, const struct sdw_tensor *out,
                    const struct sdw_tensor *a, const struct sdw_tensor *b)
{
    run_rows(dev, &(struct rows){.out = out, .a = a, .b = b, .row = concat_row});
}

static void double_row(const struct rows *rows, int64_t r, float *to, float *room)
{
    const struct sdw_tensor *in = rows->a, *out = rows->out;
    int64_t x = r % out->w, y = r / out->w % out->h, n = r / out->w / out->h;
    int64_t from = (n * in->h + y / 2) * in->w + x / 2;
    memcpy(to, sdw_cpu_row(rows->kernels, in, from, room), (size_t)out->c * sizeof *to);
}

void sdw_cpu_double(struct sdw_device *dev, const struct sdw_tensor *out,
                    const struct sdw_tensor *in)
{
    run_rows(dev, &(struct rows){.out = out, .a = in, .row = double_row});
}

static void cast_row(const struct rows *rows, int64_t r, float *to, float *room)
{
    memcpy(to, sdw_cpu_row(rows->kernels, rows->a, r, room), (size_t)rows->out->c * sizeof *to);
}

void sdw_cpu_cast(struct sdw_device *dev, const struct sdw_tensor *out, const struct sdw_tensor *in)
{
    run_rows(dev, &(struct rows){.out = out, .a = in, .row = cast_row});
}
