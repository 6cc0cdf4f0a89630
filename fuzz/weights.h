/* weights.h: what a reader of weights has accepted is read to the last byte. */
#ifndef SDW_FUZZ_WEIGHTS_H
#define SDW_FUZZ_WEIGHTS_H

#include "fuzz.h"

#include "weights/file.h"

#include <stdlib.h>
#include <string.h>

/* Every byte of the array, so that AddressSanitizer sees what is outside the file. */
static inline void fuzz_read_array(const struct sdw_array *array)
{
    size_t bytes = (size_t)sdw_array_count(array) * sdw_dtype_bytes(array->dtype);
    static volatile unsigned sink;
    unsigned sum = 0;
    FUZZ_CHECK(bytes == 0 || (uintptr_t)array->data % sdw_dtype_bytes(array->dtype) == 0);
    for (size_t i = 0; i < bytes; i++)
        sum += ((const unsigned char *)array->data)[i];
    sink = sink + sum;
}

static inline void fuzz_read_all(const struct sdw_weights *weights)
{
    for (int i = 0; i < sdw_weights_count(weights); i++) {
        struct sdw_array array;
        FUZZ_CHECK(sdw_weights_find(weights, sdw_weights_name(weights, i), &array));
        fuzz_read_array(&array);
        sdw_weights_forget(weights, &array);
    }
}

/* Any bytes through a parser of one file; a refusal says why. */
static inline void
fuzz_parse(enum sdw_status (*parse)(struct sdw_weights *weights, const char *path,
                                    const struct sdw_mapping *mapping, struct sdw_error *err),
           const uint8_t *data, size_t size)
{
    struct sdw_weights *weights = calloc(1, sizeof *weights);
    struct sdw_mapping mapping = {.start = data, .bytes = size};
    struct sdw_error err = {0};
    FUZZ_CHECK(weights && (weights->path = strdup("fuzz")));
    if (parse(weights, "fuzz", &mapping, &err) != SDW_OK)
        FUZZ_CHECK(err.status != SDW_OK && strlen(err.message) > 8);
    else if (sdw_weights_sort(weights, &err) == SDW_OK)
        fuzz_read_all(weights);
    sdw_weights_close(weights); /* the mapping was never its own */
}

#endif
