/* library.c: see library.h. */
#include "backend/cuda/library.h"

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>

void *sdw_cuda_library_open(const char *name, const char *variable)
{
    char path[512];
    const char *named = getenv(variable);
    if (named)
        return dlopen(named, RTLD_NOW | RTLD_LOCAL);
    void *library = dlopen(name, RTLD_NOW | RTLD_LOCAL);
    if (library)
        return library;
    snprintf(path, sizeof path, "%s/%s", SDW_CUDA_LIBRARY_DIR, name);
    return dlopen(path, RTLD_NOW | RTLD_LOCAL);
}

void sdw_cuda_library_close(void *library)
{
    if (library)
        dlclose(library);
}

void *sdw_cuda_library_find(void *library, const char *name)
{
    return dlsym(library, name);
}
