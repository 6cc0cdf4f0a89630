/* machine.h: the GPU's part of backend/cuda/kernel.h for the host's C++ compiler: a kernel is a
 * function that every thread of a block calls, blocks run one after the other, and threads are
 * fibers in lockstep (tests/lockstep).
 *
 * Tensor cores compute as the PTX ISA says their fragments lie. A copy to shared memory happens
 * when it is waited for and not before, so that a wait too few is seen. */
#ifndef SDW_TESTS_CUDA_HOST_MACHINE_H
#define SDW_TESTS_CUDA_HOST_MACHINE_H

#include "base/half.h"
#include "lockstep/lockstep.h"

#include <math.h>
#include <string.h>

#define __device__
#define __global__
#define __forceinline__ inline
#define __launch_bounds__(threads)
#define __shared__ static
#define KERNEL     extern "C" void

struct host_index {
    unsigned x, y, z;
};

/* launch.c */
extern "C" {
extern struct host_index host_block, host_block_size;
void *host_dynamic_shared(void);
void host_copy_start(void *to, const void *from, int bytes_from);
void host_copy_commit(void);
void host_copy_wait(int left);
}

#define blockIdx  host_block
#define blockDim  host_block_size
#define threadIdx (host_index{(unsigned)lockstep_thread(), 0, 0})

static inline int min(int a, int b)
{
    return a < b ? a : b;
}

static inline float widen(f16 h)
{
    return sdw_f16_to_f32(h.bits);
}

static inline float widen(bf16 h)
{
    return sdw_bf16_to_f32(h.bits);
}

static inline void narrow(f16 *to, float value)
{
    value = fabsf(value) > F16_LARGEST ? copysignf(F16_LARGEST, value) : value;
    to->bits = sdw_f32_to_f16(value);
}

static inline void narrow(bf16 *to, float value)
{
    to->bits = sdw_f32_to_bf16(value);
}

static inline float power_of_two(float x)
{
    return exp2f(x);
}

static inline unsigned char *dynamic_shared()
{
    return (unsigned char *)host_dynamic_shared();
}

static inline void __syncthreads()
{
    lockstep_barrier();
}

static inline void __syncwarp()
{
    lockstep_lanes_barrier();
}

/* What lane `lane` of this warp gave. */
template <typename T> static inline T given(const void *all, int lane)
{
    T value;
    memcpy(&value, (const char *)all + lane * LOCKSTEP_VALUE_MAX, sizeof value);
    return value;
}

static inline float __shfl_xor_sync(unsigned, float value, int mask)
{
    return given<float>(lockstep_exchange(&value, sizeof value), lockstep_thread() % WARP ^ mask);
}

static inline float __shfl_sync(unsigned, float value, int lane)
{
    return given<float>(lockstep_exchange(&value, sizeof value), lane);
}

static inline void copy_async(void *to, const void *from, bool inside)
{
    host_copy_start(to, from, inside ? 16 : 0);
}

static inline void copy_commit()
{
    host_copy_commit();
}

template <int left> static inline void copy_wait()
{
    host_copy_wait(left);
}

static inline void load_matrices(uint32_t (&to)[4], const void *row)
{
    int lane = lockstep_thread() % WARP;
    const void *rows = lockstep_exchange(&row, sizeof row);
    for (int m = 0; m < 4; m++)
        memcpy(&to[m], (const char *)given<const void *>(rows, m * 8 + lane / 4) + lane % 4 * 4, 4);
    __syncwarp(); /* what was read may be overwritten */
}

static inline void load_transposed(uint32_t (&to)[4], const void *row)
{
    int lane = lockstep_thread() % WARP;
    const void *rows = lockstep_exchange(&row, sizeof row);
    for (int m = 0; m < 4; m++) {
        uint16_t half[2];
        for (int i = 0; i < 2; i++) {
            const char *at = (const char *)given<const void *>(rows, m * 8 + lane % 4 * 2 + i);
            memcpy(&half[i], at + lane / 4 * 2, 2);
        }
        memcpy(&to[m], half, 4);
    }
    __syncwarp();
}

/* A lane's part of both operands, widened: at most LOCKSTEP_VALUE_MAX bytes. */
struct host_fragments {
    float a[8], b[4];
};

template <typename T> static inline void widen_fragment(float *to, const uint32_t *words, int count)
{
    for (int e = 0; e < count; e++) { /* two to a register, the low half first */
        T half;
        half.bits = (uint16_t)(words[e / 2] >> 16 * (e % 2));
        to[e] = widen(half);
    }
}

/* PTX ISA, "Matrix Fragments for mma.m16n8k16": element e of A lies in row lane/4 (+8 for e in
 * 2,3,6,7), column lane%4*2 + e%2 (+8 for e >= 4); of B in row lane%4*2 + e%2 (+8 for e >= 2),
 * column lane/4. */
template <typename T>
static inline void multiply(float (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1, T)
{
    int lane = lockstep_thread() % WARP;
    const uint32_t b[2] = {b0, b1};
    host_fragments mine;
    widen_fragment<T>(mine.a, a, 8);
    widen_fragment<T>(mine.b, b, 4);
    const char *all = (const char *)lockstep_exchange(&mine, sizeof mine);
    for (int e = 0; e < 4; e++) {
        int row = lane / 4, column = lane % 4 * 2 + e % 2;
        float sum = 0;
        for (int k = 0; k < 16; k++) {
            int holder = k % 8 / 2; /* of the four lanes that share a row or a column */
            const host_fragments *left =
                (const host_fragments *)(all + (row * 4 + holder) * LOCKSTEP_VALUE_MAX);
            const host_fragments *right =
                (const host_fragments *)(all + (column * 4 + holder) * LOCKSTEP_VALUE_MAX);
            sum += left->a[k % 2 + e / 2 * 2 + k / 8 * 4] * right->b[k % 2 + k / 8 * 2];
        }
        c[e] += sum;
    }
}

#endif
