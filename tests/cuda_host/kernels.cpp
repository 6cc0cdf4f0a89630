// kernels.cpp: the table of the kernels; their files are compiled beside it, as C++.
#include "cuda_host/host.h"

#include "backend/cuda/args.h"

#define DECLARE(name, arguments, file) extern "C" void sdw_##name(const arguments);
SDW_CUDA_KERNELS(DECLARE)
#undef DECLARE

#define ROW(name, arguments, file)                                                                 \
    {"sdw_" #name, sizeof(arguments), [](const void *a) { sdw_##name(*(const arguments *)a); }},
extern const struct host_kernel host_kernels[] = {SDW_CUDA_KERNELS(ROW)};
#undef ROW
extern const int host_kernel_count = sizeof host_kernels / sizeof host_kernels[0];
