/* kernels_avx2.c: the kernels over vectors of 32 bytes; src/backend/cpu/CMakeLists.txt has the
 * compiler flags. */
#define SDW_VEC_BYTES    32
#define SDW_KERNELS      sdw_kernels_avx2
#define SDW_KERNELS_NAME "AVX2"
#include "backend/cpu/attention_tmpl.h"
