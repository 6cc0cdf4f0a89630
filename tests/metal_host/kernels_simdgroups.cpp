// kernels_simdgroups.cpp: the kernels once more, as a GPU with simdgroup matrices gets them.
#define SDW_METAL_SIMDGROUPS
#include "kernels.cpp"
