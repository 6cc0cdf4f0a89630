/* metal.c: as much of Metal as the backend uses, over the kernels compiled for this machine.
 *
 * It is strict where Metal is lenient or silent: command buffers run when somebody waits for them
 * and not before, so that a wait that is missing shows; fresh memory is full of NaN; buffers end at
 * a page that may not be touched; what Metal's validation layer refuses ends the program with a
 * sentence. */
#include "host.h"
#include "lockstep/lockstep.h"
#include "objects.h"
#include "source.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/* Metal Feature Set Tables, Apple7: bytes of a threadgroup, of setBytes, alignment. */
#define GROUP_BYTES_MAX  32768ul
#define SET_BYTES_MAX    4096ul
#define GROUP_ALIGN      16ul
#define THREADS_MAX      512ul /* of our pipelines; Apple's limit of 1024 shrinks with registers */
#define BUFFER_BYTES_MAX (4ul << 30)
#define WORKING_SET      (8ul << 30)
#define PAGE             4096ul

struct size {
    unsigned long width, height, depth;
};

struct string {
    struct host_object object;
    char *text;
};

struct buffer {
    struct host_object object;
    char *pages, *contents; /* pages: NULL when they are somebody else's */
    size_t length, mapped;
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

struct function { /* and the pipeline made of it */
    struct host_object object;
    const struct metal_host_kernel *kernel;
};

struct queue {
    struct host_object object;
    struct commands *first, **last; /* committed and not yet run; each holds a reference */
};

struct binding {
    struct buffer *buffer; /* a reference, or NULL */
    size_t offset, bytes_length;
    unsigned char bytes[256]; /* setBytes */
};

struct command {
    const struct metal_host_kernel *kernel;
    struct binding binding[METAL_HOST_BUFFERS_MAX];
    size_t group_bytes;
    struct size groups, threads;
    struct command *next;
};

struct commands {
    struct host_object object;
    struct queue *queue;
    struct encoder *open;
    unsigned long status;
    struct command *first, **last;
    struct commands *next; /* in the queue */
};

struct encoder {
    struct host_object object;
    struct commands *commands;
    bool ended;
    struct command state; /* what the next dispatch would run */
};

extern const struct host_class string_class, error_class, device_class, options_class,
    library_class, function_class, pipeline_class, buffer_class, queue_class, commands_class,
    encoder_class;

static size_t allocated;

/* SDW_METAL_HOST_FAULT names something that goes wrong: device, compile, simdgroups, memory, map,
 * commands. */
static bool faulty(const char *name)
{
    const char *fault = getenv("SDW_METAL_HOST_FAULT");
    return fault && strcmp(fault, name) == 0;
}

static size_t working_set(void)
{
    return faulty("memory") ? (size_t)24 << 20 : WORKING_SET;
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
static void *fail(void **error, const char *text)
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

static void *object_retain(void *object, void *selector)
{
    (void)selector;
    return host_retain(object);
}

static void object_release(void *object, void *selector)
{
    (void)selector;
    host_release(object);
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

static void *device_queue(void *device, void *selector)
{
    (void)device, (void)selector;
    struct queue *queue = host_new(&queue_class);
    queue->last = &queue->first;
    return queue;
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
        host_die("newBufferWithBytesNoCopy: %p and %lu bytes are not whole pages of %lu", bytes,
                 length, page);
    if (length == 0 || length > BUFFER_BYTES_MAX || options != 0)
        host_die("newBufferWithBytesNoCopy: %lu bytes with options %lu", length, options);
    if (deallocator)
        host_die("newBufferWithBytesNoCopy: a deallocator, and there are no blocks here");
    if (faulty("map") || allocated + length > working_set())
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
    if (faulty("compile") || (faulty("simdgroups") && host_source_simdgroups(source->text)))
        fault = "this compiler was told to fail";
    if (fault)
        return fail(error, fault);
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
    if (major < 1 || major > 4 || minor > 4)
        host_die("setLanguageVersion: %lu is no MTLLanguageVersion", version);
    options->language = version;
}

static void *library_function(struct library *library, void *selector, struct string *name)
{
    (void)selector;
    host_expect(name, &string_class, "newFunctionWithName:");
    const struct metal_host_kernel *kernel = host_source_simdgroups(library->source)
                                                 ? metal_host_kernel_find_simdgroups(name->text)
                                                 : metal_host_kernel_find(name->text);
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

/* MTLCommandQueue and MTLCommandBuffer */

static void *queue_commands(struct queue *queue, void *selector)
{
    (void)selector;
    struct commands *commands = host_new(&commands_class);
    commands->queue = host_retain(queue);
    commands->last = &commands->first;
    return host_autorelease(commands);
}

static void unbind(struct command *command)
{
    for (int i = 0; i < METAL_HOST_BUFFERS_MAX; i++)
        host_release(command->binding[i].buffer);
}

static void commands_free(struct host_object *object)
{
    struct commands *commands = (struct commands *)object;
    if (commands->open)
        host_die("a command buffer is freed while an encoder of it is open");
    while (commands->first) {
        struct command *next = commands->first->next;
        unbind(commands->first);
        free(commands->first);
        commands->first = next;
    }
    host_release(commands->queue);
}

static void *commands_encoder(struct commands *commands, void *selector)
{
    (void)selector;
    if (commands->status != 0)
        host_die("computeCommandEncoder of a command buffer that was committed");
    if (commands->open)
        host_die("computeCommandEncoder while another encoder is open");
    struct encoder *encoder = host_new(&encoder_class);
    encoder->commands = commands; /* which outlives it */
    commands->open = encoder;
    return host_autorelease(encoder);
}

static void commands_commit(struct commands *commands, void *selector)
{
    (void)selector;
    if (commands->open)
        host_die("commit before endEncoding");
    if (commands->status != 0)
        host_die("a command buffer is committed twice");
    commands->status = 2; /* MTLCommandBufferStatusCommitted */
    *commands->queue->last = host_retain(commands);
    commands->queue->last = &commands->next;
}

struct group {
    const struct command *command;
    struct metal_host_arguments arguments;
};

static void one_thread(void *context, int index)
{
    const struct group *group = context;
    const struct size *threads = &group->command->threads;
    struct metal_host_arguments arguments = group->arguments;
    arguments.index = (uint32_t)index;
    arguments.thread[0] = (uint32_t)((unsigned long)index % threads->width);
    arguments.thread[1] = (uint32_t)((unsigned long)index / threads->width % threads->height);
    arguments.thread[2] = (uint32_t)((unsigned long)index / threads->width / threads->height);
    group->command->kernel->run(&arguments);
}

static void run_group(struct group *group)
{
    const struct command *command = group->command;
    int threads = (int)(command->threads.width * command->threads.height * command->threads.depth);
    if (!command->kernel->uses_threadgroup) { /* nothing shared, so no barriers */
        for (int i = 0; i < threads; i++)
            one_thread(group, i);
        return;
    }
    group->arguments.threadgroup = malloc(command->group_bytes);
    if (!group->arguments.threadgroup)
        host_die("no memory for a threadgroup");
    memset(group->arguments.threadgroup, 0xff, command->group_bytes);
    lockstep_run(threads, one_thread, group);
    free(group->arguments.threadgroup);
}

static void run_command(const struct command *command)
{
    struct group group = {.command = command};
    for (int i = 0; i < command->kernel->buffers; i++) {
        const struct binding *binding = &command->binding[i];
        group.arguments.buffer[i] =
            binding->buffer ? binding->buffer->contents + binding->offset : (void *)binding->bytes;
    }
    uint32_t *at = group.arguments.group;
    for (at[2] = 0; at[2] < command->groups.depth; at[2]++)
        for (at[1] = 0; at[1] < command->groups.height; at[1]++)
            for (at[0] = 0; at[0] < command->groups.width; at[0]++)
                run_group(&group);
}

/* Runs what was committed to the queue, in order, up to and with these. */
static void commands_wait(struct commands *commands, void *selector)
{
    (void)selector;
    struct queue *queue = commands->queue;
    if (commands->status == 0)
        host_die("waitUntilCompleted of a command buffer that was not committed: it would hang");
    while (commands->status == 2) {
        struct commands *next = queue->first;
        for (const struct command *c = next->first; c && !faulty("commands"); c = c->next)
            run_command(c);
        next->status = faulty("commands") ? 5 : 4; /* MTLCommandBufferStatusError, ..Completed */
        queue->first = next->next;
        if (!queue->first)
            queue->last = &queue->first;
        host_release(next);
    }
}

static unsigned long commands_status(struct commands *commands, void *selector)
{
    (void)selector;
    return commands->status;
}

static void *commands_error(struct commands *commands, void *selector)
{
    (void)selector;
    void *error = NULL;
    if (commands->status == 5)
        fail(&error, "this GPU was told to hang");
    return error;
}

static void queue_free(struct host_object *object)
{
    if (((struct queue *)object)->first)
        host_die("a queue is freed while command buffers are in flight");
}

/* MTLComputeCommandEncoder */

static void encoding(const struct encoder *encoder, const char *what)
{
    if (encoder->ended)
        host_die("%s after endEncoding", what);
}

static struct binding *binding_at(struct encoder *encoder, unsigned long index, const char *what)
{
    encoding(encoder, what);
    if (index >= METAL_HOST_BUFFERS_MAX)
        host_die("%s: index %lu of %d", what, index, METAL_HOST_BUFFERS_MAX);
    struct binding *binding = &encoder->state.binding[index];
    host_release(binding->buffer);
    *binding = (struct binding){0};
    return binding;
}

static void encoder_pipeline(struct encoder *encoder, void *selector, struct function *pipeline)
{
    (void)selector;
    encoding(encoder, "setComputePipelineState:");
    host_expect(pipeline, &pipeline_class, "setComputePipelineState:");
    encoder->state.kernel = pipeline->kernel;
}

static void encoder_buffer(struct encoder *encoder, void *selector, struct buffer *buffer,
                           unsigned long offset, unsigned long index)
{
    (void)selector;
    host_expect(buffer, &buffer_class, "setBuffer:");
    if (offset >= buffer->length)
        host_die("setBuffer: offset %lu of a buffer of %zu bytes", offset, buffer->length);
    struct binding *binding = binding_at(encoder, index, "setBuffer:");
    binding->buffer = host_retain(buffer); /* as command buffers do unless told otherwise */
    binding->offset = offset;
}

static void encoder_bytes(struct encoder *encoder, void *selector, const void *bytes,
                          unsigned long length, unsigned long index)
{
    (void)selector;
    struct binding *binding = binding_at(encoder, index, "setBytes:");
    if (length == 0 || length > SET_BYTES_MAX || length > sizeof binding->bytes)
        host_die("setBytes: %lu bytes", length);
    memcpy(binding->bytes, bytes, length);
    binding->bytes_length = length;
}

static void encoder_group_bytes(struct encoder *encoder, void *selector, unsigned long length,
                                unsigned long index)
{
    (void)selector;
    encoding(encoder, "setThreadgroupMemoryLength:");
    if (index != 0 || length % GROUP_ALIGN != 0 || length > GROUP_BYTES_MAX)
        host_die("setThreadgroupMemoryLength: %lu bytes at %lu; up to %lu, in steps of %lu", length,
                 index, GROUP_BYTES_MAX, GROUP_ALIGN);
    encoder->state.group_bytes = length;
}

static void check_dispatch(const struct command *state)
{
    const struct metal_host_kernel *kernel = state->kernel;
    if (!kernel)
        host_die("dispatchThreadgroups: without a pipeline");
    for (int i = 0; i < kernel->buffers; i++)
        if (!state->binding[i].buffer && !state->binding[i].bytes_length)
            host_die("%s: buffer %d is not bound", kernel->name, i);
    size_t params = state->binding[kernel->buffers - 1].bytes_length;
    if (params != kernel->params_bytes)
        host_die("%s: %zu bytes of parameters where it reads %zu", kernel->name, params,
                 kernel->params_bytes);
    if (kernel->uses_threadgroup && !state->group_bytes)
        host_die("%s: no threadgroup memory", kernel->name);
    const struct size *g = &state->groups, *t = &state->threads;
    if (!g->width || !g->height || !g->depth || !t->width || !t->height || !t->depth)
        host_die("%s: an empty grid", kernel->name);
    if (t->width * t->height * t->depth > THREADS_MAX)
        host_die("%s: %lu threads in a group", kernel->name, t->width * t->height * t->depth);
}

static void encoder_dispatch(struct encoder *encoder, void *selector, struct size groups,
                             struct size threads)
{
    (void)selector;
    encoding(encoder, "dispatchThreadgroups:");
    encoder->state.groups = groups;
    encoder->state.threads = threads;
    check_dispatch(&encoder->state);
    struct command *command = malloc(sizeof *command);
    if (!command)
        host_die("no memory");
    *command = encoder->state;
    for (int i = 0; i < METAL_HOST_BUFFERS_MAX; i++)
        host_retain(command->binding[i].buffer);
    *encoder->commands->last = command;
    encoder->commands->last = &command->next;
}

static void encoder_end(struct encoder *encoder, void *selector)
{
    (void)selector;
    encoding(encoder, "endEncoding");
    encoder->ended = true;
    encoder->commands->open = NULL;
    unbind(&encoder->state);
}

static void encoder_free(struct host_object *object)
{
    if (!((struct encoder *)object)->ended)
        host_die("an encoder is freed before endEncoding");
}

/* The classes, protocols' among them. Encodings are what the types in Apple's headers encode to. */

#define EVERY_OBJECT                                                                               \
    HOST_METHOD("retain", "@@:", object_retain), HOST_METHOD("release", "v@:", object_release),    \
    {                                                                                              \
        NULL, NULL, NULL                                                                           \
    }

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
    HOST_METHOD("newCommandQueue", "@@:", device_queue),
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

static const struct host_method queue_methods[] = {
    HOST_METHOD("commandBuffer", "@@:", queue_commands), EVERY_OBJECT};
const struct host_class queue_class = {
    {NULL, 1, NULL}, "MTLCommandQueue", queue_methods, sizeof(struct queue), queue_free};

static const struct host_method commands_methods[] = {
    HOST_METHOD("computeCommandEncoder", "@@:", commands_encoder),
    HOST_METHOD("commit", "v@:", commands_commit),
    HOST_METHOD("waitUntilCompleted", "v@:", commands_wait),
    HOST_METHOD("status", "Q@:", commands_status),
    HOST_METHOD("error", "@@:", commands_error),
    EVERY_OBJECT};
const struct host_class commands_class = {
    {NULL, 1, NULL}, "MTLCommandBuffer", commands_methods, sizeof(struct commands), commands_free};

static const struct host_method encoder_methods[] = {
    HOST_METHOD("setComputePipelineState:", "v@:@", encoder_pipeline),
    HOST_METHOD("setBuffer:offset:atIndex:", "v@:@QQ", encoder_buffer),
    HOST_METHOD("setBytes:length:atIndex:", "v@:r^vQQ", encoder_bytes),
    HOST_METHOD("setThreadgroupMemoryLength:atIndex:", "v@:QQ", encoder_group_bytes),
    HOST_METHOD("dispatchThreadgroups:threadsPerThreadgroup:", "v@:{?=QQQ}{?=QQQ}",
                encoder_dispatch),
    HOST_METHOD("endEncoding", "v@:", encoder_end),
    EVERY_OBJECT};
const struct host_class encoder_class = {{NULL, 1, NULL},
                                         "MTLComputeCommandEncoder",
                                         encoder_methods,
                                         sizeof(struct encoder),
                                         encoder_free};

const struct host_class *const host_classes[] = {&string_class,   &error_class,   &options_class,
                                                 &device_class,   &library_class, &function_class,
                                                 &pipeline_class, &buffer_class,  &queue_class,
                                                 &commands_class, &encoder_class};
const int host_class_count = sizeof host_classes / sizeof host_classes[0];

__attribute__((visibility("default"))) void *MTLCreateSystemDefaultDevice(void);
void *MTLCreateSystemDefaultDevice(void)
{
    return faulty("device") ? NULL : host_new(&device_class);
}
