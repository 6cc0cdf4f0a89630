/* host.h: between the kernels compiled for this machine (kernels.cpp) and the stand-in of the
 * runtime that launches them (runtime.c). */
#ifndef SDW_TESTS_METAL_HOST_H
#define SDW_TESTS_METAL_HOST_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define METAL_HOST_BUFFERS_MAX 31 /* entries of the argument table, Metal Feature Set Tables */

/* What one thread of a kernel is given. */
struct metal_host_arguments {
    void *buffer[METAL_HOST_BUFFERS_MAX]; /* the last one in use holds the parameters */
    void *threadgroup;                    /* memory of the group */
    uint32_t group[3], thread[3], index;  /* index: of the thread in its group */
};

struct metal_host_kernel {
    const char *name;
    int buffers;          /* the parameters included */
    size_t params_bytes;  /* of the last buffer */
    int uses_threadgroup; /* 1: has threadgroup memory, hence barriers */
    void (*run)(const struct metal_host_arguments *arguments);
};

/* NULL when there is none of that name; as compiled without and with SDW_METAL_SIMDGROUPS and
 * SDW_METAL_BF16. */
const struct metal_host_kernel *metal_host_kernel_find(const char *name);
const struct metal_host_kernel *metal_host_kernel_find_simdgroups(const char *name);
const struct metal_host_kernel *metal_host_kernel_find_bf16(const char *name);
const struct metal_host_kernel *metal_host_kernel_find_simdgroups_bf16(const char *name);

/* What the kernels call: host.c. */
void metal_host_barrier(void);
void metal_host_lanes_barrier(void);
uint32_t metal_host_lane(void);
/* All lanes' values, one behind the other, from 32 lanes: a simdgroup is never less here. */
void metal_host_exchange(void *all, const void *mine, size_t bytes);
uint16_t metal_host_half(float value);
float metal_host_half_float(uint16_t half);
uint16_t metal_host_bfloat(float value);
float metal_host_bfloat_float(uint16_t bfloat);

#ifdef __cplusplus
}
#endif

#endif
