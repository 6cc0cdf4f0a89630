/* mapping.h: a file's bytes in memory, read-only, for as long as somebody holds them.
 *
 * Whoever opened a mapping holds it once; the last drop unmaps it. A device may so go on reading a
 * file's pages after the file's reader is gone. One thread at a time. */
#ifndef SDW_BASE_MAPPING_H
#define SDW_BASE_MAPPING_H

#include "base/status.h"

#include <stdbool.h>
#include <stddef.h>

struct sdw_mapping {
    const void *start; /* of the whole file; at a page's beginning */
    size_t bytes;
    int fd; /* for who goes on reading the file when the mapping is gone: dup it */
    int holders;
};

/* SDW_FORMAT for what is no plain file of at least `bytes_min` bytes (1 or more). */
enum sdw_status sdw_mapping_open(struct sdw_mapping **mapping, const char *path, size_t bytes_min,
                                 struct sdw_error *err);
struct sdw_mapping *sdw_mapping_hold(struct sdw_mapping *mapping);
void sdw_mapping_drop(struct sdw_mapping *mapping); /* NULL is allowed */

bool sdw_mapping_has(const struct sdw_mapping *mapping, const void *address);

#endif
