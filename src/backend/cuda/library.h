/* library.h: NVIDIA's libraries, opened when the program runs, so that it starts where they are
 * not. Their headers say what a function takes; the library is asked for it by name. */
#ifndef SDW_BACKEND_CUDA_LIBRARY_H
#define SDW_BACKEND_CUDA_LIBRARY_H

/* The library that the environment's `variable` names, if it does (tests put a stand-in there);
 * else `name`, "libcudnn.so.9", where the system finds it or where the toolkit of the build had it.
 * NULL where there is none. */
void *sdw_cuda_library_open(const char *name, const char *variable);
void sdw_cuda_library_close(void *library); /* NULL is allowed */

/* The address of a name, or NULL. */
void *sdw_cuda_library_find(void *library, const char *name);

/* to = the function `text` of the library; POSIX lets an object's address be a function, ISO C has
 * no cast for it, hence the union. */
#define SDW_CUDA_LIBRARY_TAKE(to, library, text)                                                   \
    do {                                                                                           \
        union {                                                                                    \
            void *object;                                                                          \
            __typeof__(to) function;                                                               \
        } symbol = {sdw_cuda_library_find(library, text)};                                         \
        (to) = symbol.function;                                                                    \
    } while (0)

#endif
