// kernels_simdgroups_bf16.cpp: the same kernels with simdgroup matrices, and bfloat for their 16-bit type.
#define SDW_METAL_SIMDGROUPS
#define SDW_METAL_BF16
#include "kernels.cpp"
