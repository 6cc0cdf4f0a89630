// common.metal: what the families share. The host puts params.h and this file in front of them and compiles the whole
// as one text. Storage is f32 or one type of 16 bits, f16 unless the host has defined SDW_METAL_BF16; arithmetic is
// always f32.
//
// Every kernel takes its arguments in one order: device buffers 0.., its parameters as the last buffer, threadgroup
// memory if it has any, then the position of the group and of the thread in it. The checks on Linux rely on that.
#include <metal_stdlib>

using namespace metal;

#ifndef GROUP_MEMORY // a macro for the sake of tests/metal_host, which has another word for it
#define GROUP_MEMORY [[threadgroup(0)]]
#endif

#ifdef SDW_METAL_BF16
typedef bfloat narrow; // language version 3.1
#else
typedef half narrow;
#endif

// Where a thread stands: in its group, and in the simdgroup of 32 threads that compute together.
struct place {
    uint thread_index, simdgroup, lane;
};

// Operands that come in either type are read through a uniform branch: these kernels wait for memory, not for it.
static inline float load(device const void *from, int type, ulong i)
{
    return type == SDW_METAL_F32 ? ((device const float *)from)[i] : float(((device const narrow *)from)[i]);
}

static inline void store(device void *to, int type, ulong i, float value)
{
    if (type == SDW_METAL_F32)
        ((device float *)to)[i] = value;
    else
        ((device narrow *)to)[i] = narrow(value);
}

// Abramowitz and Stegun 7.1.26, absolute error below 1.5e-7; the language has no erf.
static inline float erf_of(float x)
{
    float t = 1.0f / (1.0f + 0.3275911f * fabs(x));
    float series = t * (0.254829592f + t * (-0.284496736f + t * (1.421413741f + t * (-1.453152027f + t * 1.061405429f))));
    float tail = series * exp(-x * x);
    return x < 0.0f ? tail - 1.0f : 1.0f - tail;
}

static inline float gelu(float x)
{
    return 0.5f * x * (1.0f + erf_of(x * 0.70710678f));
}

static inline float activate(float x, int act)
{
    if (act == SDW_METAL_SILU)
        return x / (1.0f + exp(-x));
    if (act == SDW_METAL_GELU)
        return gelu(x);
    if (act == SDW_METAL_QUICK_GELU)
        return x / (1.0f + exp(-1.702f * x));
    return x;
}
