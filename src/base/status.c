/* status.c: the table of statuses, and the one place where an error sentence is formatted. */
#include "base/status.h"

#include <assert.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static const struct {
    const char *code;
    int http, exit;
} rows[SDW_STATUS_COUNT] = {
#define SDW_STATUS_ROW(name, code, http, exit_status) {code, http, exit_status},
    SDW_STATUS_TABLE(SDW_STATUS_ROW)
#undef SDW_STATUS_ROW
};

enum sdw_status(sdw_fail)(struct sdw_error *err, enum sdw_status status, const char *format, ...)
{
    if (err) {
        va_list args;
        va_start(args, format);
        vsnprintf(err->message, sizeof err->message, format, args);
        va_end(args);
        err->status = status;
    }
    return status;
}

enum sdw_status(sdw_fail_errno)(struct sdw_error *err, const char *format, ...)
{
    int number = errno;
    enum sdw_status status = number == ENOMEM ? SDW_MEMORY : SDW_IO;
    if (err) {
        va_list args;
        va_start(args, format);
        int n = vsnprintf(err->message, sizeof err->message, format, args);
        va_end(args);
        if (n >= 0 && n < (int)sizeof err->message)
            snprintf(err->message + n, sizeof err->message - (size_t)n, ": %s", strerror(number));
        err->status = status;
    }
    return status;
}

const char *sdw_status_code(enum sdw_status status)
{
    assert(status < SDW_STATUS_COUNT);
    return rows[status].code;
}

int sdw_status_http(enum sdw_status status)
{
    assert(status < SDW_STATUS_COUNT);
    return rows[status].http;
}

int sdw_status_exit(enum sdw_status status)
{
    assert(status < SDW_STATUS_COUNT);
    return rows[status].exit;
}
