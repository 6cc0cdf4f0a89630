/* job.h: jobs from submission to image: a bounded queue, their states, and a log of events for any
 * number of readers.
 *
 * Threads: any thread submits, asks, cancels and reads; one thread runs the jobs (sdw_jobs_work). A
 * job that is over stays readable until newer ones push it out. Jobs are counted: whoever finds one
 * releases it. */
#ifndef SDW_JOB_JOB_H
#define SDW_JOB_JOB_H

#include "base/status.h"
#include "pipeline/params.h"
#include "pipeline/progress.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SDW_JOB_ID_MAX      41           /* "job_" and a UUID, its NUL included */
#define SDW_JOBS_KEPT_MAX   256          /* finished jobs that can still be read */
#define SDW_JOBS_KEPT_BYTES (256u << 20) /* of their images */

enum sdw_job_state {
    SDW_JOB_QUEUED,
    SDW_JOB_RUNNING,
    SDW_JOB_COMPLETED,
    SDW_JOB_FAILED,
    SDW_JOB_CANCELLED,
    SDW_JOB_STATES
};

const char *sdw_job_state_name(enum sdw_job_state state);

struct sdw_jobs;
struct sdw_job;

/* Called from any thread after a job's events or state have changed; must not call back into jobs.
 */
struct sdw_jobs_listener {
    void (*changed)(void *context, struct sdw_job *job);
    void *context;
};

enum sdw_status sdw_jobs_open(struct sdw_jobs **jobs, int queue_max, struct sdw_error *err);
void sdw_jobs_close(
    struct sdw_jobs *jobs); /* after sdw_jobs_work has returned and all jobs are released */
void sdw_jobs_listen(struct sdw_jobs *jobs, struct sdw_jobs_listener listener);

/* Takes over *params (also when it fails). id[SDW_JOB_ID_MAX]. SDW_BUSY when the queue is full;
 * SDW_UNAVAILABLE when stopping. */
enum sdw_status sdw_jobs_submit(struct sdw_jobs *jobs, char *id, struct sdw_params *params,
                                struct sdw_error *err);

/* Runs jobs on the calling thread, oldest first, until sdw_jobs_stop. */
void sdw_jobs_work(struct sdw_jobs *jobs, struct sdw_runner runner);

/* No more jobs: the running one is cancelled at its next step, the queued ones at once;
 * sdw_jobs_work returns. */
void sdw_jobs_stop(struct sdw_jobs *jobs);

struct sdw_jobs_counts {
    int state[SDW_JOB_STATES];                    /* jobs that are kept */
    long submitted, completed, failed, cancelled; /* since the start */
    double step_s;                                /* a recent step's seconds, 0 before the first */
};
struct sdw_jobs_counts sdw_jobs_count(struct sdw_jobs *jobs);
/* Seconds until a newly submitted job could start, as far as past steps tell. */
double sdw_jobs_wait_s(struct sdw_jobs *jobs);

/* NULL when unknown. Release it. */
struct sdw_job *sdw_jobs_find(struct sdw_jobs *jobs, const char *id);
/* Newest first: up to `max` jobs after skipping `skip`; release each. Returns how many; *total: all
 * that there are. */
int sdw_jobs_list(struct sdw_jobs *jobs, struct sdw_job **list, int max, int skip, int *total);
void sdw_job_release(struct sdw_job *job);

/* SDW_NOT_FOUND when it has ended already. */
enum sdw_status sdw_job_cancel(struct sdw_job *job, struct sdw_error *err);

struct sdw_job_status {
    char id[SDW_JOB_ID_MAX];
    enum sdw_job_state state;
    int position; /* jobs before it in the queue, itself included; 0 when it is not queued */
    int step, total;
    double eta_s; /* until it is complete; negative: not known */
    uint64_t seed;
    int width, height;
    bool cancel_on_disconnect;
    int64_t created_ms, started_ms, finished_ms; /* since 1970; 0: not yet */
    double text_s, unet_s, vae_s, png_s;
    char error[SDW_ERROR_MAX];
};
void sdw_job_status(struct sdw_job *job, struct sdw_job_status *status);

/* A copy of the PNG, in an initialised text. SDW_NOT_FOUND with the state when there is none. */
enum sdw_status sdw_job_image(struct sdw_job *job, struct sdw_text *png, struct sdw_error *err);

/* Where a reader of the event stream stands. Start with after = 0, or the last event id that was
 * seen. */
struct sdw_job_cursor {
    int after;     /* events up to this id are behind */
    size_t offset; /* bytes of the next one that were read already */
    bool named;    /* the newer form: "event:" lines, and the image is called image */
};

enum { SDW_STREAM_WAIT = 0, SDW_STREAM_END = -1 };

/* Copies the next bytes of the stream, at most `room`: their number, SDW_STREAM_WAIT when all there
 * is was read, or SDW_STREAM_END after [DONE]. */
int64_t sdw_job_read(struct sdw_job *job, struct sdw_job_cursor *cursor, char *to, size_t room);

#endif
