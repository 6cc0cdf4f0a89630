/* loader.c: looks up, checks shapes, packs, and tells the system that the pages were read. */
#include "nn/loader.h"

#include "base/half.h"
#include "tensor/weight.h"

#include <assert.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CHUNK 65536 /* numbers converted at a time */

/* ---- what was packed ---- */

static bool note(struct sdw_pointers *list, void *entry)
{
    if (list->count == list->capacity) {
        int more = list->capacity ? 2 * list->capacity : 64;
        void **grown = realloc(list->entry, (size_t)more * sizeof *grown);
        if (!grown)
            return false;
        list->entry = grown;
        list->capacity = more;
    }
    list->entry[list->count++] = entry;
    return true;
}

void sdw_parameters_free(struct sdw_parameters *parameters)
{
    struct sdw_device *dev = parameters->dev;
    for (int i = 0; i < parameters->weights.count; i++)
        dev->ops->weight_free(dev, parameters->weights.entry[i]);
    for (int i = 0; i < parameters->buffers.count; i++)
        dev->ops->buffer_free(dev, parameters->buffers.entry[i]);
    free(parameters->weights.entry);
    free(parameters->buffers.entry);
    *parameters = (struct sdw_parameters){0};
}

/* ---- life ---- */

void sdw_loader_init(struct sdw_loader *loader, struct sdw_device *dev,
                     const struct sdw_weights *weights, struct sdw_parameters *parameters)
{
    *loader = (struct sdw_loader){.dev = dev, .weights = weights, .parameters = parameters};
    parameters->dev = dev;
}

enum sdw_status sdw_loader_finish(struct sdw_loader *loader, struct sdw_error *err)
{
    struct sdw_error device = {0};
    enum sdw_status status = sdw_sync(loader->dev, &device);
    if (loader->error.status)
        return sdw_fail(err, loader->error.status, "%s", loader->error.message);
    return status ? sdw_fail(err, status, "%s", device.message) : SDW_OK;
}

static bool failed(const struct sdw_loader *loader)
{
    return loader->error.status || loader->dev->failure.status;
}

void sdw_loader_out_of_memory(struct sdw_loader *loader)
{
    if (!loader->error.status)
        sdw_fail(&loader->error, SDW_MEMORY, "no memory to load %s",
                 loader->weights ? sdw_weights_path(loader->weights) : "a model");
}

size_t sdw_loader_enter(struct sdw_loader *loader, const char *format, ...)
{
    size_t mark = strlen(loader->prefix);
    va_list args;
    va_start(args, format);
    vsnprintf(loader->prefix + mark, sizeof loader->prefix - mark, format, args);
    va_end(args);
    size_t end = strlen(loader->prefix);
    assert(end + 2 < sizeof loader->prefix && "names come from our own models");
    strcpy(loader->prefix + end, ".");
    return mark;
}

void sdw_loader_leave(struct sdw_loader *loader, size_t mark)
{
    loader->prefix[mark] = '\0';
}

/* ---- lookup ---- */

static const struct sdw_loader_listener *listener;

void sdw_loader_listen(const struct sdw_loader_listener *told)
{
    listener = told;
}

/* Names that older files use. */
static const struct {
    const char *name, *old;
} aliases[] = {
    {"to_q", "query"},
    {"to_k", "key"},
    {"to_v", "value"},
    {"to_out.0", "proj_attn"},
};

struct shape {
    int rank;
    int64_t dim[4];
};

static void print_shape(char *text, size_t size, int rank, const int64_t *dim)
{
    size_t used = (size_t)snprintf(text, size, "[");
    for (int i = 0; i < rank && used < size; i++)
        used += (size_t)snprintf(text + used, size - used, "%s%" PRId64, i > 0 ? "," : "", dim[i]);
    if (used < size)
        snprintf(text + used, size - used, "]");
}

/* "down_blocks.0.attentions.0.to_q" + "weight", or with an alias. False when neither is there;
 * full_name then holds the new one. */
static bool find(const struct sdw_loader *loader, char *full_name, const char *name,
                 const char *part, struct sdw_array *array)
{
    for (size_t i = 0; i < sizeof aliases / sizeof aliases[0]; i++) {
        if (strcmp(aliases[i].name, name) != 0)
            continue;
        snprintf(full_name, SDW_LOADER_NAME_MAX, "%s%s.%s", loader->prefix, aliases[i].old, part);
        if (sdw_weights_find(loader->weights, full_name, array))
            return true;
    }
    snprintf(full_name, SDW_LOADER_NAME_MAX, "%s%s.%s", loader->prefix, name, part);
    return sdw_weights_find(loader->weights, full_name, array);
}

bool sdw_loader_has(const struct sdw_loader *loader, const char *name)
{
    char full_name[SDW_LOADER_NAME_MAX];
    struct sdw_array array;
    return !loader->weights || find(loader, full_name, name, "weight", &array);
}

static bool same_shape(const struct sdw_array *array, const struct shape *shape)
{
    if (array->rank < shape->rank)
        return false;
    for (int i = 0; i < array->rank; i++)
        if (array->dim[i] != (i < shape->rank ? shape->dim[i] : 1))
            return false; /* [o,i,1,1] may stand for [o,i]: a 1x1 convolution is a linear layer */
    return true;
}

/* The array NAME.PART of exactly that shape; without data in a trace. */
static bool take(struct sdw_loader *loader, struct sdw_array *array, const char *name,
                 const char *part, struct shape shape)
{
    char full_name[SDW_LOADER_NAME_MAX];
    if (failed(loader))
        return false;
    if (!loader->weights) {
        *array = (struct sdw_array){.dtype = loader->dev->compute, .rank = shape.rank};
        memcpy(array->dim, shape.dim, sizeof shape.dim);
        snprintf(full_name, sizeof full_name, "%s%s.%s", loader->prefix, name, part);
        if (listener)
            listener->heard(listener->context, full_name, shape.rank, shape.dim);
    } else {
        char expected[96], found[192];
        print_shape(expected, sizeof expected, shape.rank, shape.dim);
        const char *path = sdw_weights_path(loader->weights);
        if (!find(loader, full_name, name, part, array)) {
            sdw_fail(&loader->error, SDW_MODEL, "%s: tensor %s is missing, expected shape %s", path,
                     full_name, expected);
            return false;
        }
        print_shape(found, sizeof found, array->rank, array->dim);
        if (!same_shape(array, &shape))
            sdw_fail(&loader->error, SDW_MODEL, "%s: tensor %s has shape %s, expected %s", path,
                     full_name, found, expected);
        else if (array->dtype != SDW_F32 && array->dtype != SDW_F16 && array->dtype != SDW_BF16)
            sdw_fail(&loader->error, SDW_MODEL, "%s: tensor %s is %s, expected f32, f16 or bf16",
                     path, full_name, sdw_dtype_name(array->dtype));
        if (loader->error.status)
            return false;
    }
    loader->parameters->count += sdw_array_count(array);
    return true;
}

bool sdw_load_array(struct sdw_loader *loader, struct sdw_array *array, const char *name, int rows,
                    int channels)
{
    return take(loader, array, name, "weight", (struct shape){2, {rows, channels}});
}

void sdw_loader_forget(const struct sdw_loader *loader, const struct sdw_array *array)
{
    if (loader->weights)
        sdw_weights_forget(loader->weights, array);
}

/* ---- weights of matrix products ---- */

/* Notes a packed weight, and lets go of the array that it was made of. */
static struct sdw_weight *keep(struct sdw_loader *loader, struct sdw_weight *weight,
                               const struct sdw_array *from)
{
    struct sdw_parameters *p = loader->parameters;
    if (!weight || !weight->mapped)
        sdw_loader_forget(loader, from);
    if (!weight)
        return NULL;
    if (!note(&p->weights, weight)) {
        sdw_loader_out_of_memory(loader);
        loader->dev->ops->weight_free(loader->dev, weight);
        return NULL;
    }
    p->bytes += weight->bytes;
    return weight;
}

struct sdw_weight *sdw_load_linear(struct sdw_loader *loader, const char *name, int in, int out,
                                   enum sdw_bias with_bias)
{
    struct sdw_array weight, bias;
    bool has_bias = with_bias == SDW_BIAS;
    if (!take(loader, &weight, name, "weight", (struct shape){2, {out, in}}) ||
        (has_bias && !take(loader, &bias, name, "bias", (struct shape){1, {out}})))
        return NULL;
    struct sdw_weight *packed =
        loader->dev->ops->pack_linear(loader->dev, &weight, has_bias ? &bias : NULL);
    return keep(loader, packed, &weight);
}

struct sdw_weight *sdw_load_conv(struct sdw_loader *loader, const char *name, int in, int out,
                                 int kernel, struct sdw_conv_geometry geometry)
{
    struct sdw_array weight, bias;
    if (!take(loader, &weight, name, "weight", (struct shape){4, {out, in, kernel, kernel}}) ||
        !take(loader, &bias, name, "bias", (struct shape){1, {out}}))
        return NULL;
    struct sdw_weight *packed = loader->dev->ops->pack_conv(loader->dev, &weight, &bias, geometry);
    return keep(loader, packed, &weight);
}

/* ---- norms and tables ---- */

static void *new_buffer(struct sdw_loader *loader, size_t bytes)
{
    struct sdw_parameters *p = loader->parameters;
    void *buffer = loader->dev->ops->buffer_new(loader->dev, bytes);
    if (!buffer)
        return NULL; /* the device has failed, which sdw_loader_finish tells */
    if (!note(&p->buffers, buffer)) {
        sdw_loader_out_of_memory(loader);
        loader->dev->ops->buffer_free(loader->dev, buffer);
        return NULL;
    }
    p->bytes += bytes;
    return buffer;
}

/* Uploads the whole array to `to`, converted to `dtype` (f32 or a 16-bit float). */
static void upload(struct sdw_loader *loader, char *to, enum sdw_dtype dtype,
                   const struct sdw_array *array)
{
    if (!array->data)
        return; /* a trace */
    int64_t count = sdw_array_count(array);
    int64_t chunk = count < CHUNK ? count : CHUNK;
    float *wide = malloc((size_t)chunk * (sizeof *wide + sizeof(uint16_t)));
    if (!wide) {
        sdw_loader_out_of_memory(loader);
        return;
    }
    uint16_t *narrow = (uint16_t *)(wide + chunk);
    for (int64_t first = 0; first < count; first += chunk) {
        int64_t n = count - first < chunk ? count - first : chunk;
        sdw_array_to_f32(wide, array, first, n);
        if (dtype == SDW_F16)
            sdw_f16_from_f32_row(narrow, wide, n);
        else if (dtype == SDW_BF16)
            sdw_bf16_from_f32_row(narrow, wide, n);
        size_t bytes = sdw_dtype_bytes(dtype);
        loader->dev->ops->upload(loader->dev, to + (size_t)first * bytes,
                                 dtype == SDW_F32 ? (void *)wide : (void *)narrow,
                                 (size_t)n * bytes);
    }
    free(wide);
    sdw_loader_forget(loader, array);
}

struct sdw_norm sdw_load_norm(struct sdw_loader *loader, const char *name, int channels, int groups,
                              float epsilon)
{
    struct sdw_norm norm = {.epsilon = epsilon, .groups = groups};
    struct sdw_array weight, bias;
    if (!take(loader, &weight, name, "weight", (struct shape){1, {channels}}) ||
        !take(loader, &bias, name, "bias", (struct shape){1, {channels}}))
        return norm;
    float *buffer = new_buffer(loader, 2 * (size_t)channels * sizeof *buffer);
    if (!buffer)
        return norm;
    norm.weight = buffer;
    norm.bias = buffer + channels;
    upload(loader, (char *)buffer, SDW_F32, &weight);
    upload(loader, (char *)(buffer + channels), SDW_F32, &bias);
    return norm;
}

struct sdw_tensor sdw_load_table(struct sdw_loader *loader, const char *name, int rows,
                                 int channels)
{
    struct sdw_tensor table = {
        .dtype = loader->dev->compute, .n = 1, .h = rows, .w = 1, .c = channels};
    struct sdw_array weight;
    if (!sdw_load_array(loader, &weight, name, rows, channels))
        return table;
    table.data = new_buffer(loader, sdw_tensor_bytes(&table));
    if (table.data)
        upload(loader, table.data, table.dtype, &weight);
    return table;
}
