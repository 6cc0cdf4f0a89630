/* clock.h: seconds that only go forward, and dates for people. */
#ifndef SDW_BASE_CLOCK_H
#define SDW_BASE_CLOCK_H

#include <stddef.h>
#include <stdint.h>

double sdw_clock_seconds(void);  /* monotonic, from an arbitrary start */
int64_t sdw_clock_unix_ms(void); /* wall clock, milliseconds since 1970 */

#define SDW_TIMESTAMP_MAX 40
/* RFC 3339 in UTC with nanoseconds, e.g. 2026-11-03T21:00:00.123456789Z, into
 * text[SDW_TIMESTAMP_MAX]. */
void sdw_clock_timestamp(char *text);

#endif
