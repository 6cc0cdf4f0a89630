/* metal.h: what the two halves of the stand-in share: metal.c (device, library, buffers) and
 * commands.c (queue, command buffers, encoders). */
#ifndef SDW_TESTS_METAL_HOST_METAL_H
#define SDW_TESTS_METAL_HOST_METAL_H

#include "host.h"
#include "objects.h"

#include <stdbool.h>
#include <stddef.h>

/* Metal Feature Set Tables, Apple7: bytes of a threadgroup, of setBytes, alignment. */
#define GROUP_BYTES_MAX 32768ul
#define SET_BYTES_MAX   4096ul
#define GROUP_ALIGN     16ul
#define THREADS_MAX     512ul /* of our pipelines; Apple's limit of 1024 shrinks with registers */

struct size {
    unsigned long width, height, depth;
};

struct buffer {
    struct host_object object;
    char *pages, *contents; /* pages: NULL when they are somebody else's */
    size_t length, mapped;
};

struct function { /* and the pipeline made of it */
    struct host_object object;
    const struct metal_host_kernel *kernel;
};

extern const struct host_class buffer_class, pipeline_class, queue_class, commands_class,
    encoder_class;

/* SDW_METAL_HOST_FAULT names something that goes wrong: device, compile, simdgroups, memory, map,
 * commands. */
bool metal_host_faulty(const char *name);
/* SDW_METAL_HOST_COUNT, set to anything: a queue tells on standard error how many command buffers
 * were committed to it when it is freed. */

/* Puts a new NSError into *error and gives NULL. */
void *metal_host_fail(void **error, const char *text);

/* MTLDevice's newCommandQueue */
void *metal_host_queue(void *device, void *selector);

/* The end of every class's table of methods. */
#define EVERY_OBJECT                                                                               \
    HOST_METHOD("retain", "@@:", metal_host_retain),                                               \
        HOST_METHOD("release", "v@:", metal_host_release),                                         \
    {                                                                                              \
        NULL, NULL, NULL                                                                           \
    }
void *metal_host_retain(void *object, void *selector);
void metal_host_release(void *object, void *selector);

#endif
