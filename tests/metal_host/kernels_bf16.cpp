// kernels_bf16.cpp: the same kernels with bfloat for their 16-bit type.
#define SDW_METAL_BF16
#include "kernels.cpp"
