/* planner.c: stands in for libcuda.so.1 (its soname) while the real cuDNN makes plans for a GPU
 * that is not there (test_cudnn_plans.c): what the library compiled is taken as loaded, and nothing
 * is ever run. */
#include <stddef.h>

#define EXPORT __attribute__((visibility("default")))
#define MANY                                                                                       \
    64 /* registers of a kernel, blocks of a multiprocessor: a number that is right enough */

static int something;

/* Succeeds, and does nothing. */
#define DONE(name)                                                                                 \
    EXPORT int name(void);                                                                         \
    EXPORT int name(void)                                                                          \
    {                                                                                              \
        return 0;                                                                                  \
    }

/* Gives a handle. */
#define GIVE(name)                                                                                 \
    EXPORT int name(void **to);                                                                    \
    EXPORT int name(void **to)                                                                     \
    {                                                                                              \
        *to = &something;                                                                          \
        return 0;                                                                                  \
    }

/* Gives a number. */
#define TELL(name, number)                                                                         \
    EXPORT int name(int *to);                                                                      \
    EXPORT int name(int *to)                                                                       \
    {                                                                                              \
        *to = number;                                                                              \
        return 0;                                                                                  \
    }

GIVE(cuLibraryLoadData)
GIVE(cuLibraryLoadFromFile)
GIVE(cuLibraryGetKernel)
GIVE(cuLibraryGetModule)
GIVE(cuKernelGetFunction)
GIVE(cuModuleLoadData)
GIVE(cuModuleLoadDataEx)
GIVE(cuModuleGetFunction)
GIVE(cuCtxGetCurrent)
TELL(cuFuncGetAttribute, MANY)
TELL(cuKernelGetAttribute, MANY)
TELL(cuOccupancyMaxActiveClusters, MANY)
TELL(cuOccupancyMaxPotentialClusterSize, 8)
TELL(cuOccupancyMaxActiveBlocksPerMultiprocessor, 2)
TELL(cuDriverGetVersion, 13000)
TELL(cuDeviceGetCount, 1)
TELL(cuDeviceGet, 0)
DONE(cuLibraryUnload)
DONE(cuModuleUnload)
DONE(cuFuncSetAttribute)
DONE(cuKernelSetAttribute)
DONE(cuLaunchKernel)
DONE(cuLaunchKernelEx)
DONE(cuLaunchCooperativeKernel)
DONE(cuStreamGetCtx)
DONE(cuLinkCreate)
DONE(cuLinkAddData)
DONE(cuLinkComplete)
DONE(cuLinkDestroy)
DONE(cuGetErrorName)
DONE(cuGetErrorString)
DONE(cuCtxPushCurrent)
DONE(cuCtxPopCurrent)
DONE(cuCtxGetLimit)
