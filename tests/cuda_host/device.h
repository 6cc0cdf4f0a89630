/* device.h: device names for test programs: "cuda-host" is the cuda device over the stand-in of
 * this folder, whatever machine this is, by our own kernels alone; "cuda-host-cudnn" the same with
 * the stand-in of cuDNN. */
#ifndef SDW_TESTS_CUDA_HOST_DEVICE_H
#define SDW_TESTS_CUDA_HOST_DEVICE_H

#include "tensor/backend.h"

#include <stdlib.h>
#include <string.h>

/* Once, before threads and before the device is opened. Any other name stays as it is. */
static inline const char *cuda_host_device(const char *name, struct sdw_device_options *options)
{
#ifdef CUDA_HOST_LIBRARY
    bool cudnn = strcmp(name, "cuda-host-cudnn") == 0;
    if (cudnn || strcmp(name, "cuda-host") == 0) {
        setenv("SDW_CUDA_DRIVER", CUDA_HOST_LIBRARY, 1);
        setenv("SDW_CUDA_CUDNN", CUDA_HOST_LIBRARY, 1);
        setenv("SDW_CUDA_CUBLASLT", "none", 1);
        setenv("SDW_CUDA_PLANS", "", 0); /* nothing outlives a test that does not ask for it */
        options->isa = cudnn ? NULL : "own";
        return "cuda";
    }
#endif
    (void)options;
    return name;
}

#endif
