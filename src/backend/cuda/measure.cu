/* measure.cu: what is not part of any picture: how far two results are apart (cudnn.c), and what
 * the GPU does at most (limits.c). */
#include "backend/cuda/kernel.h"

#define THREADS 256 /* of a block, in all of them */

static __device__ __forceinline__ int64_t own()
{
    return (int64_t)blockIdx.x * THREADS + threadIdx.x;
}

/* The sum of a block's threads, in thread 0. */
static __device__ __forceinline__ float block_sum(float value, float *room)
{
    value = warp_sum(value);
    if (threadIdx.x % WARP == 0)
        room[threadIdx.x / WARP] = value;
    __syncthreads();
    value = 0;
    for (int i = 0; i < THREADS / WARP; i++)
        value += room[i];
    __syncthreads();
    return value;
}

/* sums [blocks,2]; what is no number makes the first of them none */
KERNEL __launch_bounds__(THREADS) sdw_compare(const sdw_cuda_compare a)
{
    __shared__ float room[THREADS / WARP];
    float apart = 0, size = 0;
    for (int64_t at = own(); at < a.count; at += a.step) {
        pack got = load(a.got, a.type, a.width, at), wanted = load(a.wanted, a.type, a.width, at);
        pack less = {{0, 0, 0, 0, 0, 0, 0, 0}};
        if (a.less)
            less = load(a.less, a.type, a.width, at);
#pragma unroll
        for (int j = 0; j < 8; j++) {
            float difference = got.v[j] - wanted.v[j], own_part = wanted.v[j] - less.v[j];
            apart += difference * difference;
            size += own_part * own_part;
        }
    }
    apart = block_sum(apart, room);
    size = block_sum(size, room);
    if (threadIdx.x == 0) {
        a.sums[2 * blockIdx.x] = apart;
        a.sums[2 * blockIdx.x + 1] = size;
    }
}

#define SUMS 16 /* of a thread: more than an addition takes to be done */

/* out [threads]; 2 * SUMS operations a round and thread */
KERNEL __launch_bounds__(THREADS) sdw_spin_f32(const sdw_cuda_spin a)
{
    float sum[SUMS], total = 0;
#pragma unroll
    for (int i = 0; i < SUMS; i++)
        sum[i] = (float)(threadIdx.x + i);
    for (int64_t round = 0; round < a.rounds; round++)
#pragma unroll
        for (int i = 0; i < SUMS; i++)
            sum[i] = sum[i] * a.factor + 1;
#pragma unroll
    for (int i = 0; i < SUMS; i++)
        total += sum[i];
    a.out[own()] = total;
}

#define TILES 8 /* sums of 16 x 8 of a warp */

/* Two numbers between 1 and 2, of any bits: the same bits over and over take less power, and a GPU
 * is as fast as its power lets it be. */
static __device__ __forceinline__ uint32_t two_numbers(int seed, f16)
{
    uint32_t bits = (uint32_t)seed * 2654435761u;
    return 0x3c003c00u | (bits & 0x03ff03ffu);
}

static __device__ __forceinline__ uint32_t two_numbers(int seed, bf16)
{
    uint32_t bits = (uint32_t)seed * 2654435761u;
    return 0x3f803f80u | (bits & 0x007f007fu);
}

/* out [threads]; TILES products of 16 x 16 x 8 a round and warp */
template <typename T> static __device__ __forceinline__ void spin(const sdw_cuda_spin &a)
{
    float sum[TILES][4] = {}, total = 0;
    uint32_t left[4], right[TILES][2];
#pragma unroll
    for (int i = 0; i < 4; i++)
        left[i] = two_numbers(threadIdx.x * 4 + i + 1, T());
#pragma unroll
    for (int i = 0; i < TILES; i++) {
        right[i][0] = two_numbers(threadIdx.x + 1024 * i + 7, T());
        right[i][1] = two_numbers(threadIdx.x + 1024 * i + 8191, T());
    }
    for (int64_t round = 0; round < a.rounds; round++)
#pragma unroll
        for (int i = 0; i < TILES; i++)
            multiply(sum[i], left, right[i][0], right[i][1], T());
#pragma unroll
    for (int i = 0; i < TILES; i++)
        total += sum[i][0] + sum[i][1] + sum[i][2] + sum[i][3];
    a.out[own()] = total * a.factor;
}

KERNEL __launch_bounds__(THREADS) sdw_spin_f16(const sdw_cuda_spin a)
{
    spin<f16>(a);
}

KERNEL __launch_bounds__(THREADS) sdw_spin_bf16(const sdw_cuda_spin a)
{
    spin<bf16>(a);
}

/* out [threads]: of all the bits of in, so that each is read */
KERNEL __launch_bounds__(THREADS) sdw_read(const sdw_cuda_read a)
{
    const quad *in = (const quad *)a.in;
    uint32_t bits = 0;
#pragma unroll 8
    for (int64_t at = own(); at < a.count; at += a.step) {
        quad q = in[at];
        bits ^= q.x ^ q.y ^ q.z ^ q.w;
    }
    a.out[own()] = (float)bits;
}
