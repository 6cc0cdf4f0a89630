/* text.c: see text.h. */
#include "base/text.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

void sdw_text_init(struct sdw_text *text, size_t bytes_max)
{
    *text = (struct sdw_text){.bytes_max = bytes_max};
}

void sdw_text_free(struct sdw_text *text)
{
    free(text->data);
    sdw_text_init(text, text->bytes_max);
}

/* Makes room for `more` bytes and a NUL. */
static enum sdw_status reserve(struct sdw_text *text, size_t more, struct sdw_error *err)
{
    if (more > text->bytes_max - text->length)
        return sdw_fail(err, SDW_TOO_LARGE, "text would be %zu bytes long, the limit is %zu",
                        text->length + more, text->bytes_max);
    size_t wanted = text->length + more + 1;
    if (wanted <= text->capacity)
        return SDW_OK;
    size_t capacity = text->capacity * 2 > wanted ? text->capacity * 2 : wanted;
    char *data = realloc(text->data, capacity);
    if (!data)
        return sdw_fail(err, SDW_MEMORY, "no memory for %zu bytes of text", capacity);
    text->data = data;
    text->capacity = capacity;
    return SDW_OK;
}

enum sdw_status sdw_text_append(struct sdw_text *text, const void *bytes, size_t length,
                                struct sdw_error *err)
{
    enum sdw_status status = reserve(text, length, err);
    if (status)
        return status;
    if (length)
        memcpy(text->data + text->length, bytes, length);
    text->length += length;
    text->data[text->length] = 0;
    return SDW_OK;
}

enum sdw_status sdw_text_printf(struct sdw_text *text, struct sdw_error *err, const char *format,
                                ...)
{
    va_list args;
    va_start(args, format);
    int length = vsnprintf(NULL, 0, format, args);
    va_end(args);
    if (length < 0)
        return sdw_fail(err, SDW_INTERNAL, "cannot format \"%s\"", format);
    enum sdw_status status = reserve(text, (size_t)length, err);
    if (status)
        return status;
    va_start(args, format);
    vsnprintf(text->data + text->length, (size_t)length + 1, format, args);
    va_end(args);
    text->length += (size_t)length;
    return SDW_OK;
}

static enum sdw_status read_all(struct sdw_text *text, int fd, const char *path,
                                struct sdw_error *err)
{
    struct stat info;
    if (fstat(fd, &info) < 0)
        return sdw_fail_errno(err, "cannot read %s", path);
    if (!S_ISREG(info.st_mode))
        return sdw_fail(err, SDW_IO, "%s is not a file", path);
    if ((size_t)info.st_size > text->bytes_max - text->length)
        return sdw_fail(err, SDW_TOO_LARGE, "%s has %lld bytes, the limit is %zu", path,
                        (long long)info.st_size, text->bytes_max);
    char chunk[16384];
    for (;;) {
        ssize_t n = read(fd, chunk, sizeof chunk);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return sdw_fail_errno(err, "cannot read %s", path);
        if (n == 0)
            return sdw_text_append(text, "", 0, err);
        enum sdw_status status = sdw_text_append(text, chunk, (size_t)n, err);
        if (status)
            return status;
    }
}

enum sdw_status sdw_text_read_file(struct sdw_text *text, const char *path, struct sdw_error *err)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return sdw_fail_errno(err, "cannot open %s", path);
    enum sdw_status status = read_all(text, fd, path, err);
    close(fd);
    return status;
}
