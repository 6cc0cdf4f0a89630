// address_spaces_simdgroups.cpp: the same, as a GPU with simdgroup matrices gets the kernels.
#define SDW_METAL_SIMDGROUPS
#include "address_spaces.cpp"
