/* backend.h: a device: a filled table of operators, its memory, and its first failure.
 *
 * Ownership: sdw_device_close frees the device and its scratch memory; buffers and weights are
 * freed by whoever made them, before. A device is used from one thread at a time. */
#ifndef SDW_TENSOR_BACKEND_H
#define SDW_TENSOR_BACKEND_H

#include "tensor/ops.h"
#include "tensor/scratch.h"

#include <stdatomic.h>

struct sdw_profile;

struct sdw_device {
    const struct sdw_ops *ops;
    char id[32];            /* as in heartbeats: "cpu", "cuda:0", "metal:0" */
    char description[160];  /* for people: "AMD EPYC, 2 threads, AVX-512 BF16" */
    char kernels[256];      /* what computes the operators here, for `bench` and /info */
    enum sdw_dtype compute; /* what matrix products read: SDW_F32, SDW_F16 or SDW_BF16 */
    enum sdw_dtype stream;  /* what the residual stream is kept in */
    struct sdw_scratch scratch;
    struct sdw_error failure;    /* status SDW_OK until something failed */
    struct sdw_profile *profile; /* NULL, or where the time of every operator goes (profile.h) */
    atomic_bool lost;            /* nothing more can be computed on it in this process */
    const atomic_bool *cancel;   /* NULL, or a flag that another thread may set: the next operator
                                    then fails the device with SDW_CANCELLED */
};

struct sdw_device_options {
    int index;            /* which accelerator */
    enum sdw_dtype dtype; /* compute type asked for; SDW_DTYPE_COUNT means the device's best */
    const char *isa; /* CPU only: highest instruction set to use, NULL for the best; for tests */
};

/* A backend offers one of these to registry.c. */
struct sdw_backend {
    const char *name;
    enum sdw_status (*open)(struct sdw_device **dev, const struct sdw_device_options *options,
                            struct sdw_error *err);
};

/* For backends: fills the base of a device that was zeroed; asserts that no row of the table is
 * empty. */
void sdw_device_init(struct sdw_device *dev, const struct sdw_ops *ops);

/* Notes the first failure of a device; later ones are dropped. */
void sdw_device_fail(struct sdw_device *dev, enum sdw_status status, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* Asked before every operator: a forward pass takes seconds on a CPU, an operator a fraction of
 * one, so this is where a job can be stopped in time. True when the device has failed or is
 * cancelled. */
bool sdw_device_stopped(struct sdw_device *dev);

/* Waits for the queue and returns the first failure since the last call, which it clears: the
 * device can be used again. */
enum sdw_status sdw_sync(struct sdw_device *dev, struct sdw_error *err);

void sdw_device_close(struct sdw_device *dev); /* NULL is allowed */

/* Copies between host and device; no work when the device has failed. Sizes are the tensor's. */
void sdw_upload(struct sdw_device *dev, const struct sdw_tensor *to, const void *from_host);
void sdw_download(struct sdw_device *dev, void *to_host, const struct sdw_tensor *from);

#endif
