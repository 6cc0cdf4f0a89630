/* objc.h: Metal from plain C: the Objective-C runtime and the Metal framework, opened when the
 * program runs, and the table of the selectors that we send.
 *
 * A row of the table gives a message its name, its selector and its types; the type encoding, by
 * which the Objective-C runtime describes a method, follows from the types, so that a check can
 * compare both with what the system says (docs/metal.md). Objects are void *. What a selector
 * returns belongs to the caller where its name begins with new, alloc, retain or copy, as in all
 * Objective-C; everything else belongs to the innermost autorelease pool. */
#ifndef SDW_BACKEND_METAL_OBJC_H
#define SDW_BACKEND_METAL_OBJC_H

#include "base/status.h"

#include <stdbool.h>

/* MTLSize */
struct sdw_mtl_size {
    unsigned long width, height, depth;
};

/* NSOperatingSystemVersion */
struct sdw_ns_version {
    long major, minor, patch;
};

/* Types of messages: C's, and the letter of the type encoding. */
#define SDW_OBJC_C_id      void *
#define SDW_OBJC_E_id      "@"
#define SDW_OBJC_C_uint    unsigned long
#define SDW_OBJC_E_uint    "Q"
#define SDW_OBJC_C_int     long
#define SDW_OBJC_E_int     "q"
#define SDW_OBJC_C_flag    bool
#define SDW_OBJC_E_flag    "B"
#define SDW_OBJC_C_text    const char *
#define SDW_OBJC_E_text    "r*"
#define SDW_OBJC_C_bytes   const void *
#define SDW_OBJC_E_bytes   "r^v"
#define SDW_OBJC_C_ptr     void *
#define SDW_OBJC_E_ptr     "^v"
#define SDW_OBJC_C_error   void **
#define SDW_OBJC_E_error   "^@"
#define SDW_OBJC_C_size    struct sdw_mtl_size
#define SDW_OBJC_E_size    "{?=QQQ}"
#define SDW_OBJC_C_block   void *
#define SDW_OBJC_E_block   "@?"
#define SDW_OBJC_C_version struct sdw_ns_version
#define SDW_OBJC_E_version "{?=qqq}"
#define SDW_OBJC_C_void    void
#define SDW_OBJC_E_void    "v"

/* X0..X4(name, selector, what it returns, its arguments' types), by the number of arguments. */
#define SDW_OBJC_TABLE(X0, X1, X2, X3, X4)                                                         \
    /* NSObject, NSString, NSError, NSProcessInfo */                                               \
    X0(alloc, "alloc", id)                                                                         \
    X0(init, "init", id)                                                                           \
    X0(retain, "retain", id)                                                                       \
    X0(release, "release", void)                                                                   \
    X1(string, "stringWithUTF8String:", id, text)                                                  \
    X0(utf8, "UTF8String", text)                                                                   \
    X0(description, "localizedDescription", id)                                                    \
    X0(process, "processInfo", id)                                                                 \
    X1(system_is, "isOperatingSystemAtLeastVersion:", flag, version)                               \
    /* MTLDevice */                                                                                \
    X0(name, "name", id)                                                                           \
    X1(family, "supportsFamily:", flag, int)                                                       \
    X0(unified, "hasUnifiedMemory", flag)                                                          \
    X0(working_set, "recommendedMaxWorkingSetSize", uint)                                          \
    X0(allocated, "currentAllocatedSize", uint)                                                    \
    X0(buffer_bytes_max, "maxBufferLength", uint)                                                  \
    X0(group_bytes_max, "maxThreadgroupMemoryLength", uint)                                        \
    X0(queue_new, "newCommandQueue", id)                                                           \
    X2(buffer_new, "newBufferWithLength:options:", id, uint, uint)                                 \
    X4(buffer_map, "newBufferWithBytesNoCopy:length:options:deallocator:", id, ptr, uint, uint,    \
       block)                                                                                      \
    X3(library_new, "newLibraryWithSource:options:error:", id, id, id, error)                      \
    X2(pipeline_new, "newComputePipelineStateWithFunction:error:", id, id, error)                  \
    /* MTLCompileOptions, MTLLibrary, MTLComputePipelineState, MTLBuffer */                        \
    X1(set_fast_math, "setFastMathEnabled:", void, flag)                                           \
    X1(set_language, "setLanguageVersion:", void, uint)                                            \
    X1(function_new, "newFunctionWithName:", id, id)                                               \
    X0(threads_max, "maxTotalThreadsPerThreadgroup", uint)                                         \
    X0(lanes, "threadExecutionWidth", uint)                                                        \
    X0(contents, "contents", ptr)                                                                  \
    /* MTLCommandQueue, MTLCommandBuffer */                                                        \
    X0(command_buffer, "commandBuffer", id)                                                        \
    X0(encoder, "computeCommandEncoder", id)                                                       \
    X0(commit, "commit", void)                                                                     \
    X0(wait, "waitUntilCompleted", void)                                                           \
    X0(status, "status", uint)                                                                     \
    X0(error, "error", id)                                                                         \
    /* MTLComputeCommandEncoder */                                                                 \
    X1(set_pipeline, "setComputePipelineState:", void, id)                                         \
    X3(set_buffer, "setBuffer:offset:atIndex:", void, id, uint, uint)                              \
    X3(set_bytes, "setBytes:length:atIndex:", void, bytes, uint, uint)                             \
    X2(set_group_bytes, "setThreadgroupMemoryLength:atIndex:", void, uint, uint)                   \
    X2(dispatch, "dispatchThreadgroups:threadsPerThreadgroup:", void, size, size)                  \
    X0(end, "endEncoding", void)

/* A message: its selector, and objc_msgSend under the message's own type, as it must be called. */
#define SDW_OBJC_0(row, text, r)                                                                   \
    struct {                                                                                       \
        void *selector;                                                                            \
        SDW_OBJC_C_##r (*send)(void *, void *);                                                    \
    } row;
#define SDW_OBJC_1(row, text, r, a)                                                                \
    struct {                                                                                       \
        void *selector;                                                                            \
        SDW_OBJC_C_##r (*send)(void *, void *, SDW_OBJC_C_##a);                                    \
    } row;
#define SDW_OBJC_2(row, text, r, a, b)                                                             \
    struct {                                                                                       \
        void *selector;                                                                            \
        SDW_OBJC_C_##r (*send)(void *, void *, SDW_OBJC_C_##a, SDW_OBJC_C_##b);                    \
    } row;
#define SDW_OBJC_3(row, text, r, a, b, c)                                                          \
    struct {                                                                                       \
        void *selector;                                                                            \
        SDW_OBJC_C_##r (*send)(void *, void *, SDW_OBJC_C_##a, SDW_OBJC_C_##b, SDW_OBJC_C_##c);    \
    } row;
#define SDW_OBJC_4(row, text, r, a, b, c, d)                                                       \
    struct {                                                                                       \
        void *selector;                                                                            \
        SDW_OBJC_C_##r (*send)(void *, void *, SDW_OBJC_C_##a, SDW_OBJC_C_##b, SDW_OBJC_C_##c,     \
                               SDW_OBJC_C_##d);                                                    \
    } row;

struct sdw_objc {
    void *libraries[4]; /* what dlopen gave us */
    void *(*class_named)(const char *name);
    void *(*pool_push)(void);
    void (*pool_pop)(void *pool);
    void *(*default_device)(void); /* MTLCreateSystemDefaultDevice */
    SDW_OBJC_TABLE(SDW_OBJC_0, SDW_OBJC_1, SDW_OBJC_2, SDW_OBJC_3, SDW_OBJC_4)
};
#undef SDW_OBJC_0
#undef SDW_OBJC_1
#undef SDW_OBJC_2
#undef SDW_OBJC_3
#undef SDW_OBJC_4

/* [receiver row] and [receiver row: arguments]; a NULL receiver answers zero. */
#define SDW_TELL(objc, receiver, row) (objc)->row.send(receiver, (objc)->row.selector)
#define SDW_SEND(objc, receiver, row, ...)                                                         \
    (objc)->row.send(receiver, (objc)->row.selector, __VA_ARGS__)

/* Opens the frameworks: the system's, or the library that the environment variable
 * SDW_METAL_RUNTIME names, which stands in for all of them in tests. */
enum sdw_status sdw_objc_open(struct sdw_objc *objc, struct sdw_error *err);
void sdw_objc_close(struct sdw_objc *objc); /* allowed on a zeroed one */

/* A row of the table as text, for checks; returns false behind the last row. */
struct sdw_objc_row {
    const char *selector, *encoding;
};
bool sdw_objc_row_at(int index, struct sdw_objc_row *row);

#endif
