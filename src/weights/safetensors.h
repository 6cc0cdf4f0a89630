/* safetensors.h: one .safetensors file, mapped. Format: an 8-byte little-endian length N, N bytes
 * of JSON that name each tensor's dtype, shape and data_offsets, then the data
 * (github.com/huggingface/safetensors, "Format"). */
#ifndef SDW_WEIGHTS_SAFETENSORS_H
#define SDW_WEIGHTS_SAFETENSORS_H

#include "weights/weights.h"

struct sdw_weights_entry {
    char *name;             /* owned */
    struct sdw_array array; /* points into a mapping; data there may lie at any address */
    void *copy;             /* owned: what sdw_weights_find hands out when that is misaligned */
};

struct sdw_mapping {
    void *start; /* of the whole file; NULL when nothing is mapped */
    size_t bytes;
};

struct sdw_weights {
    char *path;
    struct sdw_mapping mapping[SDW_WEIGHTS_FILES_MAX];
    int mappings;
    struct sdw_weights_entry *entry; /* by name */
    int count, capacity;
};

/* Maps `path` and adds its tensors to `weights`, unsorted. */
enum sdw_status sdw_safetensors_add(struct sdw_weights *weights, const char *path,
                                    struct sdw_error *err);

/* Checks `bytes` bytes at `start` as a file called `path`, and adds its tensors. For
 * sdw_safetensors_add and fuzzing. */
enum sdw_status sdw_safetensors_parse(struct sdw_weights *weights, const char *path,
                                      const struct sdw_mapping *mapping, struct sdw_error *err);

/* After the last file: puts the names in order, and refuses one that is there twice. */
enum sdw_status sdw_weights_sort(struct sdw_weights *weights, struct sdw_error *err);

#endif
