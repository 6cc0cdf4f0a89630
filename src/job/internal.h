/* internal.h: what the files of this room share. Everything in both structs is under jobs->lock,
 * but for what is marked otherwise. */
#ifndef SDW_JOB_INTERNAL_H
#define SDW_JOB_INTERNAL_H

#include "job/job.h"
#include "job/store.h"

#include <pthread.h>
#include <stdatomic.h>

struct event {
    enum sdw_job_event_kind kind;
    size_t length;
    char *members; /* owned; NULL: there was no memory for them */
};

/* One job in memory: every one that has not ended, and ended ones for as long as somebody holds
 * them. Everything else lies in the store alone. */
struct sdw_job {
    struct sdw_jobs *jobs;
    int references;            /* the queue's own is one of them, until the end is stored */
    int64_t number;            /* order of arrival; the store's key */
    char id[SDW_JOB_ID_MAX];   /* this and the next six never change */
    char key[SDW_JOB_KEY_MAX]; /* "": none */
    struct sdw_params
        params;      /* without its images; of a job that was found ended: its seed alone */
    bool has_images; /* the request, which is in the store: fetched for the run alone */
    char *shown;     /* the request as JSON, with digests for its images; owned */
    int warning_count;
    char warnings[SDW_PARAMS_UNKNOWN_MAX][32]; /* keys that were not known */
    enum sdw_job_state state;
    atomic_bool cancel; /* read by the generation without the lock */
    bool cancel_asked;  /* by a client: else `cancel` comes from a stop */
    bool late;          /* or from its deadline */
    int step, total;    /* told to readers */
    int attempts;       /* of earlier processes that ended in the step after these */
    int previewed;      /* the last step whose preview was told */
    int64_t created_ms, started_ms, ended_ms;
    double elapsed_s; /* of running, once ended */
    int64_t bytes;    /* in the store, once ended */
    char error[SDW_ERROR_MAX];
    struct sdw_result result; /* its PNG is fetched from the store when somebody asks */

    /* Of this run. Monotonic seconds; stepped_s: when its last step was done. */
    double started_s, stepped_s;
    int steps_run, steps_left;

    struct event *events;
    int event_count, event_max;
    int event_stored;         /* the first so many are in the store */
    bool fetched;             /* `events` are here; false for a job that comes from the store */
    struct sdw_text complete; /* members of that event with its images; made when asked for */
    bool unsaved;             /* ended, and the store has refused to take it so far */
    struct sdw_job_watcher *watchers;

    bool listed;
    bool encoding;                 /* it runs, and needs the device no more */
    struct sdw_job *older, *newer; /* in memory */
};

struct sdw_jobs {
    struct sdw_jobs_options options;
    struct sdw_runner runner;
    struct sdw_store *store;
    pthread_mutex_t lock;
    pthread_cond_t changed; /* something to run, a stop, or a worker has gone */
    pthread_t worker, helper, keeper;
    bool started, stopping, closing;
    int working;       /* worker and helper, while they are in their loops */
    bool device_taken; /* a run needs it */
    int encoding;      /* runs that are past that: their images are encoded */
    bool busy, telling_busy;

    struct sdw_job *oldest, *newest;
    struct sdw_job *running;
    struct sdw_jobs_counts counts;
    int kept;    /* ended jobs in the store */
    int unsaved; /* jobs whose end the store has refused: nothing is run before it takes them */

    /* Measured here: seconds a step and an evaluated pixel, and seconds a pixel for the rest;
     * 0: nothing measured yet. */
    double step_cost, rest_cost;
};

static inline bool sdw_job_has_ended(const struct sdw_job *job)
{
    return job->state != SDW_JOB_QUEUED && job->state != SDW_JOB_RUNNING;
}

/* events.c; all with the lock held. A job that has ended takes no more events. */
void sdw_job_append_progress(struct sdw_job *job, int step, int total);
void sdw_job_append_preview(struct sdw_job *job, int step, int total, const struct sdw_text *png);
void sdw_job_end(struct sdw_job *job, enum sdw_job_state state, const char *error);
/* One event as the store gives it back; `members` may be NULL for none. */
bool sdw_job_add_event(struct sdw_job *job, enum sdw_job_event_kind kind, const char *members,
                       size_t length);
void sdw_job_wake(struct sdw_job *job); /* its readers */
/* Stores the end of a job, and lets it go; false when the store refuses. */
bool sdw_job_settle(struct sdw_job *job);
/* Brings events and image into memory, so that they outlive the row in the store. */
void sdw_job_fetch_all(struct sdw_job *job);

void sdw_histogram_add(struct sdw_histogram *histogram, double seconds);

/* estimate.c; all with the lock held. Seconds, negative when not known. */
void sdw_jobs_measure(struct sdw_jobs *jobs, const struct sdw_job *job);
double sdw_job_remaining(const struct sdw_job *job); /* of running, without what waits before it */
double sdw_job_eta(const struct sdw_job *job);       /* with it */

/* jobs.c; with the lock held. */
bool sdw_job_runs_before(const struct sdw_job *job, const struct sdw_job *other);
void sdw_job_unlist(struct sdw_job *job);
void sdw_job_unreference(struct sdw_job *job);

/* keeper.c: the thread that looks after what time does to jobs. */
void *sdw_jobs_keep(void *context);
void sdw_job_miss(struct sdw_job *job);      /* fails it for its deadline; locked */
void sdw_jobs_retire(struct sdw_jobs *jobs); /* lets go of ended jobs over the limits; locked */

/* work.c: the worker thread, and the one that runs the next job while an image is encoded. */
void *sdw_jobs_work(void *context);
void *sdw_jobs_help(void *context);

#endif
