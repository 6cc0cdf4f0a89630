/* limits.c: what this GPU does at most: multiply-adds that never leave the registers, a large
 * product by cuBLASLt, which knows instructions that our kernels do not, and reading memory that no
 * cache holds. The best of a few tries: neighbours only ever take away. */
#include "backend/cuda/cublas.h"
#include "backend/cuda/plans.h"

#include <stdlib.h>

#define THREADS      256 /* of measure.cu */
#define BLOCKS       8   /* of a multiprocessor */
#define TRIES        3
#define SPIN_MS      5 /* of a try, at least: the clock has settled then */
#define ROUNDS_FIRST 1
#define ROUNDS_MAX   ((int64_t)1 << 24)
#define READ_BYTES   ((size_t)512 << 20) /* far more than caches hold */
#define PRODUCT_SIDE 8192
#define NUMBERS      ((size_t)1 << 20) /* of the pattern that a product's operands repeat */

/* Operations a round of measure.cu, of a thread: 16 multiply-adds; 8 products of 16 x 16 x 8,
 * shared by the 32 threads of a warp. */
#define SPIN_F32_OPERATIONS 32
#define SPIN_16_OPERATIONS  (8 * 4096 / 32)

struct measured {
    struct sdw_cuda *cuda;
    enum sdw_cuda_kernel kernel;
    struct sdw_cuda_spin spin;
    struct sdw_cuda_read read;
    struct sdw_tensor out, in;
    struct sdw_cuda_weight weight;
};

static struct sdw_cuda_grid grid_of(const struct sdw_cuda *cuda)
{
    return (struct sdw_cuda_grid){(int64_t)cuda->card.processors * BLOCKS, 1, 1, THREADS, 0};
}

static int64_t threads_of(const struct sdw_cuda *cuda)
{
    return grid_of(cuda).x * THREADS;
}

static bool run_spin(void *context, int way)
{
    const struct measured *m = context;
    (void)way;
    sdw_cuda_launch(&m->cuda->base, m->kernel, grid_of(m->cuda), &m->spin);
    return !m->cuda->base.failure.status;
}

static bool run_read(void *context, int way)
{
    const struct measured *m = context;
    (void)way;
    sdw_cuda_launch(&m->cuda->base, SDW_CUDA_KERNEL_read, grid_of(m->cuda), &m->read);
    return !m->cuda->base.failure.status;
}

static bool run_product(void *context, int way)
{
    const struct measured *m = context;
    (void)way;
    return sdw_cublas_linear(&m->cuda->base, &m->out, &m->in, &m->weight, NULL);
}

/* `amount` of work a second; 0 where it cannot be told. */
static double rate(struct measured *m, bool (*run)(void *, int), double amount)
{
    struct sdw_cuda_trial trial = {run, m};
    float least = -1;
    for (int i = 0; i < TRIES; i++) {
        float ms = sdw_cuda_time(m->cuda, &trial, 0);
        if (ms > 0 && (least < 0 || ms < least))
            least = ms;
    }
    return least > 0 ? amount / (1e-3 * least) : 0;
}

/* Rounds enough that a try takes SPIN_MS, then their rate. */
static double spin_rate(struct measured *m, enum sdw_cuda_kernel kernel, int operations)
{
    struct sdw_cuda_trial trial = {run_spin, m};
    m->kernel = kernel;
    m->spin =
        (struct sdw_cuda_spin){.out = m->cuda->workspace, .rounds = ROUNDS_FIRST, .factor = 0.999f};
    while (m->spin.rounds < ROUNDS_MAX) {
        float ms = sdw_cuda_time(m->cuda, &trial, 0);
        if (ms < 0 || ms >= SPIN_MS)
            break;
        m->spin.rounds *= 4;
    }
    double all = (double)threads_of(m->cuda) * (double)m->spin.rounds * operations;
    return rate(m, run_spin, all);
}

static double read_rate(struct measured *m)
{
    CUdeviceptr memory = 0;
    size_t left = 0, all = 0, bytes = READ_BYTES;
    m->cuda->driver.cuMemGetInfo(&left, &all);
    if (bytes > left / 2) /* a small GPU has small caches */
        bytes = left / 2 / 16 * 16;
    if (m->cuda->driver.cuMemAlloc(&memory, bytes) != CUDA_SUCCESS)
        return 0;
    m->read = (struct sdw_cuda_read){.out = m->cuda->workspace,
                                     .in = (const void *)(uintptr_t)memory,
                                     .count = (int64_t)(bytes / 16),
                                     .step = threads_of(m->cuda)};
    double bytes_a_second = rate(m, run_read, (double)bytes);
    m->cuda->driver.cuMemFree(memory);
    return bytes_a_second;
}

/* Numbers of any bits between -1 and 1: zeros would be faster than any real product. */
static void fill(struct sdw_cuda *cuda, void *to, size_t bytes, enum sdw_dtype dtype)
{
    uint32_t *words = malloc(NUMBERS * sizeof *words);
    uint32_t state = 1;
    for (size_t i = 0; words && i < NUMBERS; i++) {
        state = state * 1664525u + 1013904223u; /* Numerical Recipes */
        uint32_t bits = state ^ state >> 15;
        words[i] = dtype == SDW_F32   ? 0x3f000000u | (bits & 0x807fffffu)
                   : dtype == SDW_F16 ? 0x38003800u | (bits & 0x83ff83ffu)
                                      : 0x3f003f00u | (bits & 0x807f807fu);
    }
    size_t pattern = NUMBERS * sizeof *words;
    for (size_t at = 0; words && at < bytes; at += pattern)
        sdw_cuda_upload(&cuda->base, (char *)to + at, words,
                        bytes - at < pattern ? bytes - at : pattern);
    free(words);
}

/* A large square product by cuBLASLt; 0 without the library, or memory for it. */
static double product_rate(struct measured *m, enum sdw_dtype dtype)
{
    const int side = PRODUCT_SIDE;
    size_t bytes = (size_t)side * side * sdw_dtype_bytes(dtype), bias = (size_t)side * 4;
    CUdeviceptr memory = 0;
    if (!m->cuda->cublas || m->cuda->driver.cuMemAlloc(&memory, 3 * bytes + bias) != CUDA_SUCCESS)
        return 0;
    char *at = (char *)(uintptr_t)memory;
    fill(m->cuda, at, 3 * bytes + bias, dtype);
    m->in = m->out = (struct sdw_tensor){.dtype = dtype, .n = 1, .h = side, .w = 1, .c = side};
    m->in.data = at;
    m->out.data = at + bytes;
    m->weight.weight = at + 2 * bytes;
    m->weight.bias = (float *)(void *)(at + 3 * bytes);
    m->weight.bias_narrow = m->weight.bias;
    double operations = rate(m, run_product, 2.0 * side * side * side);
    m->cuda->driver.cuMemFree(memory);
    return operations;
}

static double larger(double a, double b)
{
    return a > b ? a : b;
}

void sdw_cuda_limits(struct sdw_device *dev, struct sdw_limits *limits)
{
    struct measured m = {.cuda = (struct sdw_cuda *)dev};
    sdw_cuda_enter(m.cuda);
    limits->f32_operations = spin_rate(&m, SDW_CUDA_KERNEL_spin_f32, SPIN_F32_OPERATIONS);
    double own = limits->f32_operations;
    if (dev->compute != SDW_F32)
        own = spin_rate(
            &m, dev->compute == SDW_F16 ? SDW_CUDA_KERNEL_spin_f16 : SDW_CUDA_KERNEL_spin_bf16,
            SPIN_16_OPERATIONS);
    limits->compute_operations = larger(own, product_rate(&m, dev->compute));
    limits->read_bytes = read_rate(&m);
}
