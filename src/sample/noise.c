/* noise.c: PyTorch's normal numbers on a CPU, and those of a GPU.
 *
 * A picture is its seed: one last bit of the noise that differs shows in the pixels after twenty
 * steps. So the polynomials are those that PyTorch's AVX2 kernel uses (Cephes'), each fused
 * multiply-add where it has one and nowhere else. This room is compiled with -ffp-contract=off;
 * fmaf rounds once on every machine, and is one instruction where the CPU has it. */
#include "sample/noise.h"

#include <assert.h>
#include <math.h>
#include <string.h>

#define TWO_PI 6.283185307179586476925286766559

/* ---- mt19937 (Matsumoto and Nishimura 1998) ---- */

#define MT_SHIFT 397

static void mt_seed(struct sdw_noise *noise, uint32_t seed)
{
    noise->word[0] = seed;
    for (uint32_t i = 1; i < SDW_MT19937_WORDS; i++)
        noise->word[i] = 1812433253u * (noise->word[i - 1] ^ noise->word[i - 1] >> 30) + i;
    noise->position = SDW_MT19937_WORDS;
}

static void mt_stir(struct sdw_noise *noise)
{
    uint32_t *word = noise->word;
    for (int i = 0; i < SDW_MT19937_WORDS; i++) {
        uint32_t y = (word[i] & 0x80000000u) | (word[(i + 1) % SDW_MT19937_WORDS] & 0x7fffffffu);
        word[i] = word[(i + MT_SHIFT) % SDW_MT19937_WORDS] ^ y >> 1 ^ (y & 1 ? 0x9908b0dfu : 0);
    }
    noise->position = 0;
}

static uint32_t mt_next(struct sdw_noise *noise)
{
    if (noise->position == SDW_MT19937_WORDS)
        mt_stir(noise);
    uint32_t y = noise->word[noise->position++];
    y ^= y >> 11;
    y ^= y << 7 & 0x9d2c5680u;
    y ^= y << 15 & 0xefc60000u;
    return y ^ y >> 18;
}

/* ---- small fills: pairs in double precision ---- */

static double uniform53(struct sdw_noise *noise)
{
    uint64_t high = mt_next(noise), low = mt_next(noise);
    return (double)((high << 32 | low) & ((UINT64_C(1) << 53) - 1)) * 0x1p-53;
}

static void fill_pairs(struct sdw_noise *noise, float *values, int64_t count)
{
    for (int64_t i = 0; i < count; i++) {
        if (noise->has_rest) {
            noise->has_rest = false;
            values[i] = (float)noise->rest;
            continue;
        }
        double u1 = uniform53(noise), u2 = uniform53(noise);
        double radius = sqrt(-2 * log1p(-u2)), angle = TWO_PI * u1;
        values[i] = (float)(radius * cos(angle));
        noise->rest = radius * sin(angle);
        noise->has_rest = true;
    }
}

/* ---- large fills: groups of 16 in single precision ---- */

#define GROUP 16
#define HALF  (GROUP / 2)

/* x is positive and normal. */
static inline __attribute__((always_inline)) float cephes_log(float x)
{
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    float e = (float)((int)(bits >> 23) - 126);
    bits = (bits & 0x007fffff) | 0x3f000000; /* the mantissa, in [0.5, 1) */
    float m;
    memcpy(&m, &bits, sizeof m);
    bool small = m < 0.707106781186547524f;
    e -= small ? 1.0f : 0.0f;
    x = (m - 1.0f) + (small ? m : 0.0f);
    float z = x * x;
    float y = 7.0376836292E-2f;
    y = fmaf(y, x, -1.1514610310E-1f);
    y = fmaf(y, x, 1.1676998740E-1f);
    y = fmaf(y, x, -1.2420140846E-1f);
    y = fmaf(y, x, 1.4249322787E-1f);
    y = fmaf(y, x, -1.6668057665E-1f);
    y = fmaf(y, x, 2.0000714765E-1f);
    y = fmaf(y, x, -2.4999993993E-1f);
    y = fmaf(y, x, 3.3333331174E-1f);
    y = fmaf(y * x, z, e * -2.12194440e-4f);
    y = fmaf(-z, 0.5f, y);
    return fmaf(e, 0.693359375f, x + y);
}

/* x >= 0 */
static inline __attribute__((always_inline)) void cephes_sincos(float *sine, float *cosine, float x)
{
    int j = ((int)(x * 1.27323954473516f) + 1) & ~1;
    float y = (float)j;
    x = fmaf(y, -0.78515625f, x);
    x = fmaf(y, -2.4187564849853515625e-4f, x);
    x = fmaf(y, -3.77489497744594108e-8f, x);
    float z = x * x;
    float c = 2.443315711809948E-5f;
    c = fmaf(c, z, -1.388731625493765E-3f);
    c = fmaf(c, z, 4.166664568298827E-2f);
    c = fmaf(c * z, z, -(z * 0.5f)) + 1.0f;
    float s = -1.9515295891E-4f;
    s = fmaf(s, z, 8.3321608736E-3f);
    s = fmaf(s, z, -1.6666654611E-1f);
    s = fmaf(s * z, x, x);
    float sin_magnitude = j & 2 ? c : s, cos_magnitude = j & 2 ? s : c;
    *sine = j & 4 ? -sin_magnitude : sin_magnitude;
    *cosine = (j - 2) & 4 ? cos_magnitude : -cos_magnitude;
}

/* 16 uniform numbers become 16 normal ones. */
static inline __attribute__((always_inline)) void box_muller_16(float *value)
{
    for (int j = 0; j < HALF; j++) {
        float sine, cosine;
        float radius = sqrtf(-2.0f * cephes_log(1.0f - value[j]));
        cephes_sincos(&sine, &cosine, (float)TWO_PI * value[j + HALF]);
        value[j] = radius * cosine;
        value[j + HALF] = radius * sine;
    }
}

static void box_muller_any(float *value)
{
    box_muller_16(value);
}

/* The same operations, with fmaf as an instruction instead of a call. */
#if defined(__x86_64__)
__attribute__((target("avx2,fma"))) static void box_muller_fma(float *value)
{
    box_muller_16(value);
}
#endif

static void (*box_muller(void))(float *)
{
#if defined(__x86_64__)
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
        return box_muller_fma;
#endif
    return box_muller_any;
}

static void uniform24(struct sdw_noise *noise, float *values, int64_t count)
{
    for (int64_t i = 0; i < count; i++)
        values[i] = (float)(mt_next(noise) & 0xffffff) * 0x1p-24f;
}

static void fill_groups(struct sdw_noise *noise, float *values, int64_t count)
{
    void (*transform)(float *) = box_muller();
    uniform24(noise, values, count);
    for (int64_t i = 0; i + GROUP <= count; i += GROUP)
        transform(values + i);
    if (count % GROUP != 0) { /* the last 16 anew, over some that were done */
        uniform24(noise, values + count - GROUP, GROUP);
        transform(values + count - GROUP);
    }
}

/* ---- Philox 4x32-10 (Salmon et al. 2011) ---- */

static void philox(uint32_t counter[4], uint64_t seed)
{
    uint32_t key0 = (uint32_t)seed, key1 = (uint32_t)(seed >> 32);
    for (int round = 0; round < 10; round++) {
        uint64_t p0 = (uint64_t)0xd2511f53u * counter[0], p1 = (uint64_t)0xcd9e8d57u * counter[2];
        uint32_t next[4] = {(uint32_t)(p1 >> 32) ^ counter[1] ^ key0, (uint32_t)p1,
                            (uint32_t)(p0 >> 32) ^ counter[3] ^ key1, (uint32_t)p0};
        memcpy(counter, next, sizeof next);
        key0 += 0x9e3779b9u;
        key1 += 0xbb67ae85u;
    }
}

static void fill_philox(struct sdw_noise *noise, float *values, int64_t count)
{
    const float unit = 2.3283064e-10f, turn = 2.3283064e-10f * (float)TWO_PI;
    for (int64_t i = 0; i < count; i++) {
        uint32_t g[4] = {noise->calls, 0, (uint32_t)i, 0};
        philox(g, noise->seed);
        float u = (float)g[0] * unit + unit / 2, v = (float)g[1] * turn + turn / 2;
        values[i] = (float)(sqrt(-2 * log(u)) * sin(v));
    }
    noise->calls++;
}

/* ---- the generator ---- */

void sdw_noise_seed(struct sdw_noise *noise, enum sdw_noise_kind kind, uint64_t seed)
{
    memset(noise, 0, sizeof *noise); /* padding too: its bytes are saved */
    noise->kind = kind;
    noise->seed = seed;
    if (kind == SDW_NOISE_TORCH_CPU)
        mt_seed(noise, (uint32_t)seed);
}

void sdw_noise_fill(struct sdw_noise *noise, float *values, int64_t count)
{
    assert(count >= 0);
    if (noise->kind == SDW_NOISE_PHILOX)
        fill_philox(noise, values, count);
    else if (count < GROUP)
        fill_pairs(noise, values, count);
    else
        fill_groups(noise, values, count);
}

bool sdw_noise_kind_find(enum sdw_noise_kind *kind, const char *name)
{
    *kind = strcmp(name, "philox") == 0 ? SDW_NOISE_PHILOX : SDW_NOISE_TORCH_CPU;
    return *kind == SDW_NOISE_PHILOX || strcmp(name, "torch-cpu") == 0;
}
