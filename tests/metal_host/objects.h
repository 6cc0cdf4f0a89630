/* objects.h: as much of the Objective-C runtime as the Metal backend uses, for the stand-in:
 * classes that are tables of methods, objects that count their references, autorelease pools.
 *
 * Whatever the real runtime leaves undefined or answers with an exception ends the program with a
 * sentence: a message to a freed object, a selector that a class does not have, one release too
 * many, an autorelease without a pool. */
#ifndef SDW_TESTS_METAL_HOST_OBJECTS_H
#define SDW_TESTS_METAL_HOST_OBJECTS_H

#include <stdbool.h>
#include <stddef.h>

struct host_method {
    const char *selector, *encoding; /* the encoding as Apple's headers give the types */
    void (*call)(void);              /* cast from its own type */
};

struct host_class;

struct host_object {
    const struct host_class *isa;
    int references;
    struct host_object *next; /* of the dead */
};

struct host_class {
    struct host_object object; /* a class is an object, whose isa has its class methods */
    const char *name;
    const struct host_method *methods; /* until one without selector */
    size_t bytes;                      /* of an object */
    void (*free)(struct host_object *object);
};

#define HOST_METHOD(selector, encoding, function)                                                  \
    {                                                                                              \
        selector, encoding, (void (*)(void))(function)                                             \
    }

/* All classes of the stand-in: metal.c. */
extern const struct host_class *const host_classes[];
extern const int host_class_count;

/* A zeroed object with one reference. */
void *host_new(const struct host_class *class);
void *host_retain(void *object); /* NULL is allowed */
void host_release(void *object); /* NULL is allowed */
void *host_autorelease(void *object);

/* Asserts that an argument is an object of that class. */
void host_expect(const void *object, const struct host_class *class, const char *where);

/* Says why and aborts. */
void host_die(const char *format, ...) __attribute__((format(printf, 1, 2), noreturn));

#endif
