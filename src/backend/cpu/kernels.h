/* kernels.h: the innermost loops, one table for each instruction set.
 *
 * kernels_tmpl.h is written once over vectors of SDW_VEC_BYTES and compiled by kernels_portable.c,
 * kernels_avx2.c and kernels_avx512.c, each with its own compiler flags; kernels_avx512_bf16.c and
 * kernels_amx_bf16.c add what only bf16 products can do. Rows are contiguous f32 unless a line says
 * otherwise. What a call computes depends on its arguments alone. */
#ifndef SDW_BACKEND_CPU_KERNELS_H
#define SDW_BACKEND_CPU_KERNELS_H

#include "tensor/ops.h"

#define SDW_MATRIX_ROWS 6 /* rows of one call of multiply */

/* A tile of Winograd's F(4x4, 3x3), winograd_f32.c. */
#define SDW_WINOGRAD_OUTPUTS   4 /* each way */
#define SDW_WINOGRAD_SIDE      6 /* its inputs, each way */
#define SDW_WINOGRAD_POSITIONS 36

/* One block of keys and values against a few queries, with the running maximum and sum of the
 * softmax (Dao et al. 2022, "FlashAttention", algorithm 1). The packed forms are the kernel's own:
 * see `pack_keys`. */
struct sdw_attention_block {
    const void *q;     /* [attention_rows][width], zeros beyond rows and used */
    const void *k, *v; /* a packed block */
    int width;         /* of a head, padded: a multiple of attention_pad */
    int used;          /* of a head, as it is */
    int rows;          /* 1..attention_rows */
    int keys;          /* 1..attention_keys that count; the rest of the block is padding */
    int causal_first;  /* row r sees keys 0..causal_first + r of the block; INT_MAX / 2: all */
    float scale;       /* over 0; times log2(e): the softmax is in base 2 */
    float *top, *sum;  /* [rows] running maximum and sum */
    float *out;        /* [rows][width], not yet divided by sum */
    float *scores;     /* attention_scores floats of scratch; neighbours have different ones */
};

struct sdw_cpu_kernels {
    const char *name;
    int vector_floats;

    void (*widen)(float *to, const void *from, enum sdw_dtype dtype, int64_t n);
    void (*narrow)(void *to, const float *from, enum sdw_dtype dtype, int64_t n);
    void (*activate)(float *values, enum sdw_act act, int64_t n);
    void (*gate)(float *out, const float *x, const float *gate,
                 int64_t n); /* out = x * gelu(gate) */
    void (*add)(float *out, const float *a, const float *b, int64_t n);
    /* out[i] = act(in[i] * scale[i] + offset[i]); out may be in */
    void (*affine)(float *out, const float *in, const float *scale, const float *offset,
                   enum sdw_act act, int64_t n);
    /* out[i] = (in[i] - mean) * inverse * weight[i] + bias[i]; out may be in */
    void (*normalize)(float *out, const float *in, float mean, float inverse, const float *weight,
                      const float *bias, int64_t n);
    /* sum[i] += in[i] - shift[i], squares[i] += (in[i] - shift[i])^2 */
    void (*moments)(float *sum, float *squares, const float *in, const float *shift, int64_t n);
    float (*total)(const float *in, int64_t n);
    float (*total_squares)(const float *in, float shift, int64_t n); /* of in[i] - shift */

    /* Nothing but multiply-adds in registers, `spin_operations` a round, to know the peak. The
     * second is of bf16, NULL where there are no such instructions. */
    float (*spin)(int64_t rounds);
    float (*spin_bf16)(int64_t rounds);
    int spin_operations, spin_bf16_operations;

    /* Attention in `attention_dtype`; bytes for each element of packed q, k and v follow from it.
     */
    enum sdw_dtype attention_dtype;
    int attention_rows;   /* queries that meet a block of keys at once */
    int attention_keys;   /* keys of a block */
    int attention_scores; /* floats of scratch of a block */
    int attention_pad;
    /* Packs up to attention_keys rows (a stride apart, `width` elements each) of keys and of values
     * to one block of each; the rest is zero. */
    void (*pack_keys)(void *k_to, void *v_to, const void *k, const void *v, int64_t stride,
                      int rows, int width, int padded);
    /* One block of keys after the other, or different queries with one block. */
    void (*attend_blocks)(const struct sdw_attention_block *block, int count);

    /* out [rows, `stride` floats apart][2 vectors] = sum over taps and i of a[tap][row][i] *
     * panel[tap][i][2 vectors]. a: taps*rows pointers */
    void (*multiply)(float *out, int64_t stride, const float *const *a, const float *panel,
                     int rows, int taps, int64_t in);

    /* Winograd's transforms of one tile; n, the channels, is a multiple of 16. take: v of position
     * p lies at v + p * plane, pixels are the 36 inputs. give: the 16 outputs from m, likewise,
     * plus bias and residual (16 pixels, or NULL). */
    void (*winograd_take)(float *v, int64_t plane, const float *const *pixels, int n);
    void (*winograd_give)(float *const *pixels, const float *const *residual, const float *m,
                          int64_t plane, const float *bias, int n);
};

extern const struct sdw_cpu_kernels sdw_kernels_portable, sdw_kernels_avx2, sdw_kernels_avx512,
    sdw_kernels_avx512_bf16, sdw_kernels_amx_bf16;

#endif
