/* half.c: conversions of whole rows; the loops are plain so that the compiler can vectorise them.
 */
#include "base/half.h"

#if defined(__x86_64__)
#include <immintrin.h>

__attribute__((target("avx,f16c"))) static int64_t f16_row_f16c(float *to, const uint16_t *from,
                                                                int64_t n)
{
    int64_t i = 0;
    for (; i + 8 <= n; i += 8)
        _mm256_storeu_ps(to + i, _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(from + i))));
    return i;
}

static int64_t f16_row_fast(float *to, const uint16_t *from, int64_t n)
{
    return __builtin_cpu_supports("avx2") ? f16_row_f16c(to, from, n) : 0;
}
#else
static int64_t f16_row_fast(float *to, const uint16_t *from, int64_t n)
{
    (void)to, (void)from, (void)n;
    return 0;
}
#endif

void sdw_f32_from_f16_row(float *to, const uint16_t *from, int64_t n)
{
    for (int64_t i = f16_row_fast(to, from, n); i < n; i++)
        to[i] = sdw_f16_to_f32(from[i]);
}

void sdw_f32_from_bf16_row(float *to, const uint16_t *from, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        to[i] = sdw_bf16_to_f32(from[i]);
}

void sdw_f16_from_f32_row(uint16_t *to, const float *from, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        to[i] = sdw_f32_to_f16(from[i]);
}

void sdw_bf16_from_f32_row(uint16_t *to, const float *from, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        to[i] = sdw_f32_to_bf16(from[i]);
}
