/* config_file.c: fields under ranges, over jansson; a .yaml becomes a flat object first. Messages
 * name the file, the key, what was found and what was expected. */
#include "model/config_file.h"

#include "base/text.h"
#include "base/yaml.h"

#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

void sdw_config_fail(struct sdw_config_file *file, enum sdw_status status, const char *format, ...)
{
    if (file->error.status)
        return;
    char sentence[SDW_ERROR_MAX];
    va_list args;
    va_start(args, format);
    vsnprintf(sentence, sizeof sentence, format, args);
    va_end(args);
    sdw_fail(&file->error, status, "%s: %s", file->path, sentence);
}

void sdw_config_file_open(struct sdw_config_file *file, const struct sdw_model_source *source,
                          const char *name)
{
    *file = (struct sdw_config_file){0};
    struct sdw_text text;
    sdw_text_init(&text, SDW_CONFIG_BYTES_MAX);
    sdw_model_source_name(file->path, source, name);
    if (sdw_model_source_text(&text, source, name, &file->error) == SDW_OK) {
        json_error_t fault;
        json_t *root = json_loadb(text.data ? text.data : "", text.length, 0, &fault);
        if (json_is_object(root)) {
            file->root = root;
        } else {
            sdw_config_fail(file, SDW_FORMAT, "not a JSON object (line %d: %s)", fault.line,
                            root ? "another type" : fault.text);
            json_decref(root);
        }
    }
    sdw_text_free(&text);
}

/* ---- a .yaml ---- */

/* What a plain text means as YAML, as far as configurations need it. */
static json_t *value_of(const char *text)
{
    char *end;
    errno = 0;
    long long whole = strtoll(text, &end, 10);
    if (*text && !*end && !errno)
        return json_integer(whole);
    double real = strtod(text, &end);
    if (*text && !*end && isfinite(real))
        return json_real(real);
    if (strcasecmp(text, "true") == 0 || strcasecmp(text, "false") == 0)
        return json_boolean(strcasecmp(text, "true") == 0);
    if (!*text || strcmp(text, "~") == 0 || strcasecmp(text, "null") == 0)
        return json_null();
    return json_string(text);
}

static enum sdw_status take_value(void *context, const struct sdw_yaml_value *value,
                                  struct sdw_error *err)
{
    if (value->text && json_object_set_new(context, value->path, value_of(value->text)))
        return sdw_fail(err, SDW_FORMAT, "%s is not text in UTF-8", value->path);
    return SDW_OK;
}

void sdw_config_yaml_open(struct sdw_config_file *file, const char *path)
{
    *file = (struct sdw_config_file){.root = json_object()};
    snprintf(file->path, sizeof file->path, "%s", path);
    sdw_yaml_read(path, SDW_CONFIG_BYTES_MAX, take_value, file->root, &file->error);
}

/* ---- fields ---- */

enum sdw_status sdw_config_file_close(struct sdw_config_file *file, struct sdw_error *err)
{
    json_decref(file->root);
    file->root = NULL;
    if (file->error.status)
        return sdw_fail(err, file->error.status, "%s", file->error.message);
    return SDW_OK;
}

/* NULL when absent, null, or after an error. */
static json_t *field(const struct sdw_config_file *file, const char *key)
{
    if (file->error.status)
        return NULL;
    json_t *value = json_object_get(file->root, key);
    return json_is_null(value) ? NULL : value;
}

bool sdw_config_has(const struct sdw_config_file *file, const char *key)
{
    return field(file, key) != NULL;
}

/* A short rendering for messages. */
static void render(char *text, size_t size, const json_t *value)
{
    char *dump = json_dumps(value, JSON_ENCODE_ANY | JSON_COMPACT);
    snprintf(text, size, "%.80s", dump ? dump : "?");
    free(dump);
}

static int integer(struct sdw_config_file *file, const char *key, const json_t *value, int min,
                   int max)
{
    json_int_t n = json_is_integer(value) ? json_integer_value(value) : (json_int_t)min - 1;
    if (n < min || n > max) {
        char found[96];
        render(found, sizeof found, value);
        sdw_config_fail(file, SDW_MODEL, "%s is %s, expected a whole number from %d to %d", key,
                        found, min, max);
        return min;
    }
    return (int)n;
}

int sdw_config_int(struct sdw_config_file *file, const char *key, int min, int max, int fallback)
{
    json_t *value = field(file, key);
    if (value)
        return integer(file, key, value, min, max);
    if (fallback == SDW_CONFIG_REQUIRED) {
        sdw_config_fail(file, SDW_MODEL, "%s is missing", key);
        return min;
    }
    return fallback;
}

void sdw_config_ints(struct sdw_config_file *file, const char *key, int *values, int count, int min,
                     int max, int fallback)
{
    json_t *value = field(file, key);
    if (!json_is_array(value)) {
        int n = sdw_config_int(file, key, min, max, fallback);
        for (int i = 0; i < count; i++)
            values[i] = n;
        return;
    }
    if (json_array_size(value) != (size_t)count)
        sdw_config_fail(file, SDW_MODEL, "%s has %zu entries, expected %d", key,
                        json_array_size(value), count);
    for (int i = 0; i < count; i++)
        values[i] = file->error.status
                        ? min
                        : integer(file, key, json_array_get(value, (size_t)i), min, max);
}

int sdw_config_list(struct sdw_config_file *file, const char *key, int *values, int count_max,
                    int min, int max)
{
    json_t *value = field(file, key);
    size_t count = json_array_size(value); /* 0 for what is no list */
    if (count < 1 || count > (size_t)count_max) {
        sdw_config_fail(file, SDW_MODEL, "%s must be a list of 1 to %d numbers", key, count_max);
        values[0] = min;
        return 1;
    }
    for (size_t i = 0; i < count; i++)
        values[i] = integer(file, key, json_array_get(value, i), min, max);
    return (int)count;
}

double sdw_config_real(struct sdw_config_file *file, const char *key, double min, double max,
                       double fallback)
{
    json_t *value = field(file, key);
    if (!value)
        return fallback;
    double x = json_is_number(value) ? json_number_value(value) : NAN;
    if (x >= min && x <= max)
        return x;
    char found[96];
    render(found, sizeof found, value);
    sdw_config_fail(file, SDW_MODEL, "%s is %s, expected a number from %g to %g", key, found, min,
                    max);
    return fallback;
}

bool sdw_config_bool(struct sdw_config_file *file, const char *key, bool fallback)
{
    json_t *value = field(file, key);
    if (value && !json_is_boolean(value))
        sdw_config_fail(file, SDW_MODEL, "%s must be true or false", key);
    return value ? json_is_true(value) : fallback;
}

const char *sdw_config_text(struct sdw_config_file *file, const char *key, const char *fallback)
{
    json_t *value = field(file, key);
    if (value && !json_is_string(value))
        sdw_config_fail(file, SDW_MODEL, "%s must be a text", key);
    return json_is_string(value) ? json_string_value(value) : fallback;
}

void sdw_config_only(struct sdw_config_file *file, const char *key, const char *value)
{
    json_t *found = field(file, key);
    if (!found)
        return;
    json_t *known = json_loads(value, JSON_DECODE_ANY, NULL);
    bool same = json_equal(found, known) || (json_is_number(found) && json_is_number(known) &&
                                             json_number_value(found) == json_number_value(known));
    json_decref(known);
    if (same)
        return;
    char text[96];
    render(text, sizeof text, found);
    sdw_config_fail(file, SDW_MODEL, "%s is %s, of which only %s is known", key, text, value);
}
