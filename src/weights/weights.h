/* weights.h: named arrays from files, read through mmap.
 *
 * A `struct sdw_weights` is a set of files seen as one: a single .safetensors, or all shards of an
 * index. Everything a header says (sizes, offsets, overlaps, counts) is checked before any of it is
 * believed. Arrays point into the mapping and live until sdw_weights_close. One thread at a time.
 */
#ifndef SDW_WEIGHTS_WEIGHTS_H
#define SDW_WEIGHTS_WEIGHTS_H

#include "base/status.h"
#include "tensor/tensor.h"

#include <stdbool.h>

#define SDW_WEIGHTS_HEADER_BYTES_MAX                                                               \
    (100u << 20) /* the format's own limit for a safetensors header */
#define SDW_WEIGHTS_FILES_MAX  64
#define SDW_WEIGHTS_ARRAYS_MAX 65536

struct sdw_weights;

/* Opens `path`: a .safetensors file, a *.safetensors.index.json whose shards lie beside it, or what
 * torch.save wrote (.ckpt, .pt, .bin), of which only tensors are read and nothing is executed. */
enum sdw_status sdw_weights_open(struct sdw_weights **weights, const char *path,
                                 struct sdw_error *err);
void sdw_weights_close(struct sdw_weights *weights); /* NULL is allowed */

const char *sdw_weights_path(const struct sdw_weights *weights); /* as opened, for messages */

/* False when there is no array of that name. Data are aligned to their type; where the file's are
 * not, they are copied (false too when there is no memory for that). */
bool sdw_weights_find(const struct sdw_weights *weights, const char *name, struct sdw_array *array);

/* Its type and shape alone: array->data is NULL, and nothing is read or copied. */
bool sdw_weights_shape(const struct sdw_weights *weights, const char *name,
                       struct sdw_array *array);

int sdw_weights_count(const struct sdw_weights *weights);
const char *sdw_weights_name(const struct sdw_weights *weights, int i); /* in order of the name */

/* The array's numbers were packed: gives its pages, or its aligned copy, back to the system. What
 * sdw_weights_find said of it is void then; it may be found again. */
void sdw_weights_forget(const struct sdw_weights *weights, const struct sdw_array *array);

#endif
