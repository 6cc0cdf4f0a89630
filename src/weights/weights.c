/* weights.c: files as one set of names: a single file, or the shards that an index lists. */
#include "weights/weights.h"

#include "base/text.h"
#include "weights/file.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define INDEX_SUFFIX    ".index.json"
#define INDEX_BYTES_MAX (32u << 20)
#define PATH_BYTES_MAX  4096
#define FILE_BYTES_MIN  8

static bool has_suffix(const char *text, const char *suffix)
{
    size_t length = strlen(text), tail = strlen(suffix);
    return length >= tail && strcmp(text + length - tail, suffix) == 0;
}

/* A shard's name is a file beside the index, never a path out of its folder. */
static bool is_plain_name(const char *name)
{
    return name && *name && !strchr(name, '/') && strcmp(name, "..") != 0 && strcmp(name, ".") != 0;
}

static bool already_added(json_t *seen, const char *shard)
{
    if (json_object_get(seen, shard))
        return true;
    json_object_set_new(seen, shard, json_true());
    return false;
}

enum sdw_status sdw_weights_add(struct sdw_weights *weights, const char *name, size_t name_bytes,
                                const struct sdw_array *array, struct sdw_error *err)
{
    if (weights->count == SDW_WEIGHTS_ARRAYS_MAX)
        return sdw_fail(err, SDW_TOO_LARGE, "%s: more than %d tensors", weights->path,
                        SDW_WEIGHTS_ARRAYS_MAX);
    if (weights->count == weights->capacity) {
        int capacity = weights->capacity ? 2 * weights->capacity : 256;
        struct sdw_weights_entry *entry = realloc(weights->entry, (size_t)capacity * sizeof *entry);
        if (!entry)
            return sdw_fail(err, SDW_MEMORY, "%s: no memory for %d tensors", weights->path,
                            capacity);
        weights->entry = entry;
        weights->capacity = capacity;
    }
    char *copy = strndup(name, name_bytes);
    if (!copy)
        return sdw_fail(err, SDW_MEMORY, "%s: no memory for the name of a tensor", weights->path);
    weights->entry[weights->count++] = (struct sdw_weights_entry){.name = copy, .array = *array};
    return SDW_OK;
}

/* By their first bytes: a zip archive is torch's, anything else is tried as safetensors. */
static enum sdw_status parse_file(struct sdw_weights *weights, const char *path,
                                  const struct sdw_mapping *mapping, struct sdw_error *err)
{
    if (memcmp(mapping->start, "PK\3\4", 4) == 0)
        return sdw_pickle_parse(weights, path, mapping, err);
    if (memcmp(mapping->start, "\x80\x02\x8a", 3) == 0)
        return sdw_fail(err, SDW_FORMAT,
                        "%s is in the format of PyTorch before 1.6, which is not read: save it "
                        "again with a newer one, or as safetensors",
                        path);
    return sdw_safetensors_parse(weights, path, mapping, err);
}

static enum sdw_status add_file(struct sdw_weights *weights, const char *path,
                                struct sdw_error *err)
{
    if (weights->mappings == SDW_WEIGHTS_FILES_MAX)
        return sdw_fail(err, SDW_TOO_LARGE, "%s: more than %d files", weights->path,
                        SDW_WEIGHTS_FILES_MAX);
    struct sdw_mapping *mapping;
    enum sdw_status status = sdw_mapping_open(&mapping, path, FILE_BYTES_MIN, err);
    if (status)
        return status;
    weights->mapping[weights->mappings++] = mapping;
    return parse_file(weights, path, mapping, err);
}

/* {"weight_map": {"tensor name": "shard file", ...}} */
static enum sdw_status add_shards(struct sdw_weights *weights, const char *path, const json_t *map,
                                  struct sdw_error *err)
{
    enum sdw_status status = SDW_OK;
    json_t *seen = json_object(), *value;
    const char *name;
    json_object_foreach((json_t *)map, name, value)
    {
        const char *shard = json_string_value(value);
        if (!is_plain_name(shard)) {
            status = sdw_fail(err, SDW_FORMAT, "%s: tensor %s is not in a file beside the index",
                              path, name);
            break;
        }
        if (already_added(seen, shard))
            continue;
        char full[PATH_BYTES_MAX];
        const char *slash = strrchr(path, '/');
        snprintf(full, sizeof full, "%.*s%s", slash ? (int)(slash + 1 - path) : 0, path, shard);
        status = add_file(weights, full, err);
        if (status)
            break;
    }
    json_decref(seen);
    return status;
}

static enum sdw_status open_index(struct sdw_weights *weights, const char *path,
                                  struct sdw_error *err)
{
    struct sdw_text text;
    sdw_text_init(&text, INDEX_BYTES_MAX);
    enum sdw_status status = sdw_text_read_file(&text, path, err);
    if (status) {
        sdw_text_free(&text);
        return status;
    }
    json_error_t fault;
    json_t *index = json_loadb(text.data, text.length, 0, &fault);
    const json_t *map = json_object_get(index, "weight_map");
    if (!json_is_object(map))
        status = sdw_fail(err, SDW_FORMAT, "%s: no weight_map in it: %s", path,
                          index ? "not an index" : fault.text);
    else
        status = add_shards(weights, path, map, err);
    json_decref(index);
    sdw_text_free(&text);
    return status;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(((const struct sdw_weights_entry *)a)->name,
                  ((const struct sdw_weights_entry *)b)->name);
}

enum sdw_status sdw_weights_sort(struct sdw_weights *weights, struct sdw_error *err)
{
    if (weights->count)
        qsort(weights->entry, (size_t)weights->count, sizeof *weights->entry, by_name);
    for (int i = 1; i < weights->count; i++)
        if (strcmp(weights->entry[i - 1].name, weights->entry[i].name) == 0)
            return sdw_fail(err, SDW_FORMAT, "%s: tensor %s is there twice", weights->path,
                            weights->entry[i].name);
    return SDW_OK;
}

enum sdw_status sdw_weights_open(struct sdw_weights **weights, const char *path,
                                 struct sdw_error *err)
{
    struct sdw_weights *opened = calloc(1, sizeof *opened);
    if (!opened || !(opened->path = strdup(path))) {
        free(opened);
        return sdw_fail(err, SDW_MEMORY, "no memory to open %s", path);
    }
    enum sdw_status status = has_suffix(path, INDEX_SUFFIX) ? open_index(opened, path, err)
                                                            : add_file(opened, path, err);
    if (!status)
        status = sdw_weights_sort(opened, err);
    if (status) {
        sdw_weights_close(opened);
        opened = NULL;
    }
    *weights = opened;
    return status;
}

void sdw_weights_close(struct sdw_weights *weights)
{
    if (!weights)
        return;
    for (int i = 0; i < weights->mappings; i++)
        sdw_mapping_drop(weights->mapping[i]);
    for (int i = 0; i < weights->count; i++) {
        free(weights->entry[i].name);
        free(weights->entry[i].copy);
    }
    free(weights->entry);
    free(weights->path);
    free(weights);
}

const char *sdw_weights_path(const struct sdw_weights *weights)
{
    return weights->path;
}

static size_t array_bytes(const struct sdw_array *array)
{
    return (size_t)sdw_array_count(array) * sdw_dtype_bytes(array->dtype);
}

static void turn(struct sdw_array *array, const struct sdw_array *from)
{
    array->dim[0] = from->dim[1];
    array->dim[1] = from->dim[0];
}

static void copy_transposed(char *to, const struct sdw_array *from)
{
    size_t rows = (size_t)from->dim[0], columns = (size_t)from->dim[1],
           bytes = sdw_dtype_bytes(from->dtype);
    for (size_t row = 0; row < rows; row++)
        for (size_t column = 0; column < columns; column++)
            memcpy(to + (column * rows + row) * bytes,
                   (const char *)from->data + (row * columns + column) * bytes, bytes);
}

/* Of the file in which the array's data lie; NULL for a copy's. */
static struct sdw_mapping *mapping_of(const struct sdw_weights *weights,
                                      const struct sdw_array *array)
{
    for (int i = 0; i < weights->mappings; i++)
        if (sdw_mapping_has(weights->mapping[i], array->data))
            return weights->mapping[i];
    return NULL;
}

/* Files of early writers have headers of any length, so that numbers lie at odd addresses, and a
 * few tensors of checkpoints are stored by columns: the array asked for is copied, one at a time,
 * rather than the whole file. */
static bool prepare(const struct sdw_weights *weights, struct sdw_weights_entry *entry,
                    struct sdw_array *array)
{
    *array = entry->array;
    size_t bytes = array_bytes(array);
    bool aligned = (uintptr_t)array->data % sdw_dtype_bytes(array->dtype) == 0;
    if (bytes == 0 || (aligned && !entry->transposed)) {
        array->mapping = mapping_of(weights, array);
        return true;
    }
    if (!entry->copy && (entry->copy = malloc(bytes))) {
        if (entry->transposed)
            copy_transposed(entry->copy, &entry->array);
        else
            memcpy(entry->copy, array->data, bytes);
    }
    if (entry->transposed)
        turn(array, &entry->array);
    array->data = entry->copy;
    return entry->copy != NULL;
}

static struct sdw_weights_entry *find_entry(const struct sdw_weights *weights, const char *name)
{
    struct sdw_weights_entry key = {.name = (char *)name};
    return weights->count
               ? bsearch(&key, weights->entry, (size_t)weights->count, sizeof key, by_name)
               : NULL;
}

bool sdw_weights_find(const struct sdw_weights *weights, const char *name, struct sdw_array *array)
{
    struct sdw_weights_entry *found = find_entry(weights, name);
    return found && prepare(weights, found, array);
}

bool sdw_weights_shape(const struct sdw_weights *weights, const char *name, struct sdw_array *array)
{
    const struct sdw_weights_entry *found = find_entry(weights, name);
    if (!found)
        return false;
    *array = found->array;
    array->data = NULL;
    if (found->transposed)
        turn(array, &found->array);
    return true;
}

int sdw_weights_count(const struct sdw_weights *weights)
{
    return weights->count;
}

const char *sdw_weights_name(const struct sdw_weights *weights, int i)
{
    return weights->entry[i].name;
}

/* Only whole pages: a page at either end may hold another array's numbers. */
static void forget_pages(const struct sdw_array *array)
{
    uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE), start = (uintptr_t)array->data;
    uintptr_t end = (start + array_bytes(array)) & ~(page - 1);
    start = (start + page - 1) & ~(page - 1);
    if (start < end) /* clean pages of a file: they are read again when needed */
        madvise((void *)start, end - start, MADV_DONTNEED);
}

void sdw_weights_forget(const struct sdw_weights *weights, const struct sdw_array *array)
{
    if (mapping_of(weights, array)) {
        forget_pages(array);
        return;
    }
    for (int i = 0; i < weights->count; i++) {
        struct sdw_weights_entry *entry = &weights->entry[i];
        if (entry->copy && entry->copy == array->data) {
            forget_pages(&entry->array);
            free(entry->copy);
            entry->copy = NULL;
            return;
        }
    }
}
