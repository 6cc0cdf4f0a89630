/* config_file.h: one config.json or .yaml, read field by field under ranges.
 *
 * The first error is kept and later reads return harmless values, so that a component is read
 * without a check a line; sdw_config_file_close returns it. An absent or null field has its
 * fallback. Internal to model/. */
#ifndef SDW_MODEL_CONFIG_FILE_H
#define SDW_MODEL_CONFIG_FILE_H

#include "model/config.h"

#include <jansson.h>

struct sdw_config_file {
    char path[SDW_MODEL_PATH_MAX];
    json_t *root;           /* NULL after an error: every field is absent */
    struct sdw_error error; /* the first one */
};

#define SDW_CONFIG_REQUIRED INT32_MIN /* as a fallback: the field must be there */

void sdw_config_file_open(struct sdw_config_file *file, const struct sdw_model_source *source,
                          const char *name);
/* A YAML file: the fields are the paths of its values, "model.params.scale_factor" (base/yaml.h).
 */
void sdw_config_yaml_open(struct sdw_config_file *file, const char *path);
/* Frees it and returns its first error. */
enum sdw_status sdw_config_file_close(struct sdw_config_file *file, struct sdw_error *err);

/* Notes an error, "path: sentence". */
void sdw_config_fail(struct sdw_config_file *file, enum sdw_status status, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* min..max, or `fallback` (itself not checked). */
int sdw_config_int(struct sdw_config_file *file, const char *key, int min, int max, int fallback);
/* A number, or a list of exactly `count`; a single number stands for all. */
void sdw_config_ints(struct sdw_config_file *file, const char *key, int *values, int count, int min,
                     int max, int fallback);
/* A list of 1..max numbers in min..max; returns how many, 1 after an error. */
int sdw_config_list(struct sdw_config_file *file, const char *key, int *values, int count_max,
                    int min, int max);
double sdw_config_real(struct sdw_config_file *file, const char *key, double min, double max,
                       double fallback);
bool sdw_config_bool(struct sdw_config_file *file, const char *key, bool fallback);
/* Lives until the file is closed. NULL fallback means NULL when absent. */
const char *sdw_config_text(struct sdw_config_file *file, const char *key, const char *fallback);
bool sdw_config_has(const struct sdw_config_file *file, const char *key); /* present, not null */

/* The field must be absent, null, or equal to the JSON text `value`: what no other value is known
 * for. */
void sdw_config_only(struct sdw_config_file *file, const char *key, const char *value);

#endif
