/* status.h: how a call says that the world went wrong.
 *
 * The world's errors (a missing file, a value out of range, no memory) return a status and fill a
 * `struct sdw_error` with one sentence that a person can act on: names and numbers, and what to do
 * where that is known. The sentence reaches the user unchanged. Programmers' errors assert.
 *
 * Convention: `err` is the last argument and is owned by the caller; it is written only when the
 * call fails, and may be NULL. Functions that cannot fail return void or a value. */
#ifndef SDW_BASE_STATUS_H
#define SDW_BASE_STATUS_H

#define SDW_ERROR_MAX 512 /* bytes of a sentence, its NUL included; longer ones are cut */

/* X(NAME, wire code, HTTP status, exit status) */
#define SDW_STATUS_TABLE(X)                                                                        \
    X(OK, "ok", 200, 0)                                                                            \
    X(USAGE, "usage", 400, 2)             /* the command line or configuration is wrong */         \
    X(INVALID, "invalid_request", 400, 1) /* a value from outside is not acceptable */             \
    X(UNAUTHORIZED, "unauthorized", 401, 1)                                                        \
    X(FORBIDDEN, "forbidden", 403, 1)                                                              \
    X(NOT_FOUND, "not_found", 404, 1)                                                              \
    X(METHOD, "method_not_allowed", 405, 1)                                                        \
    X(TOO_LARGE, "too_large", 413, 1) /* over a named maximum */                                   \
    X(MEDIA_TYPE, "unsupported_media_type", 415, 1)                                                \
    X(BUSY, "queue_full", 429, 1)                                                                  \
    X(READERS, "too_many_readers", 429, 1)                                                         \
    X(HEADERS, "headers_too_large", 431, 1)                                                        \
    X(CANCELLED, "cancelled", 499, 1)                                                              \
    X(INTERNAL, "internal", 500, 1)                                                                \
    X(IO, "io", 500, 1)           /* the system refused to read or write */                        \
    X(FORMAT, "bad_file", 500, 1) /* a file is not what its format says */                         \
    X(MODEL, "bad_model", 500, 1) /* files are sound but make no model we know */                  \
    X(MEMORY, "out_of_memory", 507, 1)                                                             \
    X(STORAGE, "storage", 507, 1)         /* the disk takes nothing: it is full or read-only */    \
    X(DEVICE, "device", 503, 1)           /* no such device, or it failed */                       \
    X(UNAVAILABLE, "unavailable", 503, 1) /* loading or stopping */

enum sdw_status {
#define SDW_STATUS_ENUM(name, code, http, exit_status) SDW_##name,
    SDW_STATUS_TABLE(SDW_STATUS_ENUM)
#undef SDW_STATUS_ENUM
        SDW_STATUS_COUNT
};

struct sdw_error {
    enum sdw_status status;
    char message[SDW_ERROR_MAX];
};

/* Fills *err (when not NULL) and returns `status`, so that a failing call reads `return
 * sdw_fail(err, SDW_IO, ...)`. */
enum sdw_status sdw_fail(struct sdw_error *err, enum sdw_status status, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* The same for a failed system call: appends ": " and the words for errno. */
enum sdw_status sdw_fail_errno(struct sdw_error *err, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* What clang-tidy cannot see from a caller: the status comes back as it went in, and is never
 * SDW_OK. */
#ifdef __clang_analyzer__
#define sdw_fail(err, status, ...) ((sdw_fail)((err), (status), __VA_ARGS__), (status))
#define sdw_fail_errno(err, ...)   ((sdw_fail_errno)((err), __VA_ARGS__), SDW_IO)
#endif

const char *sdw_status_code(enum sdw_status status); /* the word on the wire, e.g. "queue_full" */
int sdw_status_http(enum sdw_status status);
int sdw_status_exit(enum sdw_status status);

#endif
