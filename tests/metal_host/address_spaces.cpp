// address_spaces.cpp: the kernels once more, with device, constant and threadgroup memory as types of their own. Nothing
// runs: a pointer that strays from one address space into another does not compile, as in Metal.
#define METAL_HOST_ADDRESS_SPACES
#include "backend/metal/params.h"

#include "backend/metal/common.metal"

#include "backend/metal/attention.metal"
#include "backend/metal/attention_simdgroups.metal"
#include "backend/metal/matrix.metal"
#include "backend/metal/norm.metal"
#include "backend/metal/pointwise.metal"
