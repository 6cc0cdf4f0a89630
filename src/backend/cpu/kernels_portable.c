/* kernels_portable.c: the kernels over vectors of 16 bytes; src/backend/cpu/CMakeLists.txt has the
 * compiler flags. */
#define SDW_VEC_BYTES    16
#define SDW_KERNELS      sdw_kernels_portable
#define SDW_KERNELS_NAME "portable C"
#include "backend/cpu/attention_tmpl.h"
