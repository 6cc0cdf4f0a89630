/* half.h: 16-bit floats. f16 is IEEE binary16; bf16 is the upper half of an f32. Rounding is to
 * nearest even. */
#ifndef SDW_BASE_HALF_H
#define SDW_BASE_HALF_H

#include <stdint.h>
#include <string.h>

static inline uint32_t sdw_f32_bits(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

static inline float sdw_f32_from_bits(uint32_t bits)
{
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static inline float sdw_bf16_to_f32(uint16_t h)
{
    return sdw_f32_from_bits((uint32_t)h << 16);
}

static inline uint16_t sdw_f32_to_bf16(float value)
{
    uint32_t bits = sdw_f32_bits(value);
    if ((bits & 0x7fffffff) > 0x7f800000)
        return (uint16_t)(bits >> 16 | 0x40); /* a NaN stays one */
    return (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

static inline float sdw_f16_to_f32(uint16_t h)
{
    uint32_t sign = (uint32_t)(h & 0x8000) << 16, rest = h & 0x7fff;
    if (rest >= 0x7c00) /* infinity, NaN */
        return sdw_f32_from_bits(sign | 0x7f800000 | rest << 13);
    if (rest >= 0x0400) /* normal */
        return sdw_f32_from_bits(sign | ((rest << 13) + 0x38000000));
    float value = (float)rest * 0x1p-24f; /* subnormal: an integer times 2^-24, exact */
    return sdw_f32_from_bits(sign | sdw_f32_bits(value));
}

static inline uint16_t sdw_f32_to_f16(float value)
{
    uint32_t bits = sdw_f32_bits(value), sign = bits >> 16 & 0x8000, rest = bits & 0x7fffffff;
    if (rest > 0x7f800000)
        return (uint16_t)(sign | 0x7e00);
    if (rest >= 0x477ff000) /* 65520 and more round to infinity */
        return (uint16_t)(sign | 0x7c00);
    if (rest <
        0x38800000) /* below 2^-14: adding 0.5 leaves the rounded subnormal in the low bits */
        return (uint16_t)(sign | (sdw_f32_bits(sdw_f32_from_bits(rest) + 0.5f) - 0x3f000000));
    return (uint16_t)(sign | ((rest + 0xfff + (rest >> 13 & 1) - 0x38000000) >> 13));
}

/* Whole rows, vectorised by the compiler; f16 goes through the hardware where it has the
 * conversion. */
void sdw_f32_from_f16_row(float *to, const uint16_t *from, int64_t n);
void sdw_f32_from_bf16_row(float *to, const uint16_t *from, int64_t n);
void sdw_f16_from_f32_row(uint16_t *to, const float *from, int64_t n);
void sdw_bf16_from_f32_row(uint16_t *to, const float *from, int64_t n);

#endif
