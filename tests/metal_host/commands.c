/* commands.c: Metal's queue, command buffers and encoders. Command buffers run when somebody waits
 * for them and not before, so that a wait that is missing shows; what Metal's validation layer
 * refuses of an encoder ends the program with a sentence. */
#include "lockstep/lockstep.h"
#include "metal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct queue {
    struct host_object object;
    struct commands *first, **last; /* committed and not yet run; each holds a reference */
    int commits;
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

/* MTLCommandQueue and MTLCommandBuffer */

void *metal_host_queue(void *device, void *selector)
{
    (void)device, (void)selector;
    struct queue *queue = host_new(&queue_class);
    queue->last = &queue->first;
    return queue;
}

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
    commands->queue->commits++;
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
        for (const struct command *c = next->first; c && !metal_host_faulty("commands");
             c = c->next)
            run_command(c);
        next->status =
            metal_host_faulty("commands") ? 5 : 4; /* MTLCommandBufferStatusError, ..Completed */
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
        metal_host_fail(&error, "this GPU was told to hang");
    return error;
}

static void queue_free(struct host_object *object)
{
    const struct queue *queue = (struct queue *)object;
    if (queue->first)
        host_die("a queue is freed while command buffers are in flight");
    if (getenv("SDW_METAL_HOST_COUNT"))
        fprintf(stderr, "metal_host: %d command buffers\n", queue->commits);
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
