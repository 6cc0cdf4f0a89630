/* driver.h: NVIDIA's driver as a table of its functions, opened when the program runs: the program
 * starts where there is none, and says so in its own words. Names and types are those of cuda.h. */
#ifndef SDW_BACKEND_CUDA_DRIVER_H
#define SDW_BACKEND_CUDA_DRIVER_H

#include "base/status.h"

#include <cuda.h>

/* cuda.h names the current version of a function by a macro: the row's name expands to it. */
#define SDW_CUDA_DRIVER_TABLE(X)                                                                   \
    X(cuInit)                                                                                      \
    X(cuDriverGetVersion)                                                                          \
    X(cuGetErrorName)                                                                              \
    X(cuGetErrorString)                                                                            \
    X(cuDeviceGetCount)                                                                            \
    X(cuDeviceGet)                                                                                 \
    X(cuDeviceGetName)                                                                             \
    X(cuDeviceGetAttribute)                                                                        \
    X(cuDeviceTotalMem)                                                                            \
    X(cuDevicePrimaryCtxRetain)                                                                    \
    X(cuDevicePrimaryCtxRelease)                                                                   \
    X(cuCtxSetCurrent)                                                                             \
    X(cuModuleLoadData)                                                                            \
    X(cuModuleUnload)                                                                              \
    X(cuModuleGetFunction)                                                                         \
    X(cuFuncGetParamInfo)                                                                          \
    X(cuFuncSetAttribute)                                                                          \
    X(cuLaunchKernel)                                                                              \
    X(cuMemAlloc)                                                                                  \
    X(cuMemFree)                                                                                   \
    X(cuMemGetInfo)                                                                                \
    X(cuMemAllocHost)                                                                              \
    X(cuMemFreeHost)                                                                               \
    X(cuMemcpyHtoDAsync)                                                                           \
    X(cuMemcpyDtoHAsync)                                                                           \
    X(cuStreamCreate)                                                                              \
    X(cuStreamDestroy)                                                                             \
    X(cuStreamSynchronize)                                                                         \
    X(cuEventCreate)                                                                               \
    X(cuEventDestroy)                                                                              \
    X(cuEventRecord)                                                                               \
    X(cuEventSynchronize)                                                                          \
    X(cuEventElapsedTime)                                                                          \
    X(cuStreamBeginCapture)                                                                        \
    X(cuStreamEndCapture)                                                                          \
    X(cuGraphInstantiate)                                                                          \
    X(cuGraphLaunch)                                                                               \
    X(cuGraphDestroy)                                                                              \
    X(cuGraphExecDestroy)

struct sdw_cuda_driver {
    void *library;
#define SDW_CUDA_DRIVER_MEMBER(name) __typeof__(name) *name;
    SDW_CUDA_DRIVER_TABLE(SDW_CUDA_DRIVER_MEMBER)
#undef SDW_CUDA_DRIVER_MEMBER
};

/* Opens libcuda.so.1, or the library that the environment's SDW_CUDA_DRIVER names (tests put a
 * stand-in there). SDW_DEVICE when there is none, or one without a function that we need. */
enum sdw_status sdw_cuda_driver_open(struct sdw_cuda_driver *driver, struct sdw_error *err);
void sdw_cuda_driver_close(struct sdw_cuda_driver *driver);

/* A GPU that this program can compute on. */
struct sdw_cuda_card {
    CUdevice device;
    char name[96];
    int major, minor; /* compute capability */
    int processors;   /* streaming multiprocessors */
    int shared_max;   /* bytes of shared memory that a block may ask for */
    size_t bytes;     /* of memory */
};

/* Looks at GPU `index`: SDW_DEVICE with a sentence for a driver that is too old or does not start,
 * no GPU, no such index, a GPU that is too old. */
enum sdw_status sdw_cuda_card_find(struct sdw_cuda_card *card, const struct sdw_cuda_driver *driver,
                                   int index, struct sdw_error *err);

/* The driver's words for an error. */
const char *sdw_cuda_words(const struct sdw_cuda_driver *driver, CUresult result);

#endif
