/* text.h: a string that grows up to a named maximum, and reading a whole file under one.
 *
 * Every buffer that bytes from outside can fill has a maximum, named where it is created; what does
 * not fit is an error of status SDW_TOO_LARGE and leaves the text as it was. */
#ifndef SDW_BASE_TEXT_H
#define SDW_BASE_TEXT_H

#include "base/status.h"

#include <stddef.h>

struct sdw_text {
    char *data;    /* NUL-terminated whenever length > 0; owned; NULL when empty */
    size_t length; /* bytes, without the NUL */
    size_t capacity;
    size_t bytes_max; /* of length */
};

void sdw_text_init(struct sdw_text *text, size_t bytes_max);
void sdw_text_free(struct sdw_text *text); /* empty again, same maximum */
enum sdw_status sdw_text_append(struct sdw_text *text, const void *bytes, size_t length,
                                struct sdw_error *err);
enum sdw_status sdw_text_printf(struct sdw_text *text, struct sdw_error *err, const char *format,
                                ...) __attribute__((format(printf, 3, 4)));

/* Appends the whole file; a file over the text's maximum is an error that names both sizes. */
enum sdw_status sdw_text_read_file(struct sdw_text *text, const char *path, struct sdw_error *err);

#endif
