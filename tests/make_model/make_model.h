/* make_model.h: writing a safetensors file whose numbers follow from its tensors' names. */
#ifndef SDW_TESTS_MAKE_MODEL_H
#define SDW_TESTS_MAKE_MODEL_H

#include "model/config.h"
#include "tensor/tensor.h"

#include <stdbool.h>

struct sdw_device;

/* One file to be. Zeroed but for its names; make_file_write frees what was added. */
struct make_file {
    const char *model, *component; /* part of what the numbers are made from */
    struct make_tensor {
        char *name;
        const char *dtype; /* "F16", "F32", "I64" */
        int rank;
        int64_t dim[SDW_RANK_MAX];
    } * tensor;
    int count, capacity;
};

/* Errors are printed; false then. */
bool make_file_add(struct make_file *file, const char *name, const char *dtype, int rank,
                   const int64_t *dim);
bool make_file_write(struct make_file *file, const char *path);

/* vocab.json and merges.txt of single bytes in `folder`, which must be there. */
bool make_vocabulary_write(const char *folder);

/* Opens a component without weights on a trace device, and closes it: its loader is listened to. */
bool make_model_open(const char *component, struct sdw_device *dev,
                     const struct sdw_model_config *config);

#endif
