/* log.c: formats a line on the stack and writes it with one write(2), so that lines of several
 * threads never mix. */
#include "base/log.h"

#include "base/clock.h"
#include "base/json.h"

#include <fcntl.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define LINE_MAX_BYTES 2000

static atomic_int threshold = SDW_LOG_INFO;
static atomic_int output = STDERR_FILENO;
static atomic_bool as_json;
static _Thread_local const char *request;

void sdw_log_level_set(enum sdw_log_level level)
{
    atomic_store(&threshold, (int)level);
}

void sdw_log_request_set(const char *id)
{
    request = id;
}

void sdw_log_json_set(bool json)
{
    atomic_store(&as_json, json);
}

enum sdw_status sdw_log_open(const char *path, struct sdw_error *err)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
    if (fd < 0)
        return sdw_fail_errno(err, "cannot open log file %s", path);
    int old = atomic_exchange(&output, fd);
    if (old > STDERR_FILENO) {
        /* Another thread may be about to write to the old number: make it mean the new file, and
         * keep it. */
        dup3(fd, old, O_CLOEXEC);
        atomic_store(&output, old);
        close(fd);
    }
    return SDW_OK;
}

/* Copies `text` to `line`, control characters as \xNN; returns the bytes written, at most `room`.
 */
static size_t escape(char *line, size_t room, const char *text)
{
    size_t n = 0;
    for (; *text; text++) {
        unsigned char c = (unsigned char)*text;
        if (c >= 0x20 && c != 0x7f) {
            if (n + 1 > room)
                break;
            line[n++] = (char)c;
        } else {
            if (n + 4 > room)
                break;
            static const char digits[] = "0123456789abcdef";
            line[n++] = '\\';
            line[n++] = 'x';
            line[n++] = digits[c >> 4];
            line[n++] = digits[c & 15];
        }
    }
    return n;
}

/* What no memory is left for is not logged. */
static void write_json(const char *stamp, const char *level, const char *text)
{
    struct sdw_text line;
    struct sdw_json json;
    char job[64];
    int after = 0;
    sdw_text_init(&line, 8 * LINE_MAX_BYTES);
    sdw_json_init(&json, &line);
    sdw_json_open(&json, NULL, '{');
    sdw_json_string(&json, "time", stamp);
    sdw_json_string(&json, "level", level);
    if (request)
        sdw_json_string(&json, "request", request);
    if (sscanf(text, "job %63[^: ]: %n", job, &after) == 1 && after > 0)
        sdw_json_string(&json, "job", job);
    sdw_json_string(&json, "message", text + after);
    sdw_json_close(&json, '}');
    if (!json.status && sdw_text_append(&line, "\n", 1, NULL) == SDW_OK &&
        write(atomic_load(&output), line.data, line.length) < 0) {
        /* nowhere left to complain to */
    }
    sdw_text_free(&line);
}

void sdw_log(enum sdw_log_level level, const char *format, ...)
{
    static const char *const names[] = {"debug", "info", "warn", "error"};
    if ((int)level < atomic_load(&threshold))
        return;

    char text[LINE_MAX_BYTES], line[LINE_MAX_BYTES + SDW_TIMESTAMP_MAX + 16];
    va_list args;
    va_start(args, format);
    int length = vsnprintf(text, sizeof text, format, args);
    va_end(args);
    if (request && !atomic_load(&as_json) && length >= 0 && length < LINE_MAX_BYTES)
        snprintf(text + length, sizeof text - (size_t)length, " (request %s)", request);

    char stamp[SDW_TIMESTAMP_MAX];
    sdw_clock_timestamp(stamp);
    memcpy(stamp + 23, "Z", 2); /* milliseconds are enough for a reader */
    if (atomic_load(&as_json)) {
        write_json(stamp, names[level], text);
        return;
    }
    size_t n = (size_t)snprintf(line, sizeof line, "%s %-5s ", stamp, names[level]);
    n += escape(line + n, sizeof line - n - 1, text);
    line[n++] = '\n';
    if (write(atomic_load(&output), line, n) < 0)
        return; /* nowhere left to complain to */
}
