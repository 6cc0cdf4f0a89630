/* limits.c: what this processor does at most: multiply-adds that never leave the registers, and
 * reading memory that no cache holds. The best of a few tries: neighbours only ever take away. */
#include "backend/cpu/cpu.h"
#include "backend/cpu/kernels.h"
#include "base/clock.h"
#include "base/pool.h"

#include <math.h>
#include <stdlib.h>

#define TILES      64
#define ROUNDS     40000 /* of a tile: some hundred microseconds */
#define ROUNDS_FEW 4000  /* to compare two: tens of microseconds */
#define TRIES      12
#define READ_BYTES ((size_t)256 << 20) /* far more than caches hold */

struct spinning {
    float (*spin)(int64_t rounds);
    float seen[TILES]; /* so that nobody leaves the sums out */
};

static void spin_tile(void *context, int64_t i, int thread)
{
    struct spinning *s = context;
    (void)thread;
    s->seen[i] = s->spin(ROUNDS);
}

struct reading {
    const struct sdw_cpu_kernels *kernels;
    const float *from;
    float seen[TILES];
};

static void read_tile(void *context, int64_t i, int thread)
{
    struct reading *r = context;
    const int64_t count = READ_BYTES / sizeof(float) / TILES;
    (void)thread;
    r->seen[i] = r->kernels->total(r->from + i * count, count);
}

/* The least seconds of a few runs of all tiles. */
static double seconds_of(void (*tile)(void *, int64_t, int), void *context, int tries)
{
    double least = INFINITY;
    for (int i = 0; i < tries; i++) {
        double start = sdw_clock_seconds();
        sdw_pool_run(TILES, tile, context);
        least = fmin(least, sdw_clock_seconds() - start);
    }
    return least;
}

static double spin_rate(float (*spin)(int64_t rounds), int operations)
{
    struct spinning s = {.spin = spin};
    return (double)TILES * ROUNDS * operations / seconds_of(spin_tile, &s, TRIES);
}

bool sdw_cpu_bf16_pays(const struct sdw_cpu_kernels *kernels)
{
    double f32 = INFINITY, bf16 = INFINITY;
    volatile float seen = 0; /* so that nobody leaves the sums out */
    for (int i = 0; i < TRIES; i++) {
        double start = sdw_clock_seconds();
        seen = kernels->spin(ROUNDS_FEW);
        double between = sdw_clock_seconds();
        seen = kernels->spin_bf16(ROUNDS_FEW);
        f32 = fmin(f32, between - start);
        bf16 = fmin(bf16, sdw_clock_seconds() - between);
    }
    (void)seen;
    return bf16 / kernels->spin_bf16_operations < f32 / kernels->spin_operations;
}

void sdw_cpu_limits(struct sdw_device *dev, struct sdw_limits *limits)
{
    const struct sdw_cpu_kernels *k = ((struct sdw_cpu *)dev)->kernels;
    struct reading r = {.kernels = k,
                        .from = sdw_cpu_alloc(dev, READ_BYTES / sizeof(float), sizeof(float))};
    limits->f32_operations = spin_rate(k->spin, k->spin_operations);
    limits->compute_operations = limits->f32_operations;
    if (dev->compute == SDW_BF16 && k->spin_bf16)
        limits->compute_operations = spin_rate(k->spin_bf16, k->spin_bf16_operations);
    limits->read_bytes = r.from ? READ_BYTES / seconds_of(read_tile, &r, TRIES / 2) : 0;
    free((void *)r.from);
}
