/* driver.c: a library that stands in for libcuda.so.1: one GPU whose memory is this machine's and
 * whose kernels are compiled for its processor.
 *
 * What the real driver queues, this one queues too: a copy happens when somebody waits or a kernel
 * runs, so that memory which is reused too early is seen. Memory begins as NaNs. Launches that are
 * captured run when their graph does; what the real driver refuses during a capture is refused.
 *
 * SDW_CUDA_HOST in the environment makes it another machine, for the sentences that people get:
 * "old-driver", "no-gpu", "old-gpu", "broken", "small" (64 MB left), "lost" (kernels fail, late),
 * "no-graphs" (captures fail), "full" (no memory is given). SDW_CUDA_HOST_FILE names a file whose
 * first line, while it is there, says the same: a machine that changes.
 */
#include "cuda_host/host.h"

#include <cuda.h>

#include <assert.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define EXPORT         __attribute__((visibility("default")))
#define BYTES_ALL      ((size_t)8 << 30)
#define BYTES_SMALL    ((size_t)192 << 20)
#define PROCESSORS     4
#define SHARED_MAX     (99 << 10) /* bytes, of compute capability 8.6 */
#define SHARED_UNASKED (48 << 10)
#define COPIES_MAX     64
#define ARGUMENTS_MAX  512 /* bytes, of a kernel */
#define ALIGN          256 /* bytes */

static size_t bytes_used;
static CUresult late; /* what the next wait tells, and every one after */

static struct {
    void *to;
    const void *from;
    size_t bytes;
} copies[COPIES_MAX];
static int copy_count;

struct function {
    const struct host_kernel *kernel;
    size_t shared_max;
};

/* A graph, and what is made of it: launches in their order. */
struct CUgraph_st {
    struct launch {
        const struct host_kernel *kernel;
        unsigned grid[3], threads; /* no threads: a function of this machine */
        size_t shared_bytes;
        unsigned char arguments[ARGUMENTS_MAX];
    } * launch;
    int count;
};

static struct CUgraph_st *captured; /* NULL: launches run */
static bool spoilt;                 /* the capture is */
static int graphs_alive;

/* For tests: launches of whole graphs, since the library was opened. */
EXPORT int cuda_host_graph_launches;

static bool file_says(const char *path, const char *name)
{
    char line[32] = "";
    FILE *file = fopen(path, "r");
    if (file && fgets(line, sizeof line, file))
        line[strcspn(line, "\n")] = '\0';
    if (file)
        fclose(file);
    return strcmp(line, name) == 0;
}

static bool machine_is(const char *name)
{
    const char *wanted = getenv("SDW_CUDA_HOST"), *path = getenv("SDW_CUDA_HOST_FILE");
    return (wanted && strcmp(wanted, name) == 0) || (path && file_says(path, name));
}

static void run_copies(void)
{
    for (int i = 0; i < copy_count; i++)
        memcpy(copies[i].to, copies[i].from, copies[i].bytes);
    copy_count = 0;
}

static bool refused(void)
{
    spoilt |= captured != NULL;
    return captured != NULL;
}

static CUresult capture(const struct launch *launch)
{
    struct launch *more =
        realloc(captured->launch, (size_t)(captured->count + 1) * sizeof *captured->launch);
    if (!more)
        return CUDA_ERROR_OUT_OF_MEMORY;
    captured->launch = more;
    captured->launch[captured->count++] = *launch;
    return CUDA_SUCCESS;
}

static CUresult run_launch(const struct launch *launch)
{
    run_copies();
    if (machine_is("lost"))
        late = CUDA_ERROR_ILLEGAL_ADDRESS;
    else if (!launch->threads)
        launch->kernel->run(launch->arguments);
    else
        host_launch(launch->kernel, &launch->grid, launch->threads, launch->shared_bytes,
                    launch->arguments);
    return CUDA_SUCCESS;
}

static CUresult queue_copy(void *to, const void *from, size_t bytes)
{
    if (late)
        return late;
    if (refused())
        return CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
    if (copy_count == COPIES_MAX)
        run_copies();
    copies[copy_count].to = to;
    copies[copy_count].from = from;
    copies[copy_count++].bytes = bytes;
    return CUDA_SUCCESS;
}

EXPORT CUresult cuInit(unsigned flags)
{
    (void)flags;
    return machine_is("no-gpu")   ? CUDA_ERROR_NO_DEVICE
           : machine_is("broken") ? CUDA_ERROR_SYSTEM_DRIVER_MISMATCH
                                  : CUDA_SUCCESS;
}

EXPORT CUresult cuDriverGetVersion(int *version)
{
    *version = machine_is("old-driver") ? 11080 : CUDA_VERSION;
    return CUDA_SUCCESS;
}

EXPORT CUresult cuGetErrorName(CUresult error, const char **text)
{
    (void)error;
    *text = "CUDA_ERROR";
    return CUDA_SUCCESS;
}

EXPORT CUresult cuGetErrorString(CUresult error, const char **text)
{
    *text = error == CUDA_ERROR_ILLEGAL_ADDRESS          ? "an illegal memory access"
            : error == CUDA_ERROR_OUT_OF_MEMORY          ? "out of memory"
            : error == CUDA_ERROR_SYSTEM_DRIVER_MISMATCH ? "versions of driver and library differ"
                                                         : "some error";
    return CUDA_SUCCESS;
}

EXPORT CUresult cuDeviceGetCount(int *count)
{
    *count = 1;
    return CUDA_SUCCESS;
}

EXPORT CUresult cuDeviceGet(CUdevice *device, int index)
{
    *device = index;
    return index == 0 ? CUDA_SUCCESS : CUDA_ERROR_INVALID_DEVICE;
}

EXPORT CUresult cuDeviceGetName(char *name, int size, CUdevice device)
{
    (void)device;
    snprintf(name, (size_t)size, "%s", machine_is("old-gpu") ? "GeForce GTX 1080" : "stand-in");
    return CUDA_SUCCESS;
}

EXPORT CUresult cuDeviceGetAttribute(int *value, CUdevice_attribute attribute, CUdevice device)
{
    (void)device;
    switch (attribute) {
    case CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR:
        *value = machine_is("old-gpu") ? 6 : 8;
        break;
    case CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR:
        *value = machine_is("old-gpu") ? 1 : 6;
        break;
    case CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT: *value = PROCESSORS; break;
    case CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN: *value = SHARED_MAX; break;
    default: return CUDA_ERROR_INVALID_VALUE;
    }
    return CUDA_SUCCESS;
}

EXPORT CUresult cuDeviceTotalMem(size_t *bytes, CUdevice device)
{
    (void)device;
    *bytes = machine_is("small") ? BYTES_SMALL : BYTES_ALL;
    return CUDA_SUCCESS;
}

EXPORT CUresult cuMemGetInfo(size_t *left, size_t *all)
{
    cuDeviceTotalMem(all, 0);
    *left = *all - bytes_used;
    return CUDA_SUCCESS;
}

EXPORT CUresult cuDevicePrimaryCtxRetain(CUcontext *context, CUdevice device)
{
    (void)device;
    *context = (CUcontext)&bytes_used;
    return CUDA_SUCCESS;
}

EXPORT CUresult cuDevicePrimaryCtxRelease(CUdevice device)
{
    (void)device;
    assert(bytes_used == 0 && "memory that nobody freed");
    assert(graphs_alive == 0 && "a graph that nobody destroyed");
    return CUDA_SUCCESS;
}

EXPORT CUresult cuCtxSetCurrent(CUcontext context)
{
    return context == (CUcontext)&bytes_used ? CUDA_SUCCESS : CUDA_ERROR_INVALID_CONTEXT;
}

EXPORT CUresult cuModuleLoadData(CUmodule *module, const void *image)
{
    uint32_t magic;
    memcpy(&magic, image, sizeof magic);
    *module = (CUmodule)&bytes_used;
    return magic == 0xba55ed50 ? CUDA_SUCCESS
                               : CUDA_ERROR_INVALID_IMAGE; /* a fatbin's first bytes */
}

EXPORT CUresult cuModuleUnload(CUmodule module)
{
    (void)module;
    return CUDA_SUCCESS;
}

EXPORT CUresult cuModuleGetFunction(CUfunction *function, CUmodule module, const char *name)
{
    static struct function functions[64];
    (void)module;
    for (int i = 0; i < host_kernel_count; i++)
        if (strcmp(host_kernels[i].name, name) == 0) {
            functions[i].kernel = &host_kernels[i];
            functions[i].shared_max = SHARED_UNASKED;
            *function = (CUfunction)&functions[i];
            return CUDA_SUCCESS;
        }
    return CUDA_ERROR_NOT_FOUND;
}

EXPORT CUresult cuFuncGetParamInfo(CUfunction function, size_t index, size_t *offset, size_t *bytes)
{
    *offset = 0;
    *bytes = ((struct function *)function)->kernel->arguments_bytes;
    return index == 0 ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

EXPORT CUresult cuFuncSetAttribute(CUfunction function, CUfunction_attribute attribute, int value)
{
    if (attribute != CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES || value > SHARED_MAX)
        return CUDA_ERROR_INVALID_VALUE;
    ((struct function *)function)->shared_max = (size_t)value;
    return CUDA_SUCCESS;
}

EXPORT CUresult cuLaunchKernel(CUfunction function, unsigned grid_x, unsigned grid_y,
                               unsigned grid_z, unsigned block_x, unsigned block_y,
                               unsigned block_z, unsigned shared_bytes, CUstream stream,
                               void **parameters, void **extra)
{
    const struct function *f = (const struct function *)function;
    struct launch launch = {.kernel = f->kernel,
                            .grid = {grid_x, grid_y, grid_z},
                            .threads = block_x,
                            .shared_bytes = shared_bytes};
    (void)stream;
    if (late)
        return late;
    if (block_y != 1 || block_z != 1 || extra || shared_bytes > f->shared_max)
        return CUDA_ERROR_INVALID_VALUE;
    assert(f->kernel->arguments_bytes <= sizeof launch.arguments);
    memcpy(launch.arguments, parameters[0], f->kernel->arguments_bytes);
    return captured ? capture(&launch) : run_launch(&launch);
}

int host_queue(const struct host_kernel *function, const void *arguments)
{
    struct launch launch = {.kernel = function};
    assert(function->arguments_bytes <= sizeof launch.arguments);
    memcpy(launch.arguments, arguments, function->arguments_bytes);
    return late ? late : captured ? capture(&launch) : run_launch(&launch);
}

EXPORT CUresult cuStreamBeginCapture(CUstream stream, CUstreamCaptureMode mode)
{
    (void)stream, (void)mode;
    if (refused())
        return CUDA_ERROR_ILLEGAL_STATE;
    spoilt = machine_is("no-graphs");
    captured = calloc(1, sizeof *captured);
    return captured ? CUDA_SUCCESS : CUDA_ERROR_OUT_OF_MEMORY;
}

EXPORT CUresult cuStreamEndCapture(CUstream stream, CUgraph *graph)
{
    (void)stream;
    *graph = spoilt ? NULL : captured;
    if (spoilt && captured) {
        free(captured->launch);
        free(captured);
    }
    captured = NULL;
    graphs_alive += *graph != NULL;
    return *graph ? CUDA_SUCCESS : CUDA_ERROR_STREAM_CAPTURE_INVALIDATED;
}

EXPORT CUresult cuGraphInstantiate(CUgraphExec *made, CUgraph graph, unsigned long long flags)
{
    struct CUgraph_st *copy = calloc(1, sizeof *copy);
    size_t bytes = (size_t)graph->count * sizeof *graph->launch;
    *made = NULL;
    if (!copy || flags || !(copy->launch = malloc(bytes + 1))) {
        free(copy);
        return flags ? CUDA_ERROR_INVALID_VALUE : CUDA_ERROR_OUT_OF_MEMORY;
    }
    memcpy(copy->launch, graph->launch, bytes);
    copy->count = graph->count;
    graphs_alive++;
    *made = (CUgraphExec)copy;
    return CUDA_SUCCESS;
}

EXPORT CUresult cuGraphLaunch(CUgraphExec made, CUstream stream)
{
    const struct CUgraph_st *graph = (const struct CUgraph_st *)made;
    (void)stream;
    if (late || refused())
        return late ? late : CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
    cuda_host_graph_launches++;
    for (int i = 0; i < graph->count; i++)
        run_launch(&graph->launch[i]);
    return CUDA_SUCCESS;
}

EXPORT CUresult cuGraphDestroy(CUgraph graph)
{
    graphs_alive--;
    free(graph->launch);
    free(graph);
    return CUDA_SUCCESS;
}

EXPORT CUresult cuGraphExecDestroy(CUgraphExec made)
{
    return cuGraphDestroy((CUgraph)made);
}

/* The size stands before the memory. */
EXPORT CUresult cuMemAlloc(CUdeviceptr *memory, size_t bytes)
{
    size_t left, all;
    cuMemGetInfo(&left, &all);
    if (refused())
        return CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
    if (bytes > left || machine_is("full"))
        return CUDA_ERROR_OUT_OF_MEMORY;
    char *block = aligned_alloc(ALIGN, (bytes + 2 * ALIGN - 1) & ~(size_t)(ALIGN - 1));
    if (!block)
        return CUDA_ERROR_OUT_OF_MEMORY;
    memcpy(block, &bytes, sizeof bytes);
    memset(block + ALIGN, 0xff, bytes);
    bytes_used += bytes;
    *memory = (CUdeviceptr)(uintptr_t)(block + ALIGN);
    return CUDA_SUCCESS;
}

EXPORT CUresult cuMemFree(CUdeviceptr memory)
{
    char *block = (char *)(uintptr_t)memory - ALIGN;
    size_t bytes;
    run_copies();
    memcpy(&bytes, block, sizeof bytes);
    bytes_used -= bytes;
    free(block);
    return CUDA_SUCCESS;
}

EXPORT CUresult cuMemAllocHost(void **memory, size_t bytes)
{
    *memory = malloc(bytes);
    return *memory ? CUDA_SUCCESS : CUDA_ERROR_OUT_OF_MEMORY;
}

EXPORT CUresult cuMemFreeHost(void *memory)
{
    free(memory);
    return CUDA_SUCCESS;
}

EXPORT CUresult cuMemcpyHtoDAsync(CUdeviceptr to, const void *from, size_t bytes, CUstream stream)
{
    (void)stream;
    return queue_copy((void *)(uintptr_t)to, from, bytes);
}

EXPORT CUresult cuMemcpyDtoHAsync(void *to, CUdeviceptr from, size_t bytes, CUstream stream)
{
    (void)stream;
    return queue_copy(to, (const void *)(uintptr_t)from, bytes);
}

EXPORT CUresult cuStreamCreate(CUstream *stream, unsigned flags)
{
    (void)flags;
    *stream = (CUstream)&bytes_used;
    return CUDA_SUCCESS;
}

EXPORT CUresult cuStreamDestroy(CUstream stream)
{
    (void)stream;
    return CUDA_SUCCESS;
}

EXPORT CUresult cuStreamSynchronize(CUstream stream)
{
    (void)stream;
    if (refused())
        return CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
    run_copies();
    return late;
}

/* An event says whether copies were queued when it was recorded, and when that was. */
struct event {
    bool copies;
    struct timespec at;
};

EXPORT CUresult cuEventCreate(CUevent *event, unsigned flags)
{
    (void)flags;
    *event = calloc(1, sizeof(struct event));
    return *event ? CUDA_SUCCESS : CUDA_ERROR_OUT_OF_MEMORY;
}

EXPORT CUresult cuEventDestroy(CUevent event)
{
    free(event);
    return CUDA_SUCCESS;
}

EXPORT CUresult cuEventRecord(CUevent event, CUstream stream)
{
    struct event *e = (struct event *)event;
    (void)stream;
    e->copies = copy_count > 0;
    clock_gettime(CLOCK_MONOTONIC, &e->at);
    return late;
}

EXPORT CUresult cuEventSynchronize(CUevent event)
{
    if (refused())
        return CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
    if (((struct event *)event)->copies)
        run_copies();
    return late;
}

EXPORT CUresult cuEventElapsedTime(float *ms, CUevent start, CUevent end)
{
    const struct event *from = (const struct event *)start, *to = (const struct event *)end;
    *ms = (float)(1e3 * (double)(to->at.tv_sec - from->at.tv_sec) +
                  1e-6 * (double)(to->at.tv_nsec - from->at.tv_nsec));
    return late;
}
