/* internal.h: what the files of this room share. Everything in both structs is under jobs->lock,
 * but for what is marked otherwise. */
#ifndef SDW_JOB_INTERNAL_H
#define SDW_JOB_INTERNAL_H

#include "job/job.h"

#include <pthread.h>
#include <stdatomic.h>

struct event {
    enum sdw_job_event_kind kind;
    size_t length;
    const char *members; /* `small`, or owned by the job as `large` */
    char small[80];
};

struct sdw_job {
    struct sdw_jobs *jobs;
    int references;            /* the queue's own is one of them */
    char id[SDW_JOB_ID_MAX];   /* this and the next four never change */
    char key[SDW_JOB_KEY_MAX]; /* "": none */
    struct sdw_params params;
    int warning_count;
    char warnings[SDW_PARAMS_UNKNOWN_MAX][32]; /* keys that were not known */
    enum sdw_job_state state;
    atomic_bool cancel; /* read by the generation without the lock */
    int step, total;
    int64_t created_ms, started_ms, ended_ms;
    double started_s, stepped_s, ended_s; /* monotonic; stepped_s: when the last step was done */
    char error[SDW_ERROR_MAX];
    struct sdw_result result;

    struct event *events; /* room for one a step and the terminal one */
    int event_count, event_max;
    char *large; /* members of the terminal event */
    struct sdw_job_watcher *watchers;

    struct sdw_job *older, *newer; /* all jobs that are kept, in order of arrival */
};

struct sdw_jobs {
    struct sdw_jobs_options options;
    struct sdw_runner runner;
    pthread_mutex_t lock;
    pthread_cond_t changed; /* something to run, a stop, or the worker has gone */
    pthread_t thread;
    bool started, stopping, worker_gone;

    struct sdw_job *oldest, *newest;
    struct sdw_job *running;
    struct sdw_jobs_counts counts;
    int kept; /* ended jobs in the list */

    /* Measured here: seconds a step and an evaluated pixel, and seconds a pixel for the rest;
     * 0: nothing measured yet. */
    double step_cost, rest_cost;
};

/* events.c; all with the lock held. A job that has ended takes no more events. */
void sdw_job_append_progress(struct sdw_job *job, int step, int total);
void sdw_job_end(struct sdw_job *job, enum sdw_job_state state, const char *error);

/* estimate.c; all with the lock held. Seconds, negative when not known. */
void sdw_jobs_measure(struct sdw_jobs *jobs, const struct sdw_job *job);
double sdw_job_remaining(const struct sdw_job *job); /* of running, without what waits before it */
double sdw_job_eta(const struct sdw_job *job);       /* with it */

/* jobs.c; with the lock held. */
void sdw_jobs_retire(struct sdw_jobs *jobs); /* lets go of ended jobs over the limits */
void sdw_job_unreference(struct sdw_job *job);

/* work.c: the worker thread. */
void *sdw_jobs_work(void *context);

#endif
