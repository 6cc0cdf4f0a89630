/* pointwise.cu: the operators that touch each element once, and the packing of weights. They are
 * bound by memory: a thread moves 16 bytes at a time where rows allow, and the type of an operand
 * is a branch that all threads take alike. One thread a pack; grid: ceil(count / threads). */
#include "backend/cuda/kernel.h"

/* The pack of this thread. */
static __device__ __forceinline__ int64_t own()
{
    return (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
}

/* out [count] = act(in [count]); out may be in */
KERNEL sdw_map(const sdw_cuda_map a)
{
    int64_t at = own();
    if (at >= a.count)
        return;
    pack p = load(a.in, a.in_type, a.width, at);
#pragma unroll
    for (int j = 0; j < 8; j++)
        p.v[j] = activate(p.v[j], a.act);
    store(a.out, a.out_type, a.width, at, p);
}

/* out [n,pixels,c] = a [n,pixels,c] + b [n or 1, pixels or 1, c]; out may be a */
KERNEL sdw_add(const sdw_cuda_add a)
{
    int64_t at = own();
    if (at >= a.count)
        return;
    uint32_t row = (uint32_t)at / a.packs, column = (uint32_t)at % a.packs;
    int64_t b_row = (int64_t)(row / a.pixels) * a.b_image + (int64_t)(row % a.pixels) * a.b_pixel;
    pack p = load(a.a, a.a_type, a.width, at);
    pack q = load(a.b, a.b_type, a.width, b_row * a.packs + column);
#pragma unroll
    for (int j = 0; j < 8; j++)
        p.v[j] += q.v[j];
    store(a.out, a.out_type, a.width, at, p);
}

/* out [rows,ca+cb] = a [rows,ca] beside b [rows,cb] */
KERNEL sdw_concat(const sdw_cuda_concat a)
{
    int64_t at = own();
    if (at >= a.count)
        return;
    uint32_t packs = a.a_packs + a.b_packs, row = (uint32_t)at / packs,
             column = (uint32_t)at % packs;
    pack p = column < (uint32_t)a.a_packs
                 ? load(a.a, a.a_type, a.width, (int64_t)row * a.a_packs + column)
                 : load(a.b, a.b_type, a.width, (int64_t)row * a.b_packs + column - a.a_packs);
    store(a.out, a.out_type, a.width, at, p);
}

/* out [rows,c] = table [.,c] at ids [rows] */
KERNEL sdw_embed(const sdw_cuda_embed a)
{
    int64_t at = own();
    if (at >= a.count)
        return;
    uint32_t row = (uint32_t)at / a.packs, column = (uint32_t)at % a.packs;
    int64_t from = (int64_t)a.ids[row] * a.packs + column;
    store(a.out, a.out_type, a.width, at, load(a.table, a.table_type, a.width, from));
}

/* out [rows,c] = in [rows,0:c] * gelu(in [rows,c:2c]) */
KERNEL sdw_geglu(const sdw_cuda_geglu a)
{
    int64_t at = own();
    if (at >= a.count)
        return;
    uint32_t row = (uint32_t)at / a.packs, column = (uint32_t)at % a.packs;
    int64_t from = (int64_t)row * 2 * a.packs + column;
    pack p = load(a.in, a.in_type, a.width, from),
         gate = load(a.in, a.in_type, a.width, from + a.packs);
#pragma unroll
    for (int j = 0; j < 8; j++)
        p.v[j] *= activate(gate.v[j], GELU);
    store(a.out, a.out_type, a.width, at, p);
}

/* out [o,positions,i] = in [o,i,positions], in another type; count: o*positions*i */
KERNEL sdw_pack(const sdw_cuda_pack a)
{
    int64_t at = own();
    if (at >= a.count)
        return;
    int64_t row = at / ((int64_t)a.i * a.positions);
    int rest = (int)(at % ((int64_t)a.i * a.positions)), position = rest / a.i, i = rest % a.i;
    set(a.out, a.out_type, at, get(a.in, a.in_type, (row * a.i + i) * a.positions + position));
}

/* out [n,h,w,c] = in [n,(h+1)/2,(w+1)/2,c], each pixel four times; elements of 16 bits */
KERNEL sdw_twice(const sdw_cuda_twice a)
{
    int64_t at = own();
    if (at >= a.count)
        return;
    int pack = (int)(at % a.packs);
    int64_t pixel = at / a.packs, row = pixel / a.w;
    int x = (int)(pixel % a.w), y = (int)(row % a.h);
    int64_t from = (row / a.h * ((a.h + 1) / 2) + y / 2) * ((a.w + 1) / 2) + x / 2;
    ((quad *)a.out)[at] = ((const quad *)a.in)[from * a.packs + pack];
}
