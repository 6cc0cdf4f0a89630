/* The real cuDNN, where it is, is asked for plans of our graphs on GPUs that are not here: it
 * checks the descriptors, proposes engines and compiles their kernels, all of which needs no GPU.
 * So a graph that no engine takes is seen on the machine that builds. */
#include "backend/cuda/cudnn_cache.h"
#include "backend/cuda/cudnn_graph.h"

#include <dlfcn.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define WORKSPACE ((size_t)64 << 20)

static struct sdw_cudnn_api api;

/* What cuDNN's own description of a GPU names, by the numbers of NVIDIA's data sheets. */
struct gpu {
    const char *name;
    int version, processors, shared_bytes, threads, blocks, cache_bytes;
};

static cudnnBackendDescriptor_t device_of(const struct gpu *gpu)
{
    cudnnBackendDescriptor_t device = NULL;
    char text[1024];
    int length = snprintf(
        text, sizeof text,
        "{\"maxGridSize\": [2147483647, 65535, 65535], \"maxBlockSize\": [1024, 1024, 64], "
        "\"regsPerBlock\": 65536, \"multiProcessorCount\": %d, \"warpSize\": 32, "
        "\"maxSharedMemoryPerBlock\": 49152, \"maxSharedMemoryPerBlockOptin\": %d, "
        "\"reservedSharedMemoryPerBlock\": 1024, \"maxRegistersPerSM\": 65536, "
        "\"maxCtasPerSM\": %d, \"maxThreadsPerBlock\": 1024, \"maxThreadsPerSM\": %d, "
        "\"pciDeviceId\": 0, \"isTccDriver\": 0, \"supportCoopLaunch\": 1, "
        "\"smClockRateKHz\": 1700000, \"memClockRateKHz\": 2000000, \"l2CacheSize\": %d, "
        "\"deviceName\": \"%s\", \"deviceVer\": %d, \"driverVer\": 13000, \"cudaDeviceId\": 0, "
        "\"totalGlobalMem\": 25393692672}",
        gpu->processors, gpu->shared_bytes, gpu->blocks, gpu->threads, gpu->cache_bytes, gpu->name,
        gpu->version);
    assert_int_equal(api.cudnnBackendCreateDescriptor(CUDNN_BACKEND_DEVICEPROP_DESCRIPTOR, &device),
                     CUDNN_STATUS_SUCCESS);
    assert_int_equal(api.cudnnBackendSetAttribute(device, CUDNN_ATTR_DEVICEPROP_JSON_REPRESENTATION,
                                                  CUDNN_TYPE_CHAR, length, text),
                     CUDNN_STATUS_SUCCESS);
    assert_int_equal(api.cudnnBackendFinalize(device), CUDNN_STATUS_SUCCESS);
    return device;
}

/* Convolutions of SD 1.5 at 512 x 512, one of each kind: residual or not, both types of output,
 * stride 2, many channels on few pixels, 4 channels, the VAE's largest, its lopsided one. */
static const struct sdw_cudnn_shape shapes[] = {
    {2, 64, 64, 320, 320, 64, 64, 3, 1, 1, 1, 1, 1, SDW_F16, SDW_F32, true},
    {2, 64, 64, 320, 320, 64, 64, 3, 1, 1, 1, 1, 1, SDW_F16, SDW_F16, false},
    {2, 64, 64, 320, 320, 32, 32, 3, 2, 1, 1, 1, 1, SDW_F16, SDW_F32, false},
    {2, 8, 8, 2560, 1280, 8, 8, 3, 1, 1, 1, 1, 1, SDW_BF16, SDW_BF16, false},
    {2, 64, 64, 4, 320, 64, 64, 3, 1, 1, 1, 1, 1, SDW_F16, SDW_F32, false},
    {2, 64, 64, 320, 4, 64, 64, 3, 1, 1, 1, 1, 1, SDW_F16, SDW_F32, false},
    {1, 512, 512, 128, 128, 512, 512, 3, 1, 1, 1, 1, 1, SDW_F16, SDW_F32, true},
    {1, 512, 512, 128, 128, 256, 256, 3, 2, 0, 0, 1, 1, SDW_F16, SDW_F32, false},
};

/* A plan outlives the process as a text. */
static void check_text(const struct sdw_cudnn_plan *plan, const struct sdw_cudnn_target *target)
{
    struct sdw_cudnn_plan again;
    size_t length = 0;
    char *text = sdw_cudnn_plan_text(plan, &api, &length);
    assert_non_null(text);
    assert_in_range(length, 1000, SDW_CUDNN_CACHE_BYTES_MAX);
    assert_true(sdw_cudnn_plan_restore(&again, &api, target, text, length, WORKSPACE));
    assert_int_equal(again.workspace_bytes, plan->workspace_bytes);
    sdw_cudnn_plan_free(&again, &api);
    assert_false(sdw_cudnn_plan_restore(&again, &api, target, text, length / 2, WORKSPACE));
    free(text);
}

/* Attentions of SD 1.5, of SDXL, and the VAE's. */
static const struct sdw_cudnn_heads heads[] = {
    {2, 4096, 4096, 8, 40, SDW_F16},  {2, 4096, 77, 8, 40, SDW_F16},
    {2, 1024, 1024, 8, 80, SDW_BF16}, {2, 256, 256, 8, 160, SDW_F16},
    {2, 4096, 4096, 10, 64, SDW_F16}, {1, 4096, 4096, 1, 512, SDW_F16},
};

static void check_heads(const struct gpu *gpu, const struct sdw_cudnn_target *target)
{
    for (size_t i = 0; i < sizeof heads / sizeof heads[0]; i++) {
        const struct sdw_cudnn_heads *h = &heads[i];
        struct sdw_cudnn_plan plan;
        int count = sdw_cudnn_plans_attend(&plan, 1, &api, target, h, WORKSPACE);
        printf("%s: attention [%d,%d] x %d, %d heads of %d: ", gpu->name, h->n, h->queries, h->keys,
               h->heads, h->width);
        assert_int_equal(count, 1);
        printf("engine %d, %zu bytes of work space\n", plan.engine, plan.workspace_bytes);
        check_text(&plan, target);
        sdw_cudnn_plan_free(&plan, &api);
    }
}

static void check(const struct gpu *gpu)
{
    struct sdw_cudnn_target target = {.device = device_of(gpu)};
    check_heads(gpu, &target);
    for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++) {
        const struct sdw_cudnn_shape *s = &shapes[i];
        struct sdw_cudnn_plan plan;
        int count = sdw_cudnn_plans_convolve(&plan, 1, &api, &target, s, WORKSPACE);
        printf("%s: %dx%d/%d [%d,%d,%d,%d] -> %d %s%s: ", gpu->name, s->kernel, s->kernel,
               s->stride, s->n, s->h, s->w, s->in, s->out, sdw_dtype_name(s->out_type),
               s->residual ? " + residual" : "");
        assert_int_equal(count, 1);
        printf("engine %d, %zu bytes of work space\n", plan.engine, plan.workspace_bytes);
        check_text(&plan, &target);
        sdw_cudnn_plan_free(&plan, &api);
    }
    api.cudnnBackendDestroyDescriptor(target.device);
}

static void test_ampere(void **state)
{
    const struct gpu gpu = {"A100", 800, 108, 166912, 2048, 32, 41943040};
    (void)state;
    check(&gpu);
}

static void test_ada(void **state)
{
    const struct gpu gpu = {"RTX 4090", 890, 128, 101376, 1536, 24, 75497472};
    (void)state;
    check(&gpu);
}

static void test_hopper(void **state)
{
    const struct gpu gpu = {"H100", 900, 132, 232448, 2048, 32, 52428800};
    (void)state;
    check(&gpu);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_ampere),
        cmocka_unit_test(test_ada),
        cmocka_unit_test(test_hopper),
    };
    const char *fault = dlopen(CUDA_PLANNER_LIBRARY, RTLD_NOW | RTLD_GLOBAL) ? NULL : dlerror();
    if (!fault)
        fault = sdw_cudnn_api_open(&api);
    if (fault) {
        printf("skipped: cuDNN %s\n", fault);
        return 77;
    }
    int failed = cmocka_run_group_tests_name("plans of cuDNN", tests, NULL, NULL);
    sdw_cudnn_api_close(&api);
    return failed;
}
