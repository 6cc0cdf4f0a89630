/* yaml.h: the values of a YAML document (JSON is YAML), one after another, each under its path.
 *
 * No tree is built, and aliases are refused: what a document takes is bounded by its bytes. */
#ifndef SDW_BASE_YAML_H
#define SDW_BASE_YAML_H

#include "base/status.h"

#include <stddef.h>

#define SDW_YAML_PATH_MAX  256 /* bytes of a value's path, its NUL included */
#define SDW_YAML_DEPTH_MAX 24  /* mappings and lists inside each other */

struct sdw_yaml_value {
    const char *path; /* keys joined by dots, places in lists from 0: "model.params.mult.0" */
    const char *text; /* as written, without quotes; NULL: a mapping or list, whose values follow */
    size_t line;      /* counted from 1 */
};

/* What it returns ends the reading, unless it is SDW_OK. */
typedef enum sdw_status sdw_yaml_take(void *context, const struct sdw_yaml_value *value,
                                      struct sdw_error *err);

/* Reads the file at `path`, a mapping or nothing, of at most bytes_max bytes. Faults are SDW_FORMAT
 * or SDW_TOO_LARGE, and name file and line. */
enum sdw_status sdw_yaml_read(const char *path, size_t bytes_max, sdw_yaml_take *take,
                              void *context, struct sdw_error *err);

#endif
