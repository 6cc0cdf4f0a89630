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
/* Adds what the component named in `file` asks its loader for, in f16, shaped as published files
 * have it. `dev` is a trace device. */
bool make_file_list(struct make_file *file, struct sdw_device *dev,
                    const struct sdw_model_config *config);
int64_t make_file_parameters(const struct make_file *file); /* numbers in all tensors */
bool make_file_write(struct make_file *file, const char *path);

/* vocab.json and merges.txt of single bytes in `folder`, which must be there. */
bool make_vocabulary_write(const char *folder);

#endif
