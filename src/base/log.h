/* log.h: one line a happening, to standard error or a file, from any thread. */
#ifndef SDW_BASE_LOG_H
#define SDW_BASE_LOG_H

#include "base/status.h"

#include <stdbool.h>

enum sdw_log_level { SDW_LOG_DEBUG, SDW_LOG_INFO, SDW_LOG_WARN, SDW_LOG_ERROR };

/* Lines under `level` are dropped. The default is SDW_LOG_INFO. */
void sdw_log_level_set(enum sdw_log_level level);

/* Appends to `path` from now on instead of standard error; call again to reopen after rotation. */
enum sdw_status sdw_log_open(const char *path, struct sdw_error *err);

/* One JSON object a line from now on: {"time":...,"level":"info","request":"...","job":"job_...",
 * "message":...}; "job" where the message begins with "job ID: ". */
void sdw_log_json_set(bool json);

/* What this thread logs from now on is about the request called `id`, which is borrowed; NULL:
 * about none. */
void sdw_log_request_set(const char *id);

/* "2026-11-03T21:00:00.123Z info  job job_...: completed in 3.2 s". Control characters are written
 * as \xNN, so that bytes from outside can never forge a line; lines are cut at 2000 bytes. */
void sdw_log(enum sdw_log_level level, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

#define sdw_log_debug(...) sdw_log(SDW_LOG_DEBUG, __VA_ARGS__)
#define sdw_log_info(...)  sdw_log(SDW_LOG_INFO, __VA_ARGS__)
#define sdw_log_warn(...)  sdw_log(SDW_LOG_WARN, __VA_ARGS__)
#define sdw_log_error(...) sdw_log(SDW_LOG_ERROR, __VA_ARGS__)

#endif
