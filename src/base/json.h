/* json.h: writing JSON into a bounded text.
 *
 * The writer puts commas, quotes and escapes; the caller opens and closes. Numbers keep all 64
 * bits. Bytes that are no UTF-8 become U+FFFD, so that whatever a text came from, the result
 * parses. The first failure (the text's maximum, memory) is kept in `status`, and later calls do
 * nothing. */
#ifndef SDW_BASE_JSON_H
#define SDW_BASE_JSON_H

#include "base/text.h"

#include <stdbool.h>
#include <stdint.h>

struct sdw_json {
    struct sdw_text *text; /* the caller's */
    bool comma;            /* before the next member or element */
    enum sdw_status status;
};

void sdw_json_init(struct sdw_json *json, struct sdw_text *text);

/* `key` is the member's name inside an object and NULL inside an array or at the top. */
void sdw_json_open(struct sdw_json *json, const char *key, char bracket);        /* '{' or '[' */
void sdw_json_close(struct sdw_json *json, char bracket);                        /* '}' or ']' */
void sdw_json_string(struct sdw_json *json, const char *key, const char *value); /* NULL: null */
void sdw_json_integer(struct sdw_json *json, const char *key, int64_t value);
void sdw_json_unsigned(struct sdw_json *json, const char *key, uint64_t value);
/* With `digits` after the point; what is not finite is null. */
void sdw_json_real(struct sdw_json *json, const char *key, double value, int digits);
void sdw_json_flag(struct sdw_json *json, const char *key, bool value);
void sdw_json_null(struct sdw_json *json, const char *key);
/* `value` is JSON already. */
void sdw_json_raw(struct sdw_json *json, const char *key, const char *value);

#endif
