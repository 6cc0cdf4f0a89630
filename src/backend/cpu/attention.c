/* attention.c: flash attention (Dao et al. 2022). Keys and values of each head are packed once, in
 * blocks; then groups of a few queries walk over the blocks with a running softmax. The score
 * matrix is never stored: the work space is the packed keys and values and a few kilobytes a
 * thread. */
#include "backend/cpu/cpu.h"
#include "backend/cpu/kernels.h"
#include "base/pool.h"

#include <float.h>
#include <limits.h>
#include <string.h>

#define LOG2_E 1.44269504088896340736f
#define GROUPS 4 /* of attention_rows queries, which make a tile */

struct attention {
    const struct sdw_cpu_kernels *kernels;
    const struct sdw_tensor *out, *q, *k, *v;
    struct sdw_attention_geometry geometry;
    int queries, keys, width, padded;
    int rows, block;              /* queries of a group, keys of a block */
    int key_blocks, query_blocks; /* of one head */
    size_t element, block_bytes;  /* bytes of an element, of a packed block of keys or values */
    size_t group_floats;          /* what a group of queries keeps */
    char *packed_k, *packed_v;
    char *scratch; /* a slice for each thread */
    size_t scratch_bytes;
};

static char *head_start(const struct attention *a, const struct sdw_tensor *t, int head,
                        int64_t token)
{
    return (char *)t->data + (token * t->c + (int64_t)head * a->width) * (int64_t)a->element;
}

/* A tile of the packing is one block of one head. */
static void pack_tile(void *context, int64_t i, int thread)
{
    const struct attention *a = context;
    int block = (int)(i % a->key_blocks), head = (int)(i / a->key_blocks);
    int64_t first = (int64_t)block * a->block;
    int rows = a->keys - (int)first < a->block ? a->keys - (int)first : a->block;
    (void)thread;
    a->kernels->pack_keys(a->packed_k + (size_t)i * a->block_bytes,
                          a->packed_v + (size_t)i * a->block_bytes,
                          head_start(a, a->k, head, first), head_start(a, a->v, head, first),
                          a->k->c, rows, a->width, a->padded);
}

/* Divides by the softmax's sum and writes the head's channels of each query. */
static void finish(const struct attention *a, const struct sdw_attention_block *block, int head,
                   int64_t first)
{
    for (int r = 0; r < block->rows; r++) {
        float *row = block->out + (int64_t)r * a->padded;
        for (int c = 0; c < a->width; c++)
            row[c] /= block->sum[r];
        a->kernels->narrow(head_start(a, a->out, head, first + r), row, a->out->dtype, a->width);
    }
}

/* A head's queries, with zeros up to whole packed rows. */
static void pack_queries(const struct attention *a, char *to, int head, int64_t first, int rows)
{
    size_t used = (size_t)a->width * a->element, padded = (size_t)a->padded * a->element;
    for (int r = 0; r < rows; r++, to += padded) {
        memcpy(to, head_start(a, a->q, head, first + r), used);
        memset(to + used, 0, padded - used);
    }
    memset(to, 0, (size_t)(a->rows - rows) * padded);
}

/* Some queries before they have met a key, in `floats` of the thread's slice. */
static void begin(const struct attention *a, struct sdw_attention_block *block, float *floats,
                  int head, int64_t first)
{
    int left = a->queries - (int)first;
    *block = (struct sdw_attention_block){
        .width = a->padded, .used = a->width, .scale = a->geometry.scale * LOG2_E};
    block->rows = left < a->rows ? left : a->rows;
    block->top = floats;
    block->sum = block->top + a->rows;
    block->out = block->sum + a->rows;
    void *q = block->out + (size_t)a->rows * (size_t)a->padded;
    pack_queries(a, q, head, first, block->rows);
    block->q = q;
    memset(block->out, 0, (size_t)block->rows * (size_t)a->padded * sizeof *block->out);
    for (int r = 0; r < block->rows; r++) {
        block->top[r] = -FLT_MAX;
        block->sum[r] = 0;
    }
}

/* Some queries are to meet a block of keys; false when they see none of its keys, nor of those
 * after. */
static bool meet(const struct attention *a, struct sdw_attention_block *block, int64_t first,
                 int64_t key, size_t at)
{
    if (a->geometry.causal && key > first + block->rows - 1)
        return false;
    int left = a->keys - (int)key;
    block->keys = left < a->block ? left : a->block;
    block->causal_first = a->geometry.causal ? (int)(first - key) : INT_MAX / 2;
    block->k = a->packed_k + at * a->block_bytes;
    block->v = a->packed_v + at * a->block_bytes;
    return true;
}

/* A few groups of queries share each block of keys while it lies in the cache. */
static void attend_tile(void *context, int64_t i, int thread)
{
    const struct attention *a = context;
    int part = (int)(i % a->query_blocks), head = (int)(i / a->query_blocks);
    int64_t first = (int64_t)part * GROUPS * a->rows;
    float *scores = (float *)(a->scratch + (size_t)thread * a->scratch_bytes);
    float *floats = scores + 2 * (ptrdiff_t)a->kernels->attention_scores;
    struct sdw_attention_block group[GROUPS];
    int groups = 0;
    for (int64_t q = first; groups < GROUPS && q < a->queries; q += a->rows) {
        begin(a, &group[groups], floats + (size_t)groups * a->group_floats, head, q);
        group[groups].scores = scores + groups % 2 * a->kernels->attention_scores;
        groups++;
    }
    size_t at = (size_t)head * (size_t)a->key_blocks;
    for (int b = 0; b < a->key_blocks; b++) {
        int64_t q = first, key = (int64_t)b * a->block;
        int blind = 0; /* groups that see no more keys: the first ones */
        for (int g = 0; g < groups; g++, q += a->rows)
            blind += !meet(a, &group[g], q, key, at + (size_t)b);
        if (blind == groups)
            break;
        a->kernels->attend_blocks(group + blind, groups - blind);
    }
    for (int g = 0; g < groups; g++)
        finish(a, &group[g], head, first + (int64_t)g * a->rows);
}

/* For a single picture: its keys and values are packed at once. */
static void attend_picture(struct sdw_device *dev, const struct sdw_tensor *out,
                           const struct sdw_tensor *q, const struct sdw_tensor *k,
                           const struct sdw_tensor *v, struct sdw_attention_geometry geometry)
{
    struct attention a = {
        .kernels = ((struct sdw_cpu *)dev)->kernels, .out = out, .q = q, .k = k, .v = v};
    a.geometry = geometry;
    a.rows = a.kernels->attention_rows;
    a.block = a.kernels->attention_keys;
    a.queries = q->h * q->w;
    a.keys = k->h * k->w;
    a.width = q->c / geometry.heads;
    a.padded = (a.width + a.kernels->attention_pad - 1) / a.kernels->attention_pad *
               a.kernels->attention_pad;
    a.key_blocks = (a.keys + a.block - 1) / a.block;
    a.query_blocks = (a.queries + GROUPS * a.rows - 1) / (GROUPS * a.rows);
    a.element = sdw_dtype_bytes(a.kernels->attention_dtype);
    a.block_bytes = (size_t)a.padded * (size_t)a.block * a.element;

    int64_t heads = geometry.heads;
    size_t blocks = (size_t)heads * (size_t)a.key_blocks;
    size_t score_floats = 2 * (size_t)a.kernels->attention_scores;
    a.group_floats = (size_t)a.rows * (2 + 2 * (size_t)a.padded);
    a.scratch_bytes = ((score_floats + GROUPS * a.group_floats) * sizeof(float) + 63) & ~(size_t)63;
    size_t bytes = 2 * blocks * a.block_bytes + (size_t)sdw_pool_threads() * a.scratch_bytes;
    char *memory = sdw_cpu_workspace(dev, bytes);
    if (!memory)
        return;
    a.packed_k = memory;
    a.packed_v = memory + blocks * a.block_bytes;
    a.scratch = memory + 2 * blocks * a.block_bytes;
    sdw_pool_run((int64_t)blocks, pack_tile, &a);
    sdw_pool_run(heads * a.query_blocks, attend_tile, &a);
}

void sdw_cpu_attention(struct sdw_device *dev, const struct sdw_tensor *out,
                       const struct sdw_tensor *q, const struct sdw_tensor *k,
                       const struct sdw_tensor *v, struct sdw_attention_geometry geometry)
{
    for (int i = 0; i < q->n; i++) {
        struct sdw_tensor to = sdw_tensor_part(out, i, 1), queries = sdw_tensor_part(q, i, 1);
        struct sdw_tensor keys = sdw_tensor_part(k, i, 1), values = sdw_tensor_part(v, i, 1);
        attend_picture(dev, &to, &queries, &keys, &values, geometry);
    }
}
