/* kernels_avx512.c: the kernels over vectors of 64 bytes; src/backend/cpu/CMakeLists.txt has the
 * compiler flags. */
#define SDW_VEC_BYTES    64
#define SDW_KERNELS      sdw_kernels_avx512
#define SDW_KERNELS_NAME "AVX-512"
#include "backend/cpu/attention_tmpl.h"
