/* kernel.h: what the kernels share: element access by type, activations, sums over a warp, and the
 * few instructions that C++ has no words for.
 *
 * The kernels are compiled twice: by nvcc for GPUs, and by the host's C++ compiler for
 * tests/cuda_host, which runs the same code without a GPU and brings its own versions of the part
 * below "the machine". */
#ifndef SDW_BACKEND_CUDA_KERNEL_H
#define SDW_BACKEND_CUDA_KERNEL_H

#include "backend/cuda/args.h"

enum { F32 = 0, F16 = 1, BF16 = 2 };                       /* enum sdw_dtype */
enum { ACT_NONE = 0, SILU = 1, GELU = 2, QUICK_GELU = 3 }; /* enum sdw_act */

#define WARP 32
#define ALL  0xffffffffu /* lanes of a warp */

#define F16_LARGEST 65504.0f

/* A 16-bit float by its bits. */
struct f16 {
    uint16_t bits;
};
struct bf16 {
    uint16_t bits;
};

struct alignas(16) quad {
    uint32_t x, y, z, w;
};

/* ---- the machine: nvcc's versions ---- */
#ifdef __CUDACC__
#include <cuda_bf16.h>
#include <cuda_fp16.h>

#define KERNEL extern "C" __global__ void

static __device__ __forceinline__ float widen(f16 h)
{
    return __half2float(__ushort_as_half(h.bits));
}

static __device__ __forceinline__ float widen(bf16 h)
{
    return __uint_as_float((uint32_t)h.bits << 16);
}

/* What is too large for f16 becomes its largest number: a product of infinity is none, and a VAE's
 * residual stream may be that large where a convolution reads it. What is no number stays none. */
static __device__ __forceinline__ void narrow(f16 *to, float value)
{
    value = fabsf(value) > F16_LARGEST ? copysignf(F16_LARGEST, value) : value;
    to->bits = __half_as_ushort(__float2half_rn(value));
}

static __device__ __forceinline__ void narrow(bf16 *to, float value)
{
    to->bits = __bfloat16_as_ushort(__float2bfloat16_rn(value));
}

static __device__ __forceinline__ float power_of_two(float x)
{
    return exp2f(x);
}

/* Shared memory whose size the launch names. */
static __device__ __forceinline__ unsigned char *dynamic_shared()
{
    extern __shared__ __align__(16) unsigned char sdw_dynamic_shared[];
    return sdw_dynamic_shared;
}

static __device__ __forceinline__ uint32_t shared_address(const void *pointer)
{
    return (uint32_t)__cvta_generic_to_shared(pointer);
}

/* Starts a copy of 16 bytes to shared memory, zeros where `inside` is false; both aligned. */
static __device__ __forceinline__ void copy_async(void *to, const void *from, bool inside)
{
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;\n" ::"r"(shared_address(to)),
                 "l"(from), "r"(inside ? 16 : 0)
                 : "memory");
}

/* Ends a group of copies; waits until at most `left` of this thread's groups are under way. */
static __device__ __forceinline__ void copy_commit()
{
    asm volatile("cp.async.commit_group;\n" ::: "memory");
}

template <int left> static __device__ __forceinline__ void copy_wait()
{
    asm volatile("cp.async.wait_group %0;\n" ::"n"(left) : "memory");
}

/* Four 8x8 matrices of 16-bit elements; lane l gives the address of row l%8 of matrix l/8 and gets
 * row lane/4, columns 2*(lane%4) and the next, of each. */
static __device__ __forceinline__ void load_matrices(uint32_t (&to)[4], const void *row)
{
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];\n"
                 : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
                 : "r"(shared_address(row))
                 : "memory");
}

/* The same of the transposed matrices. */
static __device__ __forceinline__ void load_transposed(uint32_t (&to)[4], const void *row)
{
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];\n"
                 : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
                 : "r"(shared_address(row))
                 : "memory");
}

/* c [16,8] += a [16,16] . b [16,8] of a warp (PTX ISA, mma.m16n8k16): lane l holds of c row l/4,
 * columns 2*(l%4) and the next, then the same of row l/4+8. */
static __device__ __forceinline__ void multiply(float (&c)[4], const uint32_t (&a)[4], uint32_t b0,
                                                uint32_t b1, f16)
{
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 "
                 "{%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};\n"
                 : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

static __device__ __forceinline__ void multiply(float (&c)[4], const uint32_t (&a)[4], uint32_t b0,
                                                uint32_t b1, bf16)
{
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 "
                 "{%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};\n"
                 : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}
#else
#include SDW_CUDA_MACHINE /* tests/cuda_host/machine.h */
#endif

/* ---- elements ---- */

static __device__ __forceinline__ float get(const void *from, int type, int64_t i)
{
    return type == F32   ? ((const float *)from)[i]
           : type == F16 ? widen(((const f16 *)from)[i])
                         : widen(((const bf16 *)from)[i]);
}

static __device__ __forceinline__ void set(void *to, int type, int64_t i, float value)
{
    if (type == F32)
        ((float *)to)[i] = value;
    else if (type == F16)
        narrow((f16 *)to + i, value);
    else
        narrow((bf16 *)to + i, value);
}

/* Eight neighbours of a row, or one (`width`). */
struct alignas(16) pack {
    float v[8];
};

template <typename T> static __device__ __forceinline__ void widen_eight(pack *p, const T *from)
{
    quad raw = *(const quad *)from;
    const uint32_t word[4] = {raw.x, raw.y, raw.z, raw.w};
#pragma unroll
    for (int j = 0; j < 8; j++) {
        T half;
        half.bits = (uint16_t)(word[j / 2] >> 16 * (j % 2));
        p->v[j] = widen(half);
    }
}

template <typename T> static __device__ __forceinline__ void narrow_eight(T *to, const pack &p)
{
    uint32_t word[4];
#pragma unroll
    for (int j = 0; j < 4; j++) {
        T low, high;
        narrow(&low, p.v[2 * j]);
        narrow(&high, p.v[2 * j + 1]);
        word[j] = low.bits | (uint32_t)high.bits << 16;
    }
    *(quad *)to = quad{word[0], word[1], word[2], word[3]};
}

/* Pack `i` of an array: elements i*width and on. */
static __device__ __forceinline__ pack load(const void *from, int type, int width, int64_t i)
{
    pack p = {{0, 0, 0, 0, 0, 0, 0, 0}};
    if (width == 1)
        p.v[0] = get(from, type, i);
    else if (type == F16)
        widen_eight(&p, (const f16 *)from + 8 * i);
    else if (type == BF16)
        widen_eight(&p, (const bf16 *)from + 8 * i);
    else
        p = *(const pack *)((const float *)from + 8 * i);
    return p;
}

static __device__ __forceinline__ void store(void *to, int type, int width, int64_t i,
                                             const pack &p)
{
    if (width == 1)
        set(to, type, i, p.v[0]);
    else if (type == F16)
        narrow_eight((f16 *)to + 8 * i, p);
    else if (type == BF16)
        narrow_eight((bf16 *)to + 8 * i, p);
    else
        *(pack *)((float *)to + 8 * i) = p;
}

static __device__ __forceinline__ float activate(float x, int act)
{
    switch (act) {
    case SILU: return x / (1 + expf(-x));
    case GELU: return 0.5f * x * (1 + erff(x * 0.70710678118654752440f));
    case QUICK_GELU: return x / (1 + expf(-1.702f * x));
    default: return x;
    }
}

/* ---- a warp ---- */

/* The sum over the lanes, in all of them, in the same order always. */
static __device__ __forceinline__ float warp_sum(float value)
{
#pragma unroll
    for (int distance = WARP / 2; distance > 0; distance /= 2)
        value += __shfl_xor_sync(ALL, value, distance);
    return value;
}

static __device__ __forceinline__ float warp_max(float value)
{
#pragma unroll
    for (int distance = WARP / 2; distance > 0; distance /= 2)
        value = fmaxf(value, __shfl_xor_sync(ALL, value, distance));
    return value;
}

#endif
