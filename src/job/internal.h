/* internal.h: what job.c (life of a job), queue.c (all jobs) and events.c (its log) share. One
 * mutex guards it all: jobs are few and what happens under it is short. */
#ifndef SDW_JOB_INTERNAL_H
#define SDW_JOB_INTERNAL_H

#include "job/job.h"

#include <pthread.h>
#include <stdatomic.h>

#define SDW_EVENTS_MAX (SDW_PARAMS_STEPS_MAX + 8)

enum sdw_event_kind {
    SDW_EVENT_PROGRESS,
    SDW_EVENT_COMPLETE,
    SDW_EVENT_ERROR,
    SDW_EVENT_CANCELLED,
    SDW_EVENT_DONE
};

/* Event i of a log has the id i + 1. */
struct sdw_event {
    enum sdw_event_kind kind;
    char *rest; /* the JSON object behind its "event" and "type", owned; NULL for the bare words */
    size_t length;
};

struct sdw_job {
    struct sdw_jobs *jobs;
    struct sdw_job *older, *newer; /* all that are kept, in the order of submission */
    int references;                /* one of the list's own while it is kept */
    char id[SDW_JOB_ID_MAX];
    enum sdw_job_state state;
    struct sdw_params params;
    struct sdw_result result;
    atomic_bool cancel;
    int step, total;
    double started, step_at; /* monotonic seconds: of the run, of its last step */
    int64_t created_ms, started_ms, finished_ms;
    char error[SDW_ERROR_MAX];
    struct sdw_event event[SDW_EVENTS_MAX];
    int events;
};

struct sdw_jobs {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    struct sdw_job *oldest, *newest;
    int queue_max, queued, kept; /* kept: finished ones */
    size_t kept_bytes;
    bool stopping;
    double step_s;
    long submitted, over[SDW_JOB_STATES];
    struct sdw_jobs_listener listener;
};

/* events.c; all under the lock. Without memory an event is dropped, never the stream's end. */
void sdw_events_progress(struct sdw_job *job);
void sdw_events_complete(struct sdw_job *job, double elapsed_s);
void sdw_events_error(struct sdw_job *job, const char *message);
void sdw_events_cancelled(struct sdw_job *job);
void sdw_events_free(struct sdw_job *job);

/* Drops one reference; under the lock. */
void sdw_job_unref(struct sdw_job *job);

#endif
