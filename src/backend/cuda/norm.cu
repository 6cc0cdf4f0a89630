/* norm.cu: layer norm, a warp a row; group norm in two kernels, because the picture must be read
 * whole before the first pixel can be written: sums over slices of pixels, then the pixels. Nothing
 * is added by atomics: the same bytes every time. */
#include "backend/cuda/kernel.h"

#define THREADS 256

/* The value in a pack counts: with one element a pack the others are not there. */
static __device__ __forceinline__ bool present(int j, int width)
{
    return j < width;
}

/* out [rows,c] = (in - mean) / sqrt(variance + epsilon) * weight + bias. Grid: ceil(rows / 8),
 * THREADS threads. The row is read three times, twice from the first-level cache. */
KERNEL sdw_layer_norm(const sdw_cuda_layer_norm a)
{
    int64_t row = (int64_t)blockIdx.x * (THREADS / WARP) + threadIdx.x / WARP;
    int lane = threadIdx.x % WARP;
    if (row >= a.rows)
        return; /* a whole warp */
    int64_t first = row * a.packs;
    float count = (float)a.packs * a.width, mean = 0, variance = 0;
    for (int k = lane; k < a.packs; k += WARP) {
        pack p = load(a.in, a.in_type, a.width, first + k);
#pragma unroll
        for (int j = 0; j < 8; j++)
            mean += p.v[j]; /* absent ones are zero */
    }
    mean = warp_sum(mean) / count;
    for (int k = lane; k < a.packs; k += WARP) {
        pack p = load(a.in, a.in_type, a.width, first + k);
#pragma unroll
        for (int j = 0; j < 8; j++)
            if (present(j, a.width))
                variance += (p.v[j] - mean) * (p.v[j] - mean);
    }
    float scale = 1 / sqrtf(warp_sum(variance) / count + a.epsilon);
    for (int k = lane; k < a.packs; k += WARP) {
        pack p = load(a.in, a.in_type, a.width, first + k);
        pack w = load(a.weight, F32, a.width, k), b = load(a.bias, F32, a.width, k);
#pragma unroll
        for (int j = 0; j < 8; j++)
            p.v[j] = (p.v[j] - mean) * scale * w.v[j] + b.v[j];
        store(a.out, a.out_type, a.width, first + k, p);
    }
}

/* A group's first x in image n: near enough to the mean that squares of differences
 * keep their bits. */
static __device__ __forceinline__ float shift_of(const sdw_cuda_group_norm &a, int n, int group)
{
    int c = group * (a.c / a.groups);
    float x = get(a.in, a.in_type, (int64_t)n * a.pixels * a.c + c);
    return a.add ? x + get(a.add, a.add_type, (int64_t)n * a.c + c) : x;
}

/* Sums over the pixels of one slice, by channel: THREADS threads lie over the packs of a row, and
 * over several rows where a row is short. to [rows at a time][c][2], shift [groups]: shared memory.
 */
static __device__ void sum_channels(const sdw_cuda_group_norm &a, float *to, const float *shift,
                                    int n, int across, int down)
{
    int first = blockIdx.x * a.slice, end = min(first + a.slice, a.pixels);
    int row = threadIdx.x / across, column = threadIdx.x % across;
    if (row >= down)
        return;
    for (int k = column; k < a.packs; k += across) {
        float sum[8] = {0}, square[8] = {0}, less[8] = {0};
        pack add = {{0, 0, 0, 0, 0, 0, 0, 0}};
        if (a.add)
            add = load(a.add, a.add_type, a.width, (int64_t)n * a.packs + k);
#pragma unroll
        for (int j = 0; j < 8; j++)
            if (present(j, a.width))
                less[j] = shift[(k * a.width + j) / (a.c / a.groups)] - add.v[j];
        for (int p = first + row; p < end; p += down) {
            pack x = load(a.in, a.in_type, a.width, ((int64_t)n * a.pixels + p) * a.packs + k);
#pragma unroll
            for (int j = 0; j < 8; j++) {
                float difference = x.v[j] - less[j];
                sum[j] += difference;
                square[j] += difference * difference;
            }
        }
#pragma unroll
        for (int j = 0; j < 8; j++)
            if (present(j, a.width)) {
                to[2 * (row * a.c + k * a.width + j)] = sum[j];
                to[2 * (row * a.c + k * a.width + j) + 1] = square[j];
            }
    }
}

/* sums [n,slices,groups,2], shifts [n,groups]. Grid: slices, n; THREADS threads; shared: max(1,
 * THREADS / packs) * c
 * * 2 + groups floats. */
KERNEL sdw_group_sums(const sdw_cuda_group_norm a)
{
    float *channel = (float *)dynamic_shared();
    int n = blockIdx.y, across = min(a.packs, THREADS), down = THREADS / across;
    float *shift = channel + 2 * down * a.c;
    for (int group = threadIdx.x; group < a.groups; group += THREADS)
        shift[group] = shift_of(a, n, group);
    __syncthreads();
    sum_channels(a, channel, shift, n, across, down);
    __syncthreads();
    int per_group = a.c / a.groups, lane = threadIdx.x % WARP;
    for (int group = threadIdx.x / WARP; group < a.groups; group += THREADS / WARP) {
        float sum = 0, square = 0;
        for (int e = lane; e < per_group * down; e += WARP) {
            int at = e / per_group * a.c + group * per_group + e % per_group;
            sum += channel[2 * at];
            square += channel[2 * at + 1];
        }
        sum = warp_sum(sum);
        square = warp_sum(square);
        if (lane == 0) {
            float *to = a.sums + 2 * (((int64_t)n * a.slices + blockIdx.x) * a.groups + group);
            to[0] = sum;
            to[1] = square;
            if (blockIdx.x == 0)
                a.shifts[n * a.groups + group] = shift[group];
        }
    }
}

/* Factor and term of every channel of image n, from the sums of all slices: y = x * factor + term.
 * to [c][2] in shared memory. */
static __device__ void scale_channels(const sdw_cuda_group_norm &a, float *to, int n)
{
    int per_group = a.c / a.groups, lane = threadIdx.x % WARP;
    float count = (float)per_group * a.pixels;
    for (int group = threadIdx.x / WARP; group < a.groups; group += THREADS / WARP) {
        float sum = 0, square = 0;
        for (int s = lane; s < a.slices; s += WARP) {
            const float *from = a.sums + 2 * (((int64_t)n * a.slices + s) * a.groups + group);
            sum += from[0];
            square += from[1];
        }
        float off = warp_sum(sum) / count; /* the mean less the shift */
        float variance = fmaxf(warp_sum(square) / count - off * off, 0);
        float mean = a.shifts[n * a.groups + group] + off, scale = 1 / sqrtf(variance + a.epsilon);
        for (int e = lane; e < per_group; e += WARP) {
            int c = group * per_group + e;
            float add = a.add ? get(a.add, a.add_type, (int64_t)n * a.c + c) : 0;
            to[2 * c] = scale * a.weight[c];
            to[2 * c + 1] = (add - mean) * scale * a.weight[c] + a.bias[c];
        }
    }
}

/* out [n,pixels,c] = act(norm(in + add)). Grid: slices, n; THREADS threads; shared: 2*c floats. */
KERNEL sdw_group_norm(const sdw_cuda_group_norm a)
{
    float *channel = (float *)dynamic_shared();
    int n = blockIdx.y, first = blockIdx.x * a.slice;
    scale_channels(a, channel, n);
    __syncthreads();
    int64_t start = ((int64_t)n * a.pixels + first) * a.packs;
    int count = min(a.slice, a.pixels - first) * a.packs;
    for (int k = threadIdx.x; k < count; k += THREADS) {
        const float *of = channel + 2 * (k % a.packs) * a.width;
        pack p = load(a.in, a.in_type, a.width, start + k);
#pragma unroll
        for (int j = 0; j < 8; j++)
            if (present(j, a.width))
                p.v[j] = activate(p.v[j] * of[2 * j] + of[2 * j + 1], a.act);
        store(a.out, a.out_type, a.width, start + k, p);
    }
}
