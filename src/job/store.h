/* store.h: where jobs outlive the process: one SQLite database in the state folder.
 *
 * A store belongs to one `struct sdw_jobs` and is called under its lock. One process has a folder
 * at a time. Without a folder the same database lives in memory and ends with the process.
 *
 * What is promised, and what it costs: a submitted job, a request to cancel and an end are synced
 * to the disk before the call returns (they survive power loss); events and saved states are handed
 * to the system (they survive the end of the process, in microseconds) and are synced with the next
 * of the former. Losing an event to a power cut moves nothing: the job starts again and tells the
 * same steps under the same ids.
 *
 * Failures of writing are SDW_STORAGE with a sentence; nothing of the call is in the database then.
 */
#ifndef SDW_JOB_STORE_H
#define SDW_JOB_STORE_H

#include "base/status.h"
#include "base/text.h"

#include <stdbool.h>
#include <stdint.h>

#define SDW_STORE_STATE_BYTES_MAX   (256u << 20) /* of a saved state */
#define SDW_STORE_REQUEST_BYTES_MAX (72u << 20)  /* of a request as JSON */
#define SDW_STORE_SHOWN_BYTES_MAX   (256u << 10) /* the same with digests for its images */

struct sdw_job;
struct sdw_params;
struct sdw_store;

/* `dir` is made when it is missing; NULL: in memory. SDW_IO: the folder cannot be written, or
 * another process has it. SDW_FORMAT: no database of ours, or of a newer version. */
enum sdw_status sdw_store_open(struct sdw_store **store, const char *dir, struct sdw_error *err);
void sdw_store_close(struct sdw_store *store);       /* NULL is allowed */
bool sdw_store_lasts(const struct sdw_store *store); /* longer than the process */

/* Writing, in the order of a job's life. Submit sets job->number, end job->bytes; events and end
 * write those from job->event_stored on. */
enum sdw_status sdw_store_submit(struct sdw_store *store, struct sdw_job *job,
                                 struct sdw_error *err);
enum sdw_status sdw_store_start(struct sdw_store *store, struct sdw_job *job,
                                struct sdw_error *err);
/* The process stops of its own will in the middle of the job: that was no attempt. */
enum sdw_status sdw_store_interrupt(struct sdw_store *store, struct sdw_job *job,
                                    struct sdw_error *err);
enum sdw_status sdw_store_events(struct sdw_store *store, struct sdw_job *job,
                                 struct sdw_error *err);
enum sdw_status sdw_store_cancel(struct sdw_store *store, struct sdw_job *job,
                                 struct sdw_error *err); /* asked for, not yet done */
/* The state from which `maker` can go on with the running job, in place of the one before. */
enum sdw_status sdw_store_save(struct sdw_store *store, const struct sdw_job *job,
                               const char *maker, const void *bytes, size_t length,
                               struct sdw_error *err);
enum sdw_status sdw_store_end(struct sdw_store *store, struct sdw_job *job, struct sdw_error *err);

/* Reading. A filled job has everything but events and image; it is not an error that there is none:
 * then *found is false. */
enum sdw_status sdw_store_find(struct sdw_store *store, const char *id, struct sdw_job *job,
                               bool *found, struct sdw_error *err);
enum sdw_status sdw_store_find_key(struct sdw_store *store, const char *key, struct sdw_job *job,
                                   bool *found, struct sdw_error *err);
/* The first unended job after number `after`, in order of arrival. */
enum sdw_status sdw_store_next(struct sdw_store *store, int64_t after, struct sdw_job *job,
                               bool *found, struct sdw_error *err);
/* Adds the stored events to job->events, which is empty. */
enum sdw_status sdw_store_read_events(struct sdw_store *store, struct sdw_job *job,
                                      struct sdw_error *err);
/* The request with its images, as JSON, and what it says (which takes a while, and no lock). */
enum sdw_status sdw_store_read_request(struct sdw_store *store, int64_t number,
                                       struct sdw_text *json, struct sdw_error *err);
enum sdw_status sdw_store_parse(struct sdw_params *params, const char *json, size_t length,
                                struct sdw_error *err);
enum sdw_status sdw_store_read_image(struct sdw_store *store, int64_t number, struct sdw_text *png,
                                     struct sdw_error *err);
/* What was saved last, when `maker` saved it; else *state stays empty. */
enum sdw_status sdw_store_read_state(struct sdw_store *store, int64_t number, const char *maker,
                                     struct sdw_text *state, struct sdw_error *err);

/* Ids of at most `count` jobs, newest first, after skipping `skip`; *total: of all. */
enum sdw_status sdw_store_page(struct sdw_store *store, char (*ids)[41], int skip, int count,
                               int *listed, int *total, struct sdw_error *err);

struct sdw_store_totals {
    int ended;     /* jobs */
    int64_t bytes; /* of their requests, images and events */
};

enum sdw_status sdw_store_totals(struct sdw_store *store, struct sdw_store_totals *totals,
                                 struct sdw_error *err);

/* The job that ended first. */
struct sdw_store_oldest {
    int64_t number, ended_ms, bytes;
};

enum sdw_status sdw_store_oldest(struct sdw_store *store, struct sdw_store_oldest *oldest,
                                 bool *found, struct sdw_error *err);
enum sdw_status sdw_store_delete(struct sdw_store *store, int64_t number, struct sdw_error *err);

#endif
