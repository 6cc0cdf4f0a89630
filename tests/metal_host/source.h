/* source.h: what the stand-in asks of the text that the backend hands to Metal's compiler. */
#ifndef SDW_TESTS_METAL_HOST_SOURCE_H
#define SDW_TESTS_METAL_HOST_SOURCE_H

#include "host.h"

#include <stdbool.h>

/* NULL, or what is wrong: a kernel whose arguments are not in the order by which kernels.cpp calls
 * it, two arguments of one index, a kernel of a name that kernels.cpp does not list. */
const char *host_source_fault(const char *source);

/* The text begins with lines "#define NAME" of which one is this. */
bool host_source_defines(const char *source, const char *name);

/* The text has this kernel, with as many buffers as the compiled one takes. */
bool host_source_has(const char *source, const struct metal_host_kernel *kernel);

#endif
