/* device.c: the life of a Metal device, and its queue. Dispatches are gathered into a command
 * buffer, which is handed over when somebody waits: a step of a model is one, since every hand-over
 * costs and encoding is nothing beside the arithmetic. The bounds stand in metal.h. */
#include "backend/metal/metal.h"

#include "base/log.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Values of Metal's enumerations, docs/metal.md. */
#define LANGUAGE_2_3     ((2ul << 16) + 3) /* MTLLanguageVersion2_3: macOS 11 */
#define LANGUAGE_3_1     ((3ul << 16) + 1) /* MTLLanguageVersion3_1: macOS 14 */
#define STATUS_COMPLETED 4ul               /* MTLCommandBufferStatusCompleted */
#define FAMILY_APPLE_6   1006l             /* MTLGPUFamilyApple6 */
#define FAMILY_APPLE_7   1007l             /* MTLGPUFamilyApple7: M1 and later */
#define SIMDGROUP        32ul              /* threads, where matrix.metal uses simdgroups */

static_assert(SDW_METAL_F32 == SDW_F32, "params.h names the type");
static_assert(SDW_METAL_SILU == SDW_ACT_SILU && SDW_METAL_GELU == SDW_ACT_GELU &&
                  SDW_METAL_QUICK_GELU == SDW_ACT_QUICK_GELU,
              "params.h names the activations");

static const char *const kernel_names[] = {
#define SDW_METAL_KERNEL(name) #name,
    SDW_METAL_KERNELS(SDW_METAL_KERNEL) SDW_METAL_KERNELS_SIMDGROUPS(SDW_METAL_KERNEL)
#undef SDW_METAL_KERNEL
};

/* The text of an NSString, or of what an NSError says. Valid in the current pool. */
static const char *text_of(const struct sdw_objc *objc, void *string)
{
    const char *text = string ? SDW_TELL(objc, string, utf8) : NULL;
    return text ? text : "no reason given";
}

static const char *reason(const struct sdw_objc *objc, void *error)
{
    return text_of(objc, error ? SDW_TELL(objc, error, description) : NULL);
}

static bool begin(struct sdw_metal *metal)
{
    const struct sdw_objc *objc = &metal->objc;
    if (metal->encoder)
        return true;
    void *pool = objc->pool_push();
    void *commands = SDW_TELL(objc, metal->queue, command_buffer);
    void *encoder = SDW_TELL(objc, commands, encoder);
    if (encoder) { /* both belong to the pool: what outlives it must be kept */
        metal->commands = SDW_TELL(objc, commands, retain);
        metal->encoder = SDW_TELL(objc, encoder, retain);
        metal->encoded = 0;
        metal->operations = 0;
    } else {
        sdw_device_fail(&metal->base, SDW_DEVICE, "%s: Metal gives no command encoder",
                        metal->base.id);
    }
    objc->pool_pop(pool);
    return metal->encoder != NULL;
}

/* Waits for the oldest command buffer in flight. */
static void wait_oldest(struct sdw_metal *metal)
{
    const struct sdw_objc *objc = &metal->objc;
    void *commands = metal->in_flight[0];
    SDW_TELL(objc, commands, wait);
    unsigned long status = SDW_TELL(objc, commands, status);
    if (status != STATUS_COMPLETED) {
        void *pool = objc->pool_push();
        sdw_device_fail(&metal->base, SDW_DEVICE, "%s: a command buffer ended with status %lu: %s",
                        metal->base.id, status, reason(objc, SDW_TELL(objc, commands, error)));
        objc->pool_pop(pool);
    }
    SDW_TELL(objc, commands, release);
    metal->in_flight_count--;
    for (int i = 0; i < metal->in_flight_count; i++)
        metal->in_flight[i] = metal->in_flight[i + 1];
}

/* Hands what was encoded to the GPU. */
static void commit(struct sdw_metal *metal)
{
    const struct sdw_objc *objc = &metal->objc;
    if (!metal->encoder)
        return;
    if (metal->in_flight_count == SDW_METAL_IN_FLIGHT_MAX)
        wait_oldest(metal);
    SDW_TELL(objc, metal->encoder, end);
    SDW_TELL(objc, metal->encoder, release);
    SDW_TELL(objc, metal->commands, commit);
    metal->in_flight[metal->in_flight_count++] = metal->commands;
    metal->encoder = metal->commands = NULL;
}

static void sync_device(struct sdw_device *dev)
{
    struct sdw_metal *metal = (struct sdw_metal *)dev;
    commit(metal);
    while (metal->in_flight_count > 0)
        wait_oldest(metal);
}

/* Scratch memory is used over and over: what is queued may still read what `to` held before. */
static void upload(struct sdw_device *dev, void *to, const void *from_host, size_t bytes)
{
    sync_device(dev);
    memcpy(to, from_host, bytes);
}

static void download(struct sdw_device *dev, void *to_host, const void *from, size_t bytes)
{
    sync_device(dev);
    if (!dev->failure.status)
        memcpy(to_host, from, bytes);
}

static bool bind_buffers(struct sdw_metal *metal, const struct sdw_metal_dispatch *d)
{
    const struct sdw_objc *objc = &metal->objc;
    for (int i = 0; i < d->buffers; i++) {
        const struct sdw_metal_buffer *buffer = sdw_metal_buffer_of(metal, d->buffer[i]);
        if (!buffer) {
            sdw_device_fail(&metal->base, SDW_INTERNAL, "%s: operand %d of %s is not on the device",
                            metal->base.id, i, kernel_names[d->kernel]);
            return false;
        }
        size_t offset = buffer->lead + (size_t)((const char *)d->buffer[i] - buffer->contents);
        SDW_SEND(objc, metal->encoder, set_buffer, buffer->object, offset, (unsigned long)i);
    }
    return true;
}

void sdw_metal_run(struct sdw_device *dev, const struct sdw_metal_dispatch *d)
{
    struct sdw_metal *metal = (struct sdw_metal *)dev;
    const struct sdw_objc *objc = &metal->objc;
    if (d->group_bytes > metal->group_bytes_max) {
        sdw_device_fail(dev, SDW_DEVICE,
                        "%s: %s needs %zu bytes of threadgroup memory, there are %lu", dev->id,
                        kernel_names[d->kernel], d->group_bytes, metal->group_bytes_max);
        return;
    }
    if (metal->encoded == SDW_METAL_DISPATCHES_MAX ||
        metal->operations + d->operations > metal->operations_max)
        commit(metal);
    if (!begin(metal) || !bind_buffers(metal, d))
        return;
    SDW_SEND(objc, metal->encoder, set_pipeline, metal->pipeline[d->kernel]);
    SDW_SEND(objc, metal->encoder, set_bytes, d->params, d->params_bytes,
             (unsigned long)d->buffers);
    if (d->group_bytes)
        SDW_SEND(objc, metal->encoder, set_group_bytes, (d->group_bytes + 15) & ~(size_t)15, 0ul);
    struct sdw_mtl_size groups = {d->groups_x, d->groups_y, d->groups_z};
    SDW_SEND(objc, metal->encoder, dispatch, groups,
             ((struct sdw_mtl_size){SDW_METAL_THREADS, 1, 1}));
    metal->encoded++;
    metal->operations += d->operations;
}

static void release_pipelines(struct sdw_metal *metal)
{
    for (int i = 0; i < SDW_METAL_KERNEL_COUNT; i++) {
        SDW_TELL(&metal->objc, metal->pipeline[i], release); /* NULL takes it, too */
        metal->pipeline[i] = NULL;
    }
}

static void close_device(struct sdw_device *dev)
{
    struct sdw_metal *metal = (struct sdw_metal *)dev;
    const struct sdw_objc *objc = &metal->objc;
    if (metal->device) {
        sync_device(dev);
        release_pipelines(metal);
        if (metal->queue)
            SDW_TELL(objc, metal->queue, release);
        SDW_TELL(objc, metal->device, release);
    }
    sdw_objc_close(&metal->objc);
    free(metal->buffer);
    free(metal);
}

static const struct sdw_ops ops = {.name = "metal",
                                   .beside = true,
                                   .buffer_new = sdw_metal_buffer_new,
                                   .buffer_free = sdw_metal_buffer_free,
                                   .upload = upload,
                                   .download = download,
                                   .memory_free = sdw_metal_memory_free,
                                   .pack_linear = sdw_metal_pack_linear,
                                   .pack_conv = sdw_metal_pack_conv,
                                   .weight_free = sdw_metal_weight_free,
                                   .sync = sync_device,
                                   .close = close_device,
#define SDW_METAL_ROW(row, arguments) .row = sdw_metal_##row,
                                   SDW_OPS_TABLE(SDW_METAL_ROW)
#undef SDW_METAL_ROW
};

/* The library of all kernels, from a text. Belongs to the caller. */
static void *compile_text(struct sdw_metal *metal, const char *text, struct sdw_error *err)
{
    const struct sdw_objc *objc = &metal->objc;
    void *pool = objc->pool_push(), *error = NULL;
    void *options = objc->class_named("MTLCompileOptions");
    options = SDW_TELL(objc, SDW_TELL(objc, options, alloc), init);
    SDW_SEND(objc, options, set_fast_math, false); /* exp and division as IEEE has them */
    SDW_SEND(objc, options, set_language,
             metal->base.compute == SDW_BF16 ? LANGUAGE_3_1 : LANGUAGE_2_3);
    void *source = SDW_SEND(objc, objc->class_named("NSString"), string, text);
    void *library = SDW_SEND(objc, metal->device, library_new, source, options, &error);
    if (!library)
        sdw_fail(err, SDW_DEVICE, "Metal cannot compile the kernels: %.300s", reason(objc, error));
    SDW_TELL(objc, options, release);
    objc->pool_pop(pool);
    return library;
}

static void *compile(struct sdw_metal *metal, bool simdgroups, struct sdw_error *err)
{
    const char *matrices = simdgroups ? "#define SDW_METAL_SIMDGROUPS\n" : "";
    const char *narrow = metal->base.compute == SDW_BF16 ? "#define SDW_METAL_BF16\n" : "";
    size_t size = strlen(matrices) + strlen(narrow) + sdw_metal_source_length + 1;
    char *text = malloc(size);
    if (!text) {
        sdw_fail(err, SDW_MEMORY, "no memory for the kernels' source");
        return NULL;
    }
    snprintf(text, size, "%s%s%s", matrices, narrow, (const char *)sdw_metal_source);
    void *library = compile_text(metal, text, err);
    free(text);
    return library;
}

static enum sdw_status make_pipeline(struct sdw_metal *metal, void *library, int kernel,
                                     bool simdgroups, struct sdw_error *err)
{
    const struct sdw_objc *objc = &metal->objc;
    void *name = SDW_SEND(objc, objc->class_named("NSString"), string, kernel_names[kernel]);
    void *function = SDW_SEND(objc, library, function_new, name), *error = NULL;
    if (!function)
        return sdw_fail(err, SDW_DEVICE, "the compiled kernels have no %s", kernel_names[kernel]);
    void *pipeline = SDW_SEND(objc, metal->device, pipeline_new, function, &error);
    SDW_TELL(objc, function, release);
    metal->pipeline[kernel] = pipeline;
    if (!pipeline)
        return sdw_fail(err, SDW_DEVICE, "Metal makes no pipeline of %s: %.300s",
                        kernel_names[kernel], reason(objc, error));
    unsigned long threads_max = SDW_TELL(objc, pipeline, threads_max);
    if (threads_max < SDW_METAL_THREADS)
        return sdw_fail(err, SDW_DEVICE, "this GPU runs %lu threads of %s in a group; it takes %d",
                        threads_max, kernel_names[kernel], SDW_METAL_THREADS);
    unsigned long lanes = SDW_TELL(objc, pipeline, lanes);
    if (simdgroups && lanes != SIMDGROUP)
        return sdw_fail(err, SDW_DEVICE, "the simdgroups of this GPU have %lu threads, not %lu",
                        lanes, SIMDGROUP);
    return SDW_OK;
}

static enum sdw_status make_pipelines(struct sdw_metal *metal, bool simdgroups,
                                      struct sdw_error *err)
{
    const struct sdw_objc *objc = &metal->objc;
    void *library = compile(metal, simdgroups, err);
    if (!library)
        return SDW_DEVICE;
    void *pool = objc->pool_push();
    enum sdw_status status = SDW_OK;
    int count = simdgroups ? SDW_METAL_KERNEL_COUNT : SDW_METAL_KERNEL_COUNT_PLAIN;
    for (int i = 0; i < count && !status; i++)
        status = make_pipeline(metal, library, i, simdgroups, err);
    objc->pool_pop(pool);
    SDW_TELL(objc, library, release);
    return status;
}

/* Simdgroup matrices where the GPU has them. They are the part of the kernels that depends most on
 * the hardware: should they fail there, the plain form is slower and no less right. */
static enum sdw_status make_kernels(struct sdw_metal *metal, struct sdw_error *err)
{
    struct sdw_error why;
    bool simdgroups = SDW_SEND(&metal->objc, metal->device, family, FAMILY_APPLE_7);
    if (simdgroups && make_pipelines(metal, true, &why)) {
        sdw_log_warn("%s; matrices are multiplied without simdgroups", why.message);
        release_pipelines(metal);
        simdgroups = false;
    }
    snprintf(metal->base.kernels, sizeof metal->base.kernels,
             "linear, conv2d: %s, implicit; attention: flash%s; all in Metal Shading Language %s",
             simdgroups ? "simdgroup matrices" : "tiled", simdgroups ? ", simdgroup matrices" : "",
             metal->base.compute == SDW_BF16 ? "3.1" : "2.3");
    metal->simdgroups = simdgroups;
    metal->operations_max = simdgroups ? SDW_METAL_OPERATIONS_MAX : SDW_METAL_OPERATIONS_MAX_SLOWER;
    return simdgroups ? SDW_OK : make_pipelines(metal, false, err);
}

static void describe(struct sdw_metal *metal, int index)
{
    const struct sdw_objc *objc = &metal->objc;
    struct sdw_device *dev = &metal->base;
    void *pool = objc->pool_push();
    snprintf(dev->id, sizeof dev->id, "metal:%d", index);
    snprintf(dev->description, sizeof dev->description, "%s, %lu MB%s",
             text_of(objc, SDW_TELL(objc, metal->device, name)),
             SDW_TELL(objc, metal->device, working_set) >> 20,
             metal->unified ? " of unified memory" : "");
    objc->pool_pop(pool);
}

/* bfloat came with language version 3.1, and Apple's tables have it from family 6 on. */
static bool has_bf16(const struct sdw_metal *metal)
{
    const struct sdw_objc *objc = &metal->objc;
    void *pool = objc->pool_push();
    void *process = SDW_TELL(objc, objc->class_named("NSProcessInfo"), process);
    bool has = SDW_SEND(objc, metal->device, family, FAMILY_APPLE_6) &&
               SDW_SEND(objc, process, system_is, ((struct sdw_ns_version){14, 0, 0}));
    objc->pool_pop(pool);
    return has;
}

static enum sdw_status open_metal(struct sdw_metal *metal, const struct sdw_device_options *options,
                                  struct sdw_error *err)
{
    enum sdw_status status = sdw_objc_open(&metal->objc, err);
    if (status)
        return status;
    const struct sdw_objc *objc = &metal->objc;
    metal->device = objc->default_device();
    if (!metal->device)
        return sdw_fail(err, SDW_DEVICE,
                        "Metal is not available: this Mac has no GPU that supports it; use "
                        "sd-worker-cpu, or --fallback cpu");
    if (options->index != 0)
        return sdw_fail(err, SDW_DEVICE, "the system's GPU is metal:0; there is no metal:%d",
                        options->index);
    if (options->dtype == SDW_BF16 && !has_bf16(metal))
        return sdw_fail(err, SDW_DEVICE,
                        "bf16 takes an Apple GPU and macOS 14 (Metal Shading Language 3.1); use "
                        "--dtype f16 or f32");
    metal->base.compute = options->dtype == SDW_F32    ? SDW_F32
                          : options->dtype == SDW_BF16 ? SDW_BF16
                                                       : SDW_F16;
    metal->base.stream = SDW_F32;
    metal->group_bytes_max = SDW_TELL(objc, metal->device, group_bytes_max);
    metal->buffer_bytes_max = SDW_TELL(objc, metal->device, buffer_bytes_max);
    metal->unified = SDW_TELL(objc, metal->device, unified);
    metal->queue = SDW_TELL(objc, metal->device, queue_new);
    if (!metal->queue)
        return sdw_fail(err, SDW_DEVICE, "Metal gives no command queue");
    describe(metal, options->index);
    return make_kernels(metal, err);
}

static enum sdw_status open_device(struct sdw_device **dev,
                                   const struct sdw_device_options *options, struct sdw_error *err)
{
    *dev = NULL;
    struct sdw_metal *metal = calloc(1, sizeof *metal);
    if (!metal)
        return sdw_fail(err, SDW_MEMORY, "no memory for a device");
    sdw_device_init(&metal->base, &ops);
    enum sdw_status status = open_metal(metal, options, err);
    if (status)
        close_device(&metal->base);
    else
        *dev = &metal->base;
    return status;
}

const struct sdw_backend sdw_backend_metal = {"metal", open_device};
