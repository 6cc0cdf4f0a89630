/* cpu.c: opens the CPU as a device: which instruction set, which element type, which kernels fill
 * the table. */
#include "backend/cpu/cpu.h"

#include "backend/cpu/amx.h"
#include "backend/cpu/kernels.h"
#include "backend/cpu/onednn.h"
#include "backend/cpu/winograd.h"
#include "base/cgroup.h"
#include "base/pool.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#ifdef __GLIBC__
#include <malloc.h>
#endif

#define RESERVE_BYTES        ((size_t)128 << 20) /* for code, stacks and libraries */
#define CACHE_LINE           64
#define HUGE_PAGE            ((size_t)2 << 20)
#define HUGE_BYTES_MIN       (2 * HUGE_PAGE)
#define WIDEN_FLOATS         65536 /* of one tile of sdw_cpu_staging */
#define INPUTS_MANY          1280
#define WINOGRAD_KERNELS_MAX (1280 * 640) /* in * out of a weight that takes Winograd's form */

static const char *const isa_names[SDW_ISA_COUNT] = {"reference", "portable",    "avx2",
                                                     "avx512",    "avx512_bf16", "amx_bf16"};

/* The best instruction set of this processor. */
static enum sdw_isa detect(void)
{
#if defined(__x86_64__)
    __builtin_cpu_init();
    if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma"))
        return SDW_ISA_PORTABLE;
    if (!__builtin_cpu_supports("avx512f") || !__builtin_cpu_supports("avx512bw") ||
        !__builtin_cpu_supports("avx512vl") || !__builtin_cpu_supports("avx512dq"))
        return SDW_ISA_AVX2;
    if (!__builtin_cpu_supports("avx512bf16"))
        return SDW_ISA_AVX512;
    return sdw_amx_allowed() ? SDW_ISA_AMX_BF16 : SDW_ISA_AVX512_BF16;
#else
    return SDW_ISA_PORTABLE;
#endif
}

static const struct sdw_cpu_kernels *kernels_for(enum sdw_isa isa, enum sdw_dtype compute)
{
#if defined(__x86_64__)
    if (isa >= SDW_ISA_AMX_BF16 && compute == SDW_BF16)
        return &sdw_kernels_amx_bf16;
    if (isa >= SDW_ISA_AVX512_BF16 && compute == SDW_BF16)
        return &sdw_kernels_avx512_bf16;
    if (isa >= SDW_ISA_AVX512)
        return &sdw_kernels_avx512;
    if (isa >= SDW_ISA_AVX2)
        return &sdw_kernels_avx2;
#endif
    (void)isa, (void)compute;
    return &sdw_kernels_portable;
}

/* Aligned to a line of the cache; big blocks lie on huge pages where the system has them, which
 * take a load's page faults from 800,000 to a few thousand. */
static void *buffer_new(struct sdw_device *dev, size_t bytes)
{
    size_t align = bytes >= HUGE_BYTES_MIN ? HUGE_PAGE : CACHE_LINE;
    void *buffer = NULL;
    if (posix_memalign(&buffer, align, bytes ? bytes : 1) != 0)
        sdw_device_fail(dev, SDW_MEMORY, "%s: no memory for %zu bytes", dev->id, bytes);
#ifdef MADV_HUGEPAGE
    else if (align == HUGE_PAGE)
        madvise(buffer, bytes, MADV_HUGEPAGE); /* a hint: nothing is lost when it is refused */
#endif
    return buffer;
}

void *sdw_cpu_alloc(struct sdw_device *dev, size_t count, size_t bytes)
{
    void *memory = buffer_new(dev, count * bytes);
    return memory ? memset(memory, 0, count * bytes) : NULL;
}

void *sdw_cpu_workspace(struct sdw_device *dev, size_t bytes)
{
    struct sdw_cpu *cpu = (struct sdw_cpu *)dev;
    if (bytes > cpu->workspace_bytes || !cpu->workspace) {
        free(cpu->workspace);
        cpu->workspace = buffer_new(dev, bytes);
        cpu->workspace_bytes = cpu->workspace ? bytes : 0;
    }
    return cpu->workspace;
}

static void buffer_free(struct sdw_device *dev, void *buffer)
{
    (void)dev;
    free(buffer);
}

static void copy_in(struct sdw_device *dev, void *to, const void *from, size_t bytes)
{
    (void)dev;
    memcpy(to, from, bytes);
}

/* What the system calls available, what is left of this process's own limit (ulimit -v) or of its
 * container's, whichever is least; less a reserve, because oneDNN 2.6 crashes when there is no
 * memory for the code that it writes. */
static size_t memory_free(struct sdw_device *dev)
{
    size_t bytes = sdw_cgroup_memory_free("/proc/self/cgroup", "/sys/fs/cgroup"), kib, pages;
    char line[128];
    (void)dev;
    FILE *file = fopen("/proc/meminfo", "r");
    while (file && fgets(line, sizeof line, file))
        if (sscanf(line, "MemAvailable: %zu", &kib) == 1)
            bytes = kib << 10 < bytes ? kib << 10 : bytes;
    if (file)
        fclose(file);
    struct rlimit limit;
    file = fopen("/proc/self/statm", "r");
    if (file && fscanf(file, "%zu", &pages) == 1 && getrlimit(RLIMIT_AS, &limit) == 0 &&
        limit.rlim_cur != RLIM_INFINITY) {
        size_t used = pages * (size_t)sysconf(_SC_PAGESIZE), all = (size_t)limit.rlim_cur;
        size_t left = all > used ? all - used : 0;
        bytes = left < bytes ? left : bytes;
    }
    if (file)
        fclose(file);
    if (bytes == SIZE_MAX)
        return bytes;
    return bytes > RESERVE_BYTES ? bytes - RESERVE_BYTES : 0;
}

/* Nothing is queued on a CPU; what loading left behind goes. */
static void sync_device(struct sdw_device *dev)
{
    struct sdw_cpu *cpu = (struct sdw_cpu *)dev;
    if (!cpu->staging)
        return;
    free(cpu->staging);
    cpu->staging = NULL;
    cpu->staging_floats = 0;
#ifdef __GLIBC__
    malloc_trim(0);
#endif
}

struct widening {
    float *to;
    const struct sdw_array *from;
    int64_t count;
};

static void widen_tile(void *context, int64_t i, int thread)
{
    const struct widening *w = context;
    int64_t first = i * WIDEN_FLOATS,
            n = w->count - first < WIDEN_FLOATS ? w->count - first : WIDEN_FLOATS;
    (void)thread;
    sdw_array_to_f32(w->to + first, w->from, first, n);
}

float *sdw_cpu_staging(struct sdw_device *dev, const struct sdw_array *array)
{
    struct sdw_cpu *cpu = (struct sdw_cpu *)dev;
    struct widening widening = {.from = array, .count = sdw_array_count(array)};
    if (widening.count > cpu->staging_floats) {
        sync_device(dev);
        cpu->staging = buffer_new(dev, (size_t)widening.count * sizeof *cpu->staging);
        if (!cpu->staging)
            return NULL;
        cpu->staging_floats = widening.count;
    }
    widening.to = cpu->staging;
    sdw_pool_run((widening.count + WIDEN_FLOATS - 1) / WIDEN_FLOATS, widen_tile, &widening);
    return cpu->staging;
}

static void weight_free(struct sdw_device *dev, struct sdw_weight *weight)
{
    struct sdw_cpu_weight *w = (struct sdw_cpu_weight *)weight;
    (void)dev;
    if (!w)
        return;
    sdw_onednn_weight_free(w->onednn);
    sdw_winograd_free(w->winograd);
    sdw_amx_weight_free(w->amx);
    free(w->plain);
    free(w->tiled);
    free(w->bias);
    free(w);
}

/* Winograd's form of a weight takes 16/9 of its memory in bf16, 4 times as much in f32. That pays
 * where the pictures are big, and there channels are few: of SD 1.5's UNet the levels of 64x64 and
 * 32x32, a third of its work in a tenth of its weights, and the whole VAE. Of a doubled picture it
 * takes no more than the direct form in bf16. */
static bool suits_winograd(const struct sdw_cpu *cpu, const struct sdw_weight *weight)
{
    const struct sdw_conv_geometry *g = &weight->geometry;
    bool wide = cpu->base.compute == SDW_F32, larger = wide || !g->doubled;
    if (weight->kernel != 3 || g->stride != 1 || !g->top || !g->left || !g->bottom || !g->right ||
        (larger && (int64_t)weight->in * weight->out > WINOGRAD_KERNELS_MAX))
        return false;
    return wide ? sdw_winograd_f32_usable(weight->in, weight->out)
                : cpu->isa >= SDW_ISA_AVX512_BF16 && sdw_winograd_usable(weight->in, weight->out);
}

/* Whether oneDNN's f32 sums are to be avoided; our own kernel is as fast. Those of a linear layer
 * it divides between the threads where there are few rows, which rounds to other bytes for another
 * number of them. Those of a convolution of 1280 channels come out with twice our error on AVX2. */
static bool sums_badly(const struct sdw_cpu *cpu, const struct sdw_weight *weight)
{
    bool long_sum = weight->kernel == 3 && weight->in >= INPUTS_MANY;
    return cpu->base.compute == SDW_F32 &&
           (weight->kernel == 0 || (cpu->isa == SDW_ISA_AVX2 && long_sum));
}

/* Fills the one form of the weight that its operator will use. */
static bool pack_form(struct sdw_device *dev, struct sdw_cpu_weight *w,
                      const struct sdw_array *array, const struct sdw_array *bias)
{
    struct sdw_cpu *cpu = (struct sdw_cpu *)dev;
    if (cpu->isa == SDW_ISA_REFERENCE) {
        int64_t count = sdw_array_count(array);
        w->base.bytes = (size_t)count * sizeof(float);
        w->plain = sdw_cpu_alloc(dev, (size_t)count, sizeof(float));
        if (w->plain)
            sdw_array_to_f32(w->plain, array, 0, count);
        return w->plain != NULL;
    }
    if (cpu->isa >= SDW_ISA_AMX_BF16 && cpu->base.compute == SDW_BF16 && sdw_amx_usable(&w->base)) {
        w->base.form = ", AMX";
        return sdw_amx_pack(dev, w, array);
    }
    if (suits_winograd(cpu, &w->base) && cpu->base.compute == SDW_F32) {
        w->base.form = ", Winograd F(4,3)";
        return sdw_winograd_f32_pack(dev, w, array);
    }
    if (suits_winograd(cpu, &w->base)) {
        w->base.form = ", Winograd F(2,3)";
        w->winograd = sdw_winograd_pack(array, bias, w->base.geometry.doubled, &w->base.bytes);
        if (!w->winograd)
            sdw_device_fail(dev, SDW_MEMORY, "%s: no memory for a weight [%d,%d,3,3]", dev->id,
                            w->base.out, w->base.in);
        return w->winograd != NULL;
    }
    bool onednn = cpu->onednn && !sums_badly(cpu, &w->base);
    w->base.form = onednn ? ", oneDNN" : ", ours";
    return (onednn ? sdw_onednn_pack : sdw_matrix_pack)(dev, w, array);
}

static struct sdw_weight *pack(struct sdw_device *dev, const struct sdw_array *array,
                               const struct sdw_array *bias, int kernel,
                               struct sdw_conv_geometry geometry)
{
    struct sdw_cpu_weight *w = calloc(1, sizeof *w);
    if (!w) {
        sdw_device_fail(dev, SDW_MEMORY, "%s: no memory for a weight", dev->id);
        return NULL;
    }
    w->base = (struct sdw_weight){.in = (int)array->dim[1],
                                  .out = (int)array->dim[0],
                                  .kernel = kernel,
                                  .geometry = geometry};
    w->bias = sdw_cpu_alloc(dev, (size_t)w->base.out, sizeof(float));
    if (w->bias && bias)
        sdw_array_to_f32(w->bias, bias, 0, w->base.out);
    if (!w->bias || !pack_form(dev, w, array, bias)) {
        weight_free(dev, &w->base);
        return NULL;
    }
    return &w->base;
}

static struct sdw_weight *pack_linear(struct sdw_device *dev, const struct sdw_array *weight,
                                      const struct sdw_array *bias)
{
    return pack(dev, weight, bias, 0, (struct sdw_conv_geometry){.stride = 1});
}

static struct sdw_weight *pack_conv(struct sdw_device *dev, const struct sdw_array *weight,
                                    const struct sdw_array *bias, struct sdw_conv_geometry geometry)
{
    assert(weight->rank == 4 && weight->dim[2] == weight->dim[3] &&
           (weight->dim[2] == 1 || weight->dim[2] == 3));
    return pack(dev, weight, bias, (int)weight->dim[2], geometry);
}

void sdw_cpu_linear(struct sdw_device *dev, const struct sdw_tensor *out,
                    const struct sdw_tensor *in, const struct sdw_weight *weight, enum sdw_act act,
                    const struct sdw_tensor *residual)
{
    const struct sdw_cpu_weight *w = (const struct sdw_cpu_weight *)weight;
    (w->amx      ? sdw_amx_linear
     : w->onednn ? sdw_onednn_run
                 : sdw_matrix_run)(dev, out, in, w, act, residual);
}

/* oneDNN reads a picture as it is: it gets a doubled copy. */
static void run_onednn(struct sdw_device *dev, const struct sdw_tensor *out,
                       const struct sdw_tensor *in, const struct sdw_cpu_weight *w,
                       const struct sdw_tensor *residual)
{
    struct sdw_tensor large = *in;
    if (w->base.geometry.doubled) {
        large.h = out->h;
        large.w = out->w;
        large.data = buffer_new(dev, sdw_tensor_bytes(&large));
        if (!large.data)
            return;
        sdw_cpu_double(dev, &large, in);
    }
    sdw_onednn_run(dev, out, &large, w, SDW_ACT_NONE, residual);
    if (large.data != in->data)
        buffer_free(dev, large.data);
}

void sdw_cpu_conv2d(struct sdw_device *dev, const struct sdw_tensor *out,
                    const struct sdw_tensor *in, const struct sdw_weight *weight,
                    const struct sdw_tensor *residual)
{
    const struct sdw_cpu_weight *w = (const struct sdw_cpu_weight *)weight;
    if (w->amx)
        sdw_amx_conv2d(dev, out, in, w, residual);
    else if (w->tiled)
        sdw_winograd_f32_run(dev, out, in, w, residual);
    else if (w->onednn)
        run_onednn(dev, out, in, w, residual);
    else if (!w->winograd)
        sdw_matrix_run(dev, out, in, w, SDW_ACT_NONE, residual);
    else if (!sdw_winograd_run(out, in, w->winograd, residual))
        sdw_device_fail(dev, SDW_MEMORY, "%s: no memory for the tiles of a convolution", dev->id);
}

static void close_device(struct sdw_device *dev)
{
    struct sdw_cpu *cpu = (struct sdw_cpu *)dev;
    sdw_onednn_close(cpu->onednn);
    free(cpu->staging);
    free(cpu->workspace);
    free(cpu);
}

static void fill_fast(struct sdw_ops *ops)
{
    ops->linear = sdw_cpu_linear;
    ops->conv2d = sdw_cpu_conv2d;
    ops->attention = sdw_cpu_attention;
    ops->group_norm = sdw_cpu_group_norm;
    ops->layer_norm = sdw_cpu_layer_norm;
    ops->geglu = sdw_cpu_geglu;
    ops->act = sdw_cpu_act;
    ops->add = sdw_cpu_add;
    ops->concat = sdw_cpu_concat;
    ops->cast = sdw_cpu_cast; /* embed stays the reference: a few rows a prompt */
}

static enum sdw_status choose_isa(enum sdw_isa *isa, const char *wanted, struct sdw_error *err)
{
    enum sdw_isa best = detect();
    *isa = best;
    if (!wanted)
        return SDW_OK;
    for (int i = 0; i < SDW_ISA_COUNT; i++)
        if (strcmp(isa_names[i], wanted) == 0) {
            *isa = (enum sdw_isa)i;
            if (*isa > best)
                return sdw_fail(err, SDW_DEVICE, "this processor has no %s; its best is %s", wanted,
                                isa_names[best]);
            return SDW_OK;
        }
    return sdw_fail(err, SDW_USAGE, "unknown instruction set \"%s\"", wanted);
}

/* Whether bf16 is the better choice where nobody made one. Of AVX512-BF16 alone it depends: AMD's
 * processors multiply it at twice the rate of f32, Intel's at half of it. */
static bool suits_bf16(enum sdw_isa isa)
{
    return isa >= SDW_ISA_AMX_BF16 || sdw_cpu_bf16_pays(kernels_for(isa, SDW_BF16));
}

static enum sdw_status choose_dtype(struct sdw_cpu *cpu, enum sdw_dtype wanted,
                                    struct sdw_error *err)
{
    bool bf16 = cpu->isa == SDW_ISA_REFERENCE || (cpu->isa >= SDW_ISA_AVX512_BF16 && cpu->onednn);
    if (wanted == SDW_F16)
        return sdw_fail(err, SDW_DEVICE, "a CPU does not compute in f16; use --dtype f32%s",
                        bf16 ? " or bf16" : "");
    if (wanted == SDW_BF16 && !bf16)
        return sdw_fail(err, SDW_DEVICE,
                        "this CPU has no native bf16 (AVX512-BF16) with oneDNN; use --dtype f32");
    bool own_choice = wanted != SDW_F32 && wanted != SDW_BF16;
    bool pays = own_choice && bf16 && cpu->isa != SDW_ISA_REFERENCE && suits_bf16(cpu->isa);
    cpu->base.compute = wanted == SDW_BF16 || pays ? SDW_BF16 : SDW_F32;
    cpu->base.stream = SDW_F32;
    return SDW_OK;
}

/* "AMD EPYC" from /proc/cpuinfo, where there is one. */
static void processor_name(char *name, size_t size)
{
    char line[256];
    snprintf(name, size, "CPU");
    FILE *file = fopen("/proc/cpuinfo", "r");
    while (file && fgets(line, sizeof line, file))
        if (strncmp(line, "model name", 10) == 0 && strchr(line, ':')) {
            line[strcspn(line, "\n")] = 0;
            snprintf(name, size, "%s", strchr(line, ':') + 2);
            break;
        }
    if (file)
        fclose(file);
}

static void describe(struct sdw_cpu *cpu)
{
    char name[64];
    processor_name(name, sizeof name);
    const char *vectors = cpu->isa == SDW_ISA_REFERENCE ? "reference kernels" : cpu->kernels->name;
    snprintf(cpu->base.id, sizeof cpu->base.id, "cpu");
    snprintf(cpu->base.description, sizeof cpu->base.description, "%s, %d threads, %s%s%s", name,
             sdw_pool_threads(), vectors, cpu->onednn ? ", " : "",
             cpu->onednn ? sdw_onednn_version(cpu->onednn) : "");
    bool f32 = cpu->base.compute == SDW_F32, reference = cpu->isa == SDW_ISA_REFERENCE;
    bool tiles = cpu->isa >= SDW_ISA_AMX_BF16 && !f32;
    const char *library = cpu->onednn ? sdw_onednn_version(cpu->onednn) : vectors;
    snprintf(cpu->base.kernels, sizeof cpu->base.kernels,
             "linear: %s; conv2d: %s%s; attention: flash, %s; rest: %s",
             f32 || tiles ? vectors : library,
             reference ? ""
             : tiles   ? "AMX BF16, "
             : f32     ? "Winograd F(4,3), "
                       : "Winograd F(2,3) bf16, ",
             library, vectors, tiles ? sdw_kernels_avx512.name : vectors);
}

static enum sdw_status open_device(struct sdw_device **dev,
                                   const struct sdw_device_options *options, struct sdw_error *err)
{
    enum sdw_isa isa;
    *dev = NULL;
    if (options->index != 0)
        return sdw_fail(err, SDW_DEVICE, "there is one CPU device, cpu 0, and no cpu %d",
                        options->index);
    enum sdw_status status = choose_isa(&isa, options->isa, err);
    if (status)
        return status;
    struct sdw_cpu *cpu = calloc(1, sizeof *cpu);
    if (!cpu)
        return sdw_fail(err, SDW_MEMORY, "no memory for a device");
    cpu->isa = isa;
    cpu->onednn = isa < SDW_ISA_AVX2
                      ? NULL
                      : sdw_onednn_open(isa); /* 2.6's SSE convolutions err on odd channels */
    status = choose_dtype(cpu, options->dtype, err);
    if (status) {
        close_device(&cpu->base);
        return status;
    }
    cpu->kernels = kernels_for(isa, cpu->base.compute);
    cpu->ops = (struct sdw_ops){.name = "cpu",
                                .buffer_new = buffer_new,
                                .buffer_free = buffer_free,
                                .upload = copy_in,
                                .download = copy_in,
                                .pack_linear = pack_linear,
                                .pack_conv = pack_conv,
                                .weight_free = weight_free,
                                .memory_free = memory_free,
                                .limits = sdw_cpu_limits,
                                .sync = sync_device,
                                .close = close_device};
    sdw_ref_fill(&cpu->ops);
    if (isa != SDW_ISA_REFERENCE)
        fill_fast(&cpu->ops);
    sdw_device_init(&cpu->base, &cpu->ops);
    describe(cpu);
    *dev = &cpu->base;
    return SDW_OK;
}

const struct sdw_backend sdw_backend_cpu = {"cpu", open_device};
