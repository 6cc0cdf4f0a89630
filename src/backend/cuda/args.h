/* args.h: the kernels and what each is given: one structure by value, shared by the launchers (C)
 * and the kernels (CUDA). Types are enum sdw_dtype, activations enum sdw_act, both by their
 * numbers; shapes and their units are as in tensor/ops.h. */
#ifndef SDW_BACKEND_CUDA_ARGS_H
#define SDW_BACKEND_CUDA_ARGS_H

#include <stdint.h>

/* `width` is how many elements a thread moves at a time: 8 where rows divide by 8, else 1. `count`
 * is in these packs. */
struct sdw_cuda_map { /* out = act(in), and nothing else: act, cast */
    void *out;
    const void *in;
    int64_t count;
    int out_type, in_type, act, width;
};

struct sdw_cuda_add { /* out [n,pixels,c] = a + b at image n*b_image + pixel*b_pixel */
    void *out;
    const void *a, *b;
    int64_t count;
    int out_type, a_type, b_type, width;
    int pixels, packs;    /* packs in a row of c */
    int b_image, b_pixel; /* rows of b from image to image, from pixel to pixel: 0 where repeated */
};

struct sdw_cuda_concat { /* out [rows,ca+cb] */
    void *out;
    const void *a, *b;
    int64_t count;
    int out_type, a_type, b_type, width;
    int a_packs, b_packs;
};

struct sdw_cuda_embed { /* out [rows,c] = table [.,c] at ids [rows] */
    void *out;
    const void *table;
    const int32_t *ids;
    int64_t count;
    int out_type, table_type, width, packs;
};

struct sdw_cuda_geglu { /* out [rows,c], in [rows,2c] */
    void *out;
    const void *in;
    int64_t count;
    int out_type, in_type, width, packs;
};

struct sdw_cuda_layer_norm { /* rows of c = packs*width */
    void *out;
    const void *in;
    const float *weight, *bias;
    int64_t rows;
    int out_type, in_type, width, packs;
    float epsilon;
};

struct sdw_cuda_group_norm { /* in [n,pixels,c]; grid: slices of pixels, n */
    void *out;
    const void *in, *add; /* add [n,c] or NULL */
    const float *weight, *bias;
    float *sums;   /* [n,slices,groups,2]: of x - shift and its square */
    float *shifts; /* [n,groups]: a group's first x, which out may overwrite */
    int out_type, in_type, add_type, act;
    int pixels, packs, width, c, groups, slices, slice; /* slice: pixels of one */
    float epsilon;
};

struct sdw_cuda_pack { /* out [o,positions,i] in the compute type = in [o,i,positions] */
    void *out;
    const void *in;
    int64_t count; /* elements */
    int out_type, in_type, i, positions;
};

/* out [rows,o] = act(A . W^T + bias) + residual, W [o,k*k*i]. Row (n,y,x) of A is the window of in
 * [n,h,w,i] that begins at (y*stride-top, x*stride-left), zero outside; a linear layer is a 1x1
 * window over one row. */
struct sdw_cuda_matrix {
    void *out;
    const void *in, *weight, *residual; /* residual: out's type, NULL, or out itself */
    const float *bias;                  /* [o] */
    int64_t rows;
    int out_type, act;
    int i, o, kernel, stride, top, left;
    int h, w, oh, ow;
    int doubled; /* 1: h and w are those of the picture at twice its size */
    int vector;  /* i divides by 8: windows are read 16 bytes at a time */
};

struct sdw_cuda_attention { /* q and out [n,queries,heads*width], k and v [n,keys,heads*width] */
    void *out;
    const void *q, *k, *v;
    int queries, keys, heads, width;
    float scale_log2; /* scale * log2(e): powers of two are what the hardware computes */
    int causal;
    int vector; /* width divides by 8 */
};

struct sdw_cuda_twice { /* out [n,h,w,c] = in at half its size, nearest neighbour; 16 bits each */
    void *out;
    const void *in;
    int64_t count;
    int h, w, packs;
};

struct sdw_cuda_compare { /* sums [blocks,2]: of (got - wanted)^2, and of (wanted - less)^2 */
    float *sums;
    const void *got, *wanted, *less; /* of one type; less: NULL for zeros */
    int64_t count, step;             /* packs; threads of the grid */
    int type, width;
};

struct sdw_cuda_spin { /* out [threads]: sums that never leave the registers, `rounds` of each */
    float *out;
    int64_t rounds;
    float factor;
};

struct sdw_cuda_read { /* out [threads]: of in [count] quads of 16 bytes */
    float *out;
    const void *in;
    int64_t count, step; /* step: threads of the grid */
};

/* X(kernel, its structure of args.h, the file that it stands in) */
#define SDW_CUDA_KERNELS(X)                                                                        \
    X(map, sdw_cuda_map, pointwise)                                                                \
    X(add, sdw_cuda_add, pointwise)                                                                \
    X(concat, sdw_cuda_concat, pointwise)                                                          \
    X(embed, sdw_cuda_embed, pointwise)                                                            \
    X(geglu, sdw_cuda_geglu, pointwise)                                                            \
    X(pack, sdw_cuda_pack, pointwise)                                                              \
    X(twice, sdw_cuda_twice, pointwise)                                                            \
    X(compare, sdw_cuda_compare, measure)                                                          \
    X(spin_f32, sdw_cuda_spin, measure)                                                            \
    X(spin_f16, sdw_cuda_spin, measure)                                                            \
    X(spin_bf16, sdw_cuda_spin, measure)                                                           \
    X(read, sdw_cuda_read, measure)                                                                \
    X(layer_norm, sdw_cuda_layer_norm, norm)                                                       \
    X(group_sums, sdw_cuda_group_norm, norm)                                                       \
    X(group_norm, sdw_cuda_group_norm, norm)                                                       \
    X(matrix_f32, sdw_cuda_matrix, matrix)                                                         \
    X(matrix_f16, sdw_cuda_matrix, matrix)                                                         \
    X(matrix_bf16, sdw_cuda_matrix, matrix)                                                        \
    X(attention_f32, sdw_cuda_attention, attention)                                                \
    X(attention_f16_48, sdw_cuda_attention, attention)                                             \
    X(attention_f16_64, sdw_cuda_attention, attention)                                             \
    X(attention_f16_80, sdw_cuda_attention, attention)                                             \
    X(attention_f16_160, sdw_cuda_attention, attention)                                            \
    X(attention_f16_512, sdw_cuda_attention, attention)                                            \
    X(attention_bf16_48, sdw_cuda_attention, attention)                                            \
    X(attention_bf16_64, sdw_cuda_attention, attention)                                            \
    X(attention_bf16_80, sdw_cuda_attention, attention)                                            \
    X(attention_bf16_160, sdw_cuda_attention, attention)                                           \
    X(attention_bf16_512, sdw_cuda_attention, attention)

#endif
