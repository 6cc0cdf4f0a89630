/* file.h: the inside of a `struct sdw_weights`, for the readers of each file format. A reader is
 * given a whole file in memory and adds what it finds; it never frees. Internal to weights/. */
#ifndef SDW_WEIGHTS_FILE_H
#define SDW_WEIGHTS_FILE_H

#include "base/mapping.h"
#include "weights/weights.h"

struct sdw_weights_entry {
    char *name;             /* owned */
    struct sdw_array array; /* points into a mapping; data there may lie at any address */
    bool transposed;        /* the file has columns for rows; `array` has the file's shape */
    void *copy;             /* owned: what sdw_weights_find hands out then, or when misaligned */
};

struct sdw_weights {
    char *path;
    struct sdw_mapping *mapping[SDW_WEIGHTS_FILES_MAX]; /* held */
    int mappings;
    struct sdw_weights_entry *entry; /* by name, once sorted */
    int count, capacity;
};

/* Copies the name. SDW_TOO_LARGE over SDW_WEIGHTS_ARRAYS_MAX. */
enum sdw_status sdw_weights_add(struct sdw_weights *weights, const char *name, size_t name_bytes,
                                const struct sdw_array *array, struct sdw_error *err);

/* After the last file: puts the names in order, and refuses one that is there twice. */
enum sdw_status sdw_weights_sort(struct sdw_weights *weights, struct sdw_error *err);

/* safetensors: an 8-byte little-endian length N, N bytes of JSON that name each tensor's dtype,
 * shape and data_offsets, then the data (github.com/huggingface/safetensors, "Format"). */
enum sdw_status sdw_safetensors_parse(struct sdw_weights *weights, const char *path,
                                      const struct sdw_mapping *mapping, struct sdw_error *err);

/* torch.save since PyTorch 1.6: a zip archive of stored members, ROOT/data.pkl and ROOT/data/KEY.
 * The pickle is read as data: nothing in it is ever called. The tensors are those of its top
 * dictionary, or of that one's "state_dict". */
enum sdw_status sdw_pickle_parse(struct sdw_weights *weights, const char *path,
                                 const struct sdw_mapping *mapping, struct sdw_error *err);

#endif
