/* metal.c: as much of Metal as the backend uses, over the kernels compiled for this machine.
 *
 * It is strict where Metal is lenient or silent: fresh memory is full of NaN; buffers end at
 * a page that may not be touched; what Metal's validation layer refuses ends the program with a
 * sentence. */
#include "metal.h"
#include "lockstep/lockstep.h"
#include "source.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define BUFFER_BYTES_MAX (4ul << 30)
#define WORKING_SET      (8ul << 30)
#define PAGE             4096ul
#define LANGUAGE_3_1     ((3ul << 16) + 1)

struct string {
    struct host_object object;
    char *text;
};

struct options {
    struct host_object object;
    bool fast_math; /* on in Metal unless it is turned off */
    unsigned long language;
};

struct library {
    struct host_object object;
    char *source;
};

struct version {
    long major, minor, patch;
};

extern const struct host_class string_class, error_class, process_class, device_class,
    options_class, library_class, function_class;

static size_t allocated;

bool metal_host_faulty(const char *name)
{
    const char *fault = getenv("SDW_METAL_HOST_FAULT");
    return fault && strcmp(fault, name) == 0;
}

static size_t working_set(void)
{
    return metal_host_faulty("memory") ? (size_t)24 << 20 : WORKING_SET;
}

/* NSString and NSError */

static void *string_new(const char *text)
{
    struct string *string = host_new(&string_class);
    string->text = strdup(text);
    return string;
}

static void string_free(struct host_object *object)
{
    free(((struct string *)object)->text);
}

static void *string_of(void *class, void *selector, const char *text)
{
    (void)class, (void)selector;
    return host_autorelease(string_new(text));
}

static const char *string_utf8(struct string *string, void *selector)
{
    (void)selector;
    return string->text;
}

/* An error is its text here. */
void *metal_host_fail(void **error, const char *text)
{
    struct string *made = host_new(&error_class);
    made->text = strdup(text);
    if (error)
        *error = host_autorelease(made);
    else
        host_release(made);
    return NULL;
}

static void *error_description(struct string *error, void *selector)
{
    (void)selector;
    return host_autorelease(string_new(error->text));
}

/* NSObject */

static void *object_alloc(const struct host_class *class, void *selector)
{
    (void)selector;
    return host_new(class);
}

static void *options_init(struct options *options, void *selector)
{
    (void)selector;
    options->fast_math = true;
    return options;
}

void *metal_host_retain(void *object, void *selector)
{
    (void)selector;
    return host_retain(object);
}

void metal_host_release(void *object, void *selector)
{
    (void)selector;
    host_release(object);
}

/* NSProcessInfo: macOS 14, or what SDW_METAL_HOST_MACOS says. */

static long macos(void)
{
    const char *told = getenv("SDW_METAL_HOST_MACOS");
    return told ? atol(told) : 14;
}

static void *process_of(void *class, void *selector)
{
    (void)class, (void)selector;
    return host_autorelease(host_new(&process_class));
}

static bool process_system(void *process, void *selector, struct version version)
{
    (void)process, (void)selector;
    return macos() >= version.major;
}

/* MTLDevice */

static void *device_name(void *device, void *selector)
{
    (void)device, (void)selector;
    return host_autorelease(string_new("Metal kernels on the CPU, for tests"));
}

static unsigned long device_working_set(void *device, void *selector)
{
    (void)device, (void)selector;
    return working_set();
}

static unsigned long device_allocated(void *device, void *selector)
{
    (void)device, (void)selector;
    return allocated;
}

static unsigned long device_buffer_bytes(void *device, void *selector)
{
    (void)device, (void)selector;
    return BUFFER_BYTES_MAX;
}

static unsigned long device_group_bytes(void *device, void *selector)
{
    (void)device, (void)selector;
    return GROUP_BYTES_MAX;
}

/* Of the families only those of the GPU that SDW_METAL_HOST_FAMILY names, 1007 for Apple7. */
static bool device_family(void *device, void *selector, long family)
{
    (void)device, (void)selector;
    const char *ours = getenv("SDW_METAL_HOST_FAMILY");
    return ours && family >= 1001 && family <= atol(ours);
}

static bool device_unified(void *device, void *selector)
{
    (void)device, (void)selector;
    return true;
}

static void *device_buffer(void *device, void *selector, unsigned long length,
                           unsigned long options)
{
    (void)device, (void)selector;
    if (length == 0 || length > BUFFER_BYTES_MAX)
        host_die("newBufferWithLength: %lu bytes; 1 to %lu are allowed", length, BUFFER_BYTES_MAX);
    if (options != 0)
        host_die("newBufferWithLength: options %lu, not MTLResourceStorageModeShared", options);
    if (allocated + length > working_set())
        return NULL;
    struct buffer *buffer = host_new(&buffer_class);
    buffer->length = length;
    buffer->mapped = (length + 2 * PAGE - 1) / PAGE * PAGE;
    buffer->pages = mmap(NULL, buffer->mapped, PROT_READ | PROT_WRITE,
                         MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (buffer->pages == MAP_FAILED)
        host_die("no memory for a buffer of %lu bytes", length);
    mprotect(buffer->pages + buffer->mapped - PAGE, PAGE, PROT_NONE);
    buffer->contents = buffer->pages + buffer->mapped - PAGE - (length + 255) / 256 * 256;
    if (length < 64 << 20) /* scratch memory of gigabytes stays as the system gives it */
        memset(buffer->contents, 0xff, length);
    allocated += length;
    return buffer;
}

/* Somebody else's pages, which Metal takes in whole: what its validation asks. */
static void *device_buffer_map(void *device, void *selector, char *bytes, unsigned long length,
                               unsigned long options, void *deallocator)
{
    (void)device, (void)selector;
    unsigned long page = (unsigned long)sysconf(_SC_PAGESIZE);
    if (!bytes || (uintptr_t)bytes % page != 0 || length % page != 0)
        host_die("newBufferWithBytesNoCopy: %p and %lu bytes are not whole pages of %lu",
                 (void *)bytes, length, page);
    if (length == 0 || length > BUFFER_BYTES_MAX || options != 0)
        host_die("newBufferWithBytesNoCopy: %lu bytes with options %lu", length, options);
    if (deallocator)
        host_die("newBufferWithBytesNoCopy: a deallocator, and there are no blocks here");
    if (metal_host_faulty("map") || allocated + length > working_set())
        return NULL;
    struct buffer *buffer = host_new(&buffer_class);
    buffer->length = length;
    buffer->contents = bytes;
    allocated += length;
    return buffer;
}

static void buffer_free(struct host_object *object)
{
    struct buffer *buffer = (struct buffer *)object;
    if (buffer->pages)
        munmap(buffer->pages, buffer->mapped);
    allocated -= buffer->length;
}

static void *buffer_contents(struct buffer *buffer, void *selector)
{
    (void)selector;
    return buffer->contents;
}

static void *device_library(void *device, void *selector, struct string *source,
                            struct options *options, void **error)
{
    (void)device, (void)selector;
    host_expect(source, &string_class, "newLibraryWithSource:");
    host_expect(options, &options_class, "newLibraryWithSource:options:");
    if (options->fast_math)
        host_die("fast math is on, which is not what the kernels run with here");
    const char *fault = host_source_fault(source->text);
    if (metal_host_faulty("compile") || (metal_host_faulty("simdgroups") &&
                                         host_source_defines(source->text, "SDW_METAL_SIMDGROUPS")))
        fault = "this compiler was told to fail";
    if (host_source_defines(source->text, "SDW_METAL_BF16") && options->language < LANGUAGE_3_1)
        fault = "unknown type name 'bfloat'";
    if (fault)
        return metal_host_fail(error, fault);
    struct library *library = host_new(&library_class);
    library->source = strdup(source->text);
    return library;
}

static void library_free(struct host_object *object)
{
    free(((struct library *)object)->source);
}

static void options_fast_math(struct options *options, void *selector, bool on)
{
    (void)selector;
    options->fast_math = on;
}

static void options_language(struct options *options, void *selector, unsigned long version)
{
    (void)selector;
    unsigned long major = version >> 16, minor = version & 0xffff;
    if (major < 1 || major > 3 || minor > 4)
        host_die("setLanguageVersion: %lu is no MTLLanguageVersion", version);
    if (version >= LANGUAGE_3_1 && macos() < 14)
        host_die("setLanguageVersion: macOS %ld does not know %lu.%lu", macos(), major, minor);
    options->language = version;
}

static const struct metal_host_kernel *find_kernel(const char *source, const char *name)
{
    bool simdgroups = host_source_defines(source, "SDW_METAL_SIMDGROUPS");
    if (host_source_defines(source, "SDW_METAL_BF16"))
        return simdgroups ? metal_host_kernel_find_simdgroups_bf16(name)
                          : metal_host_kernel_find_bf16(name);
    return simdgroups ? metal_host_kernel_find_simdgroups(name) : metal_host_kernel_find(name);
}

static void *library_function(struct library *library, void *selector, struct string *name)
{
    (void)selector;
    host_expect(name, &string_class, "newFunctionWithName:");
    const struct metal_host_kernel *kernel = find_kernel(library->source, name->text);
    if (!kernel || !host_source_has(library->source, kernel))
        return NULL;
    struct function *function = host_new(&function_class);
    function->kernel = kernel;
    return function;
}

static void *device_pipeline(void *device, void *selector, struct function *function, void **error)
{
    (void)device, (void)selector, (void)error;
    host_expect(function, &function_class, "newComputePipelineStateWithFunction:");
    struct function *pipeline = host_new(&pipeline_class);
    pipeline->kernel = function->kernel;
    return pipeline;
}

static unsigned long pipeline_width(void *pipeline, void *selector)
{
    (void)pipeline, (void)selector;
    return LOCKSTEP_LANES;
}

static unsigned long pipeline_threads(void *pipeline, void *selector)
{
    (void)pipeline, (void)selector;
    return THREADS_MAX;
}

/* The classes, protocols' among them. Encodings are what the types in Apple's headers encode to. */

static const struct host_method string_class_methods[] = {
    HOST_METHOD("stringWithUTF8String:", "@@:r*", string_of), EVERY_OBJECT};
static const struct host_class string_meta = {.name = "NSString class",
                                              .methods = string_class_methods};
static const struct host_method string_methods[] = {HOST_METHOD("UTF8String", "r*@:", string_utf8),
                                                    EVERY_OBJECT};
const struct host_class string_class = {
    {&string_meta, 1, NULL}, "NSString", string_methods, sizeof(struct string), string_free};

static const struct host_method error_methods[] = {
    HOST_METHOD("localizedDescription", "@@:", error_description), EVERY_OBJECT};
const struct host_class error_class = {
    {NULL, 1, NULL}, "NSError", error_methods, sizeof(struct string), string_free};

static const struct host_method process_class_methods[] = {
    HOST_METHOD("processInfo", "@@:", process_of), EVERY_OBJECT};
static const struct host_class process_meta = {.name = "NSProcessInfo class",
                                               .methods = process_class_methods};
static const struct host_method process_methods[] = {
    HOST_METHOD("isOperatingSystemAtLeastVersion:", "B@:{?=qqq}", process_system), EVERY_OBJECT};
const struct host_class process_class = {
    {&process_meta, 1, NULL}, "NSProcessInfo", process_methods, sizeof(struct host_object), NULL};

static const struct host_method options_class_methods[] = {
    HOST_METHOD("alloc", "@@:", object_alloc), EVERY_OBJECT};
static const struct host_class options_meta = {.name = "MTLCompileOptions class",
                                               .methods = options_class_methods};
static const struct host_method options_methods[] = {
    HOST_METHOD("init", "@@:", options_init),
    HOST_METHOD("setFastMathEnabled:", "v@:B", options_fast_math),
    HOST_METHOD("setLanguageVersion:", "v@:Q", options_language), EVERY_OBJECT};
const struct host_class options_class = {
    {&options_meta, 1, NULL}, "MTLCompileOptions", options_methods, sizeof(struct options), NULL};

static const struct host_method device_methods[] = {
    HOST_METHOD("name", "@@:", device_name),
    HOST_METHOD("supportsFamily:", "B@:q", device_family),
    HOST_METHOD("hasUnifiedMemory", "B@:", device_unified),
    HOST_METHOD("recommendedMaxWorkingSetSize", "Q@:", device_working_set),
    HOST_METHOD("currentAllocatedSize", "Q@:", device_allocated),
    HOST_METHOD("maxBufferLength", "Q@:", device_buffer_bytes),
    HOST_METHOD("maxThreadgroupMemoryLength", "Q@:", device_group_bytes),
    HOST_METHOD("newCommandQueue", "@@:", metal_host_queue),
    HOST_METHOD("newBufferWithLength:options:", "@@:QQ", device_buffer),
    HOST_METHOD("newBufferWithBytesNoCopy:length:options:deallocator:", "@@:^vQQ@?",
                device_buffer_map),
    HOST_METHOD("newLibraryWithSource:options:error:", "@@:@@^@", device_library),
    HOST_METHOD("newComputePipelineStateWithFunction:error:", "@@:@^@", device_pipeline),
    EVERY_OBJECT};
const struct host_class device_class = {
    {NULL, 1, NULL}, "MTLDevice", device_methods, sizeof(struct host_object), NULL};

static const struct host_method library_methods[] = {
    HOST_METHOD("newFunctionWithName:", "@@:@", library_function), EVERY_OBJECT};
const struct host_class library_class = {
    {NULL, 1, NULL}, "MTLLibrary", library_methods, sizeof(struct library), library_free};

static const struct host_method function_methods[] = {EVERY_OBJECT};
const struct host_class function_class = {
    {NULL, 1, NULL}, "MTLFunction", function_methods, sizeof(struct function), NULL};

static const struct host_method pipeline_methods[] = {
    HOST_METHOD("maxTotalThreadsPerThreadgroup", "Q@:", pipeline_threads),
    HOST_METHOD("threadExecutionWidth", "Q@:", pipeline_width), EVERY_OBJECT};
const struct host_class pipeline_class = {
    {NULL, 1, NULL}, "MTLComputePipelineState", pipeline_methods, sizeof(struct function), NULL};

static const struct host_method buffer_methods[] = {
    HOST_METHOD("contents", "^v@:", buffer_contents), EVERY_OBJECT};
const struct host_class buffer_class = {
    {NULL, 1, NULL}, "MTLBuffer", buffer_methods, sizeof(struct buffer), buffer_free};

const struct host_class *const host_classes[] = {&string_class,   &process_class,  &error_class,
                                                 &options_class,  &device_class,   &library_class,
                                                 &function_class, &pipeline_class, &buffer_class,
                                                 &queue_class,    &commands_class, &encoder_class};
const int host_class_count = sizeof host_classes / sizeof host_classes[0];

__attribute__((visibility("default"))) void *MTLCreateSystemDefaultDevice(void);
void *MTLCreateSystemDefaultDevice(void)
{
    return metal_host_faulty("device") ? NULL : host_new(&device_class);
}
