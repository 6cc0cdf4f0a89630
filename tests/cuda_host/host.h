/* host.h: between the kernels compiled for this machine (kernels.cpp), what runs them (launch.c)
 * and the stand-in of the driver that is asked to (driver.c). */
#ifndef SDW_TESTS_CUDA_HOST_H
#define SDW_TESTS_CUDA_HOST_H

#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

struct host_kernel {
    const char *name;
    size_t arguments_bytes;
    void (*run)(const void *arguments); /* one thread's part */
};

extern const struct host_kernel host_kernels[];
extern const int host_kernel_count;

/* Runs a kernel's blocks, one after the other. */
void host_launch(const struct host_kernel *kernel, const unsigned (*grid)[3], unsigned threads,
                 size_t shared_bytes, const void *arguments);

/* driver.c: queues a function of this machine in a kernel's place, with a copy of its arguments.
 * The driver's status. */
int host_queue(const struct host_kernel *function, const void *arguments);

#ifdef __cplusplus
}
#endif

#endif
