/* safetensors.c: believes nothing in the header before it is checked against the size of the file.
 */
#include "weights/file.h"

#include <inttypes.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

static const struct {
    const char *name;
    enum sdw_dtype dtype;
} dtypes[] = {
    {"F32", SDW_F32}, {"F16", SDW_F16}, {"BF16", SDW_BF16}, {"I32", SDW_I32},
    {"U8", SDW_U8},   {"I64", SDW_I64}, {"F64", SDW_F64},   {"BOOL", SDW_BOOL},
};

/* What is being parsed: the data part and the name to blame. */
struct parsing {
    const char *path;
    const char *data;
    uint64_t data_bytes;
};

static enum sdw_status parse_dtype(struct sdw_array *array, const struct parsing *file,
                                   const char *name, const json_t *tensor, struct sdw_error *err)
{
    const char *text = json_string_value(json_object_get(tensor, "dtype"));
    for (size_t i = 0; text && i < sizeof dtypes / sizeof dtypes[0]; i++)
        if (strcmp(dtypes[i].name, text) == 0) {
            array->dtype = dtypes[i].dtype;
            return SDW_OK;
        }
    return sdw_fail(err, SDW_FORMAT, "%s: tensor %s has dtype %s, which is not supported",
                    file->path, name, text ? text : "(none)");
}

/* Fills rank and dim; *bytes gets the product of all dimensions and the element size. */
static enum sdw_status parse_shape(struct sdw_array *array, uint64_t *bytes,
                                   const struct parsing *file, const char *name,
                                   const json_t *tensor, struct sdw_error *err)
{
    const json_t *shape = json_object_get(tensor, "shape");
    if (!json_is_array(shape) || json_array_size(shape) > SDW_RANK_MAX)
        return sdw_fail(err, SDW_FORMAT, "%s: tensor %s has no shape of at most %d dimensions",
                        file->path, name, SDW_RANK_MAX);
    array->rank = (int)json_array_size(shape);
    int64_t total = (int64_t)sdw_dtype_bytes(array->dtype); /* whatever fits here, counts fit too */
    for (int i = 0; i < array->rank; i++) {
        const json_t *dim = json_array_get(shape, (size_t)i);
        int64_t value = json_is_integer(dim) ? (int64_t)json_integer_value(dim) : -1;
        if (value < 0 || __builtin_mul_overflow(total, value, &total))
            return sdw_fail(err, SDW_FORMAT, "%s: tensor %s: dimension %d is impossible",
                            file->path, name, i);
        array->dim[i] = value;
    }
    *bytes = (uint64_t)total;
    return SDW_OK;
}

static enum sdw_status parse_tensor(struct sdw_array *array, const struct parsing *file,
                                    const char *name, const json_t *tensor, struct sdw_error *err)
{
    uint64_t bytes = 0;
    enum sdw_status status = parse_dtype(array, file, name, tensor, err);
    if (!status)
        status = parse_shape(array, &bytes, file, name, tensor, err);
    if (status)
        return status;
    const json_t *offsets = json_object_get(tensor, "data_offsets");
    const json_t *first = json_array_get(offsets, 0), *last = json_array_get(offsets, 1);
    if (json_array_size(offsets) != 2 || !json_is_integer(first) || !json_is_integer(last) ||
        json_integer_value(first) < 0 || json_integer_value(last) < json_integer_value(first))
        return sdw_fail(err, SDW_FORMAT, "%s: tensor %s has no sound data_offsets", file->path,
                        name);
    uint64_t begin = (uint64_t)json_integer_value(first), end = (uint64_t)json_integer_value(last);
    if (end > file->data_bytes)
        return sdw_fail(err, SDW_FORMAT,
                        "%s: tensor %s ends at byte %" PRIu64 " of the data, the file has %" PRIu64
                        ": it is truncated, get it again",
                        file->path, name, end, file->data_bytes);
    if (end - begin != bytes)
        return sdw_fail(err, SDW_FORMAT,
                        "%s: tensor %s takes %" PRIu64
                        " bytes by its shape, its offsets give it %" PRIu64,
                        file->path, name, bytes, end - begin);
    array->data = file->data + begin;
    return SDW_OK;
}

/* The tensors of one file must not share bytes: `entry` is the file's part of the list. */
static int by_offset(const void *a, const void *b)
{
    const struct sdw_weights_entry *x = a, *y = b;
    if (x->array.data != y->array.data)
        return x->array.data < y->array.data ? -1 : 1;
    return 0;
}

static enum sdw_status check_overlap(struct sdw_weights_entry *entry, int count, const char *path,
                                     struct sdw_error *err)
{
    qsort(entry, (size_t)count, sizeof *entry, by_offset);
    const char *end = NULL;
    for (int i = 0; i < count; i++) {
        size_t bytes =
            (size_t)sdw_array_count(&entry[i].array) * sdw_dtype_bytes(entry[i].array.dtype);
        if (bytes == 0)
            continue;
        if (end && (const char *)entry[i].array.data < end)
            return sdw_fail(err, SDW_FORMAT, "%s: tensor %s overlaps another", path, entry[i].name);
        end = (const char *)entry[i].array.data + bytes;
    }
    return SDW_OK;
}

/* The length of the header, or 0 with *err filled. */
static uint64_t header_length(const char *path, const struct sdw_mapping *mapping,
                              struct sdw_error *err)
{
    const unsigned char *bytes = mapping->start;
    uint64_t length = 0;
    if (mapping->bytes < 8) {
        sdw_fail(err, SDW_FORMAT, "%s has %zu bytes: too short for a safetensors file", path,
                 mapping->bytes);
        return 0;
    }
    for (int i = 7; i >= 0; i--)
        length = length << 8 | bytes[i];
    if (length < 2 || length > SDW_WEIGHTS_HEADER_BYTES_MAX || length > mapping->bytes - 8) {
        sdw_fail(err, SDW_FORMAT,
                 "%s: the header claims %" PRIu64
                 " bytes, the file has %zu: it is truncated or no safetensors file",
                 path, length, mapping->bytes);
        return 0;
    }
    return length;
}

enum sdw_status sdw_safetensors_parse(struct sdw_weights *weights, const char *path,
                                      const struct sdw_mapping *mapping, struct sdw_error *err)
{
    uint64_t length = header_length(path, mapping, err);
    if (length == 0)
        return err ? err->status : SDW_FORMAT;
    struct parsing file = {path, (const char *)mapping->start + 8 + length,
                           mapping->bytes - 8 - length};
    json_error_t fault;
    json_t *header =
        json_loadb((const char *)mapping->start + 8, length, JSON_REJECT_DUPLICATES, &fault);
    if (!json_is_object(header)) {
        json_decref(header);
        return sdw_fail(err, SDW_FORMAT, "%s: the header is not a JSON object: %s", path,
                        header ? "" : fault.text);
    }
    enum sdw_status status = SDW_OK;
    int first = weights->count;
    const char *name;
    json_t *tensor;
    json_object_foreach(header, name, tensor)
    {
        struct sdw_array array = {0};
        if (strcmp(name, "__metadata__") == 0)
            continue;
        status = parse_tensor(&array, &file, name, tensor, err);
        if (!status)
            status = sdw_weights_add(weights, name, strlen(name), &array, err);
        if (status)
            break;
    }
    json_decref(header);
    if (!status && weights->count > first)
        status = check_overlap(weights->entry + first, weights->count - first, path, err);
    return status;
}
