/* device.c: the life of an NVIDIA GPU as a device, and how a kernel is launched on it. */
#include "backend/cuda/cublas.h"
#include "backend/cuda/cudnn.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SHARED_FREE_BYTES (48u << 10) /* that a block may use without asking */

/* The compiled kernels of a file, as bytes of this program. */
#define IMAGE(file)                                                                                \
    __asm__(".section .rodata\n.balign 64\n.hidden sdw_cuda_image_" #file                          \
            "\n.global sdw_cuda_image_" #file "\nsdw_cuda_image_" #file                            \
            ":\n.incbin \"" SDW_CUDA_IMAGES "/" #file ".fatbin\"\n.previous\n");                   \
    extern const unsigned char sdw_cuda_image_##file[]
IMAGE(pointwise);
IMAGE(norm);
IMAGE(matrix);
IMAGE(attention);
IMAGE(measure);

static const unsigned char *const images[SDW_CUDA_FILE_COUNT] = {
    [SDW_CUDA_FILE_pointwise] = sdw_cuda_image_pointwise,
    [SDW_CUDA_FILE_norm] = sdw_cuda_image_norm,
    [SDW_CUDA_FILE_matrix] = sdw_cuda_image_matrix,
    [SDW_CUDA_FILE_attention] = sdw_cuda_image_attention,
    [SDW_CUDA_FILE_measure] = sdw_cuda_image_measure,
};

static const struct {
    const char *name;
    size_t arguments_bytes;
    enum sdw_cuda_file file;
} kernels[SDW_CUDA_KERNEL_COUNT] = {
#define ROW(name, arguments, file) {"sdw_" #name, sizeof(struct arguments), SDW_CUDA_FILE_##file},
    SDW_CUDA_KERNELS(ROW)
#undef ROW
};

void sdw_cuda_enter(const struct sdw_cuda *cuda)
{
    cuda->driver.cuCtxSetCurrent(cuda->context);
}

bool sdw_cuda_ok(struct sdw_device *dev, CUresult result, const char *what)
{
    struct sdw_cuda *cuda = (struct sdw_cuda *)dev;
    if (result == CUDA_SUCCESS)
        return true;
    const char *words = sdw_cuda_words(&cuda->driver, result);
    if (result == CUDA_ERROR_OUT_OF_MEMORY) {
        size_t left = 0, all = 0;
        cuda->driver.cuMemGetInfo(&left, &all);
        sdw_device_fail(dev, SDW_MEMORY, "%s: %s: out of memory, %zu of %zu MB are free", dev->id,
                        what, left >> 20, all >> 20);
        return false;
    }
    /* What a kernel did wrong shows up late and stays: every later call tells of it again. */
    bool lost = !cuda->recording && cuda->driver.cuStreamSynchronize(cuda->stream) != CUDA_SUCCESS;
    if (lost)
        atomic_store(&dev->lost, true);
    sdw_device_fail(dev, SDW_DEVICE, "%s: %s: %s%s", dev->id, what, words,
                    lost ? "; the GPU is lost to this process: restart it" : "");
    return false;
}

void sdw_cuda_launch(struct sdw_device *dev, enum sdw_cuda_kernel kernel, struct sdw_cuda_grid grid,
                     const void *arguments)
{
    struct sdw_cuda *cuda = (struct sdw_cuda *)dev;
    unsigned shared = (unsigned)grid.shared_bytes;
    void *parameters[] = {(void *)(uintptr_t)arguments};
    assert(grid.x > 0 && grid.x <= INT32_MAX && grid.y > 0 && grid.y <= UINT16_MAX && grid.z > 0 &&
           grid.z <= UINT16_MAX && grid.threads > 0 && grid.threads <= 1024);
    assert(shared <= (unsigned)cuda->card.shared_max);
    sdw_cuda_enter(cuda);
    if (shared > cuda->shared_allowed[kernel]) {
        if (!sdw_cuda_ok(dev,
                         cuda->driver.cuFuncSetAttribute(
                             cuda->function[kernel],
                             CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES, (int)shared),
                         kernels[kernel].name))
            return;
        cuda->shared_allowed[kernel] = shared;
    }
    sdw_cuda_ok(dev,
                cuda->driver.cuLaunchKernel(
                    cuda->function[kernel], (unsigned)grid.x, (unsigned)grid.y, (unsigned)grid.z,
                    (unsigned)grid.threads, 1, 1, shared, cuda->stream, parameters, NULL),
                kernels[kernel].name);
}

static void wait(struct sdw_device *dev)
{
    struct sdw_cuda *cuda = (struct sdw_cuda *)dev;
    sdw_cuda_enter(cuda);
    sdw_cuda_ok(dev, cuda->driver.cuStreamSynchronize(cuda->stream), "waiting for the GPU");
}

static void close_device(struct sdw_device *dev)
{
    struct sdw_cuda *cuda = (struct sdw_cuda *)dev;
    struct sdw_cuda_driver *driver = &cuda->driver;
    if (cuda->context) {
        sdw_cuda_enter(cuda);
        if (cuda->stream)
            driver->cuStreamSynchronize(cuda->stream);
        sdw_cudnn_close(cuda->cudnn);
        sdw_cublas_close(cuda->cublas);
        for (int i = 0; i < 2; i++) {
            if (cuda->staging[i].done)
                driver->cuEventDestroy(cuda->staging[i].done);
            if (cuda->staging[i].host)
                driver->cuMemFreeHost(cuda->staging[i].host);
        }
        if (cuda->workspace)
            driver->cuMemFree(sdw_cuda_address(cuda->workspace));
        for (int i = 0; i < SDW_CUDA_FILE_COUNT; i++)
            if (cuda->module[i])
                driver->cuModuleUnload(cuda->module[i]);
        if (cuda->stream)
            driver->cuStreamDestroy(cuda->stream);
        driver->cuDevicePrimaryCtxRelease(cuda->card.device);
    }
    sdw_cuda_driver_close(driver);
    free(cuda);
}

static const struct sdw_ops ops = {.name = "cuda",
                                   .beside = true,
                                   .buffer_new = sdw_cuda_buffer_new,
                                   .buffer_free = sdw_cuda_buffer_free,
                                   .upload = sdw_cuda_upload,
                                   .download = sdw_cuda_download,
                                   .memory_free = sdw_cuda_memory_free,
                                   .memory_peak = sdw_cuda_memory_peak,
                                   .pack_linear = sdw_cuda_pack_linear,
                                   .pack_conv = sdw_cuda_pack_conv,
                                   .weight_free = sdw_cuda_weight_free,
                                   .limits = sdw_cuda_limits,
                                   .record_begin = sdw_cuda_record_begin,
                                   .record_end = sdw_cuda_record_end,
                                   .record_play = sdw_cuda_record_play,
                                   .record_free = sdw_cuda_record_free,
                                   .sync = wait,
                                   .close = close_device,
#define ROW(row, arguments) .row = sdw_cuda_##row,
                                   SDW_OPS_TABLE(ROW)
#undef ROW
};

/* The driver checks nothing of what a kernel is given: its size, at least, is compared once. */
static CUresult load_kernel(struct sdw_cuda *cuda, int i)
{
    size_t offset = 0, bytes = 0;
    CUresult result = cuda->driver.cuModuleGetFunction(
        &cuda->function[i], cuda->module[kernels[i].file], kernels[i].name);
    if (result == CUDA_SUCCESS)
        result = cuda->driver.cuFuncGetParamInfo(cuda->function[i], 0, &offset, &bytes);
    assert(result != CUDA_SUCCESS || (offset == 0 && bytes == kernels[i].arguments_bytes));
    cuda->shared_allowed[i] = SHARED_FREE_BYTES;
    return result;
}

static CUresult load_kernels(struct sdw_cuda *cuda)
{
    CUresult result = CUDA_SUCCESS;
    for (int i = 0; i < SDW_CUDA_FILE_COUNT && result == CUDA_SUCCESS; i++)
        result = cuda->driver.cuModuleLoadData(&cuda->module[i], images[i]);
    for (int i = 0; i < SDW_CUDA_KERNEL_COUNT && result == CUDA_SUCCESS; i++)
        result = load_kernel(cuda, i);
    return result;
}

static CUresult prepare(struct sdw_cuda *cuda)
{
    const struct sdw_cuda_driver *driver = &cuda->driver;
    CUdeviceptr workspace = 0;
    CUresult result = driver->cuDevicePrimaryCtxRetain(&cuda->context, cuda->card.device);
    if (result == CUDA_SUCCESS)
        result = driver->cuCtxSetCurrent(cuda->context);
    if (result == CUDA_SUCCESS)
        result = driver->cuStreamCreate(&cuda->stream, CU_STREAM_NON_BLOCKING);
    if (result == CUDA_SUCCESS)
        result = load_kernels(cuda);
    if (result == CUDA_SUCCESS)
        result = driver->cuMemAlloc(&workspace, SDW_CUDA_WORKSPACE_BYTES);
    cuda->workspace = (void *)(uintptr_t)workspace;
    for (int i = 0; i < 2; i++) {
        if (result == CUDA_SUCCESS)
            result = driver->cuMemAllocHost(&cuda->staging[i].host, SDW_CUDA_STAGING_BYTES);
        if (result == CUDA_SUCCESS)
            result = driver->cuEventCreate(&cuda->staging[i].done, CU_EVENT_DISABLE_TIMING);
    }
    return result;
}

static void describe(struct sdw_cuda *cuda, int index)
{
    struct sdw_device *dev = &cuda->base;
    const struct sdw_cuda_card *card = &cuda->card;
    const char *linear = cuda->cublas ? sdw_cublas_version(cuda->cublas) : "own";
    const char *cudnn = cuda->cudnn ? sdw_cudnn_version(cuda->cudnn) : "";
    const char *or_own = cuda->cudnn ? " or " : "";
    snprintf(dev->id, sizeof dev->id, "cuda:%d", index);
    snprintf(dev->description, sizeof dev->description,
             "%s, %zu MB, compute capability %d.%d, %d multiprocessors", card->name,
             card->bytes >> 20, card->major, card->minor, card->processors);
    snprintf(dev->kernels, sizeof dev->kernels,
             "linear: %s; conv2d: %s%sown implicit GEMM; attention: %s%sown flash; rest: own",
             linear, cudnn, or_own, cudnn, or_own);
}

static enum sdw_status choose_types(struct sdw_device *dev,
                                    const struct sdw_device_options *options, struct sdw_error *err)
{
    if (options->isa && strcmp(options->isa, "own") != 0)
        return sdw_fail(err, SDW_USAGE,
                        "unknown instruction set \"%s\": a GPU knows \"own\", our kernels alone",
                        options->isa);
    dev->compute = options->dtype < SDW_DTYPE_COUNT ? options->dtype : SDW_F16;
    dev->stream = SDW_F32;
    return SDW_OK;
}

static enum sdw_status open_device(struct sdw_device **dev,
                                   const struct sdw_device_options *options, struct sdw_error *err)
{
    *dev = NULL;
    struct sdw_cuda *cuda = calloc(1, sizeof *cuda);
    if (!cuda)
        return sdw_fail(err, SDW_MEMORY, "no memory for a device");
    enum sdw_status status = choose_types(&cuda->base, options, err);
    if (!status)
        status = sdw_cuda_driver_open(&cuda->driver, err);
    if (!status)
        status = sdw_cuda_card_find(&cuda->card, &cuda->driver, options->index, err);
    if (!status) {
        CUresult result = prepare(cuda);
        if (result != CUDA_SUCCESS)
            status = sdw_fail(err, SDW_DEVICE, "cuda:%d cannot be opened: %s", options->index,
                              sdw_cuda_words(&cuda->driver, result));
    }
    if (status) {
        close_device(&cuda->base);
        return status;
    }
    if (!options->isa)
        cuda->cublas = sdw_cublas_open(cuda);
    if (!options->isa && cuda->base.compute != SDW_F32)
        cuda->cudnn = sdw_cudnn_open(cuda);
    sdw_device_init(&cuda->base, &ops);
    describe(cuda, options->index);
    *dev = &cuda->base;
    return SDW_OK;
}

const struct sdw_backend sdw_backend_cuda = {"cuda", open_device};
