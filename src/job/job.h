/* job.h: from an accepted request to its image: the queue, the worker thread, the log of events.
 *
 * Accepted means stored: with a state folder, a job that sdw_jobs_submit has taken is there again
 * after whatever ends the process, and so are its events under their ids (store.h).
 *
 * `struct sdw_jobs` owns every job; a `struct sdw_job *` that a call hands out is a reference,
 * which the caller gives back with sdw_job_release, and which stays readable for as long as it is
 * held, even after the job was retired. All calls may come from any thread.
 *
 * States: queued, then running, then one of completed, failed, cancelled; a queued job may be
 * cancelled at once. Every change passes through the event log (events.c), which stores it and then
 * wakes the readers. A job that was running when the process ended is queued again, before all
 * others, with the events that it has. Jobs of a higher priority run first, those of the same in
 * their order; one that has not ended timeout_ms after its submit fails, wherever it is.
 *
 * Life: open, start (once the model is loaded; jobs wait until then), stop, close. */
#ifndef SDW_JOB_JOB_H
#define SDW_JOB_JOB_H

#include "pipeline/params.h"
#include "pipeline/progress.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SDW_JOB_KEY_MAX         128  /* bytes of an Idempotency-Key, its NUL included */
#define SDW_JOB_ID_MAX          41   /* "job_", 36 characters of a UUID, NUL */
#define SDW_JOBS_QUEUE_MAX      100  /* jobs that may wait */
#define SDW_JOB_ATTEMPTS_MAX    5    /* ends of the process in one job's step; then it fails */
#define SDW_JOBS_KEPT_MAX       1000 /* ended jobs that can still be read */
#define SDW_JOBS_KEPT_BYTES_MAX (256ull << 20) /* of their requests, images and events */

enum sdw_job_state {
    SDW_JOB_QUEUED,
    SDW_JOB_RUNNING,
    SDW_JOB_COMPLETED,
    SDW_JOB_FAILED,
    SDW_JOB_CANCELLED,
    SDW_JOB_STATE_COUNT
};

const char *sdw_job_state_name(enum sdw_job_state state); /* "queued" */

struct sdw_jobs_options {
    const char *state_dir;  /* where the jobs are stored, made when missing; NULL: in memory */
    int queue_max;          /* 0: SDW_JOBS_QUEUE_MAX */
    int kept_max;           /* 0: SDW_JOBS_KEPT_MAX */
    int64_t kept_bytes_max; /* 0: SDW_JOBS_KEPT_BYTES_MAX; the newest ended job is always kept */
    int64_t kept_s;         /* seconds after its end; 0: without end */
    /* What draws the images (model, element type, version): a run that another maker has begun
     * begins anew. Outlives the jobs; NULL: "". */
    const char *maker;
    double save_every_s; /* a run is saved no more often than this */
    /* Called, from the worker thread, with true when a job begins and false when none is left;
     * NULL: nobody looks. */
    void (*busy)(void *context, bool busy);
    /* False: no job begins, those that wait go on waiting. Asked under the lock, so it must not
     * call back; NULL: always true. */
    bool (*able)(void *context);
    void *context;
};

struct sdw_jobs;
struct sdw_job;

/* Brings back the jobs of options->state_dir. SDW_IO or SDW_FORMAT when the folder cannot be used:
 * another worker has it, it is read-only or full, or a newer version wrote it. */
enum sdw_status sdw_jobs_open(struct sdw_jobs **jobs, const struct sdw_jobs_options *options,
                              struct sdw_error *err);

/* From now on jobs are run, one after the other, on a thread of their own. */
enum sdw_status sdw_jobs_start(struct sdw_jobs *jobs, const struct sdw_runner *runner,
                               struct sdw_error *err);

/* Takes no more jobs, gives every reader an end at once, and tells the running generation to end at
 * its next step. With a state folder the jobs themselves wait there for the next start, and their
 * readers get SDW_JOB_EVENT_STOPPED; without one they are cancelled. Waits at most timeout_s for it
 * and says whether it has ended: if not, the process may exit, but sdw_jobs_close would wait. */
bool sdw_jobs_stop(struct sdw_jobs *jobs, double timeout_s);

/* Stops, waits for the generation, and frees. No reference may be held any more. NULL is allowed.
 */
void sdw_jobs_close(struct sdw_jobs *jobs);

/* Takes *params over (it is empty afterwards) when it succeeds; steps, width, height and seed must
 * be filled in (sdw_params_complete). The job carries the keys of *warnings that were not known
 * (NULL: none), and
 * `key`, under which sdw_jobs_find_key finds it (NULL: under none). SDW_BUSY when the queue is
 * full, SDW_STORAGE when the disk takes nothing, SDW_UNAVAILABLE after stop. */
enum sdw_status sdw_jobs_submit(struct sdw_jobs *jobs, char id[SDW_JOB_ID_MAX],
                                struct sdw_params *params, const struct sdw_faults *warnings,
                                const char *key, struct sdw_error *err);

/* A reference, or NULL when there is no such job. */
struct sdw_job *sdw_jobs_find(struct sdw_jobs *jobs, const char *id);
struct sdw_job *sdw_jobs_find_key(struct sdw_jobs *jobs, const char *key);
void sdw_job_release(struct sdw_job *job); /* NULL is allowed */

/* References to at most `count` jobs, newest first, after skipping `skip`; returns how many. */
int sdw_jobs_list(struct sdw_jobs *jobs, struct sdw_job **list, int skip, int count, int *total);

/* Ends a queued job at once and a running one at its next step. SDW_NOT_FOUND when it is unknown or
 * has ended. */
enum sdw_status sdw_jobs_cancel(struct sdw_jobs *jobs, const char *id, struct sdw_error *err);

struct sdw_job_status {
    char id[SDW_JOB_ID_MAX];
    enum sdw_job_state state;
    int position;    /* 1: next to run; 0: not queued */
    int step, total; /* steps done, steps in all */
    double eta_s;    /* seconds until it ends; negative when not known or over */
    int64_t created_ms, started_ms, ended_ms; /* since 1970; 0: not yet */
    double elapsed_s;                         /* of running, so far */
    double text_s, unet_s, vae_s, png_s;      /* stages of a completed job */
    int width, height;                        /* of the image, once there is one */
    char error[SDW_ERROR_MAX];
};

void sdw_job_status(struct sdw_job *job, struct sdw_job_status *status);
/* Neither changes. The request is a JSON object in which images are their digests. The parameters
 * have no images (those wait in the store for the job's turn), and of a job that had ended before
 * it was found they are its seed alone. */
const char *sdw_job_request(const struct sdw_job *job);
const struct sdw_params *sdw_job_params(const struct sdw_job *job);
/* Of a completed job: JSON about what became of its prompts (pipeline/wording.h); else NULL. */
const char *sdw_job_report(struct sdw_job *job);
int sdw_job_warnings(const struct sdw_job *job);
const char *sdw_job_warning(const struct sdw_job *job, int i); /* the key that was not known */

/* PNG number `index`, from 0, of a completed job, valid while the reference is held; NULL before,
 * when there is none of that number, and when it cannot be read. */
const void *sdw_job_image(struct sdw_job *job, int index, size_t *length);

enum sdw_job_event_kind {
    SDW_JOB_EVENT_PROGRESS,
    SDW_JOB_EVENT_PREVIEW, /* besides, for a request that asks: a small image of this step */
    SDW_JOB_EVENT_COMPLETE,
    SDW_JOB_EVENT_ERROR,
    SDW_JOB_EVENT_CANCELLED, /* the last one, as are complete and error; it has no members */
    SDW_JOB_EVENT_STOPPED,   /* not of the job but of this process: it has no id and is not kept */
};

/* One event, valid while the job's reference is held. Its id is its index + 1 and never stands for
 * another event, whatever happens to the process: an event is stored before it is told. */
struct sdw_job_event {
    enum sdw_job_event_kind kind;
    size_t length;
    const char *members; /* JSON members without the braces: "\"step\":1,\"total\":20,..." */
};

/* A reader that waits. Both are called with the jobs locked: they may only note or post something.
 */
struct sdw_job_watcher {
    void (*sleep)(void *context); /* nothing there yet; `wake` will follow, unless detached */
    void (*wake)(void *context);  /* once for every sleep, from any thread */
    void *context;
    bool asleep; /* the rest is the log's own */
    struct sdw_job_watcher *next, **place;
};

void sdw_job_watch(struct sdw_job *job, struct sdw_job_watcher *watcher);
void sdw_job_unwatch(struct sdw_job *job, struct sdw_job_watcher *watcher);

/* Event `index` (from 0). False when there is none yet: then, unless `watcher` is NULL, it was put
 * to sleep. Ends with a terminal event: do not ask for more. */
bool sdw_job_event(struct sdw_job *job, int index, struct sdw_job_event *event,
                   struct sdw_job_watcher *watcher);

/* Events so far; *ended: no more will come. */
int sdw_job_event_count(struct sdw_job *job, bool *ended);

/* Wakes a sleeping watcher out of turn (a keep-alive, a stop). */
void sdw_job_nudge(struct sdw_job *job, struct sdw_job_watcher *watcher);

#define SDW_HISTOGRAM_BUCKETS 12
extern const double sdw_histogram_bounds_s[SDW_HISTOGRAM_BUCKETS]; /* upper, rising */

/* Durations since the start. count[i]: at most bounds[i] and over bounds[i - 1]; the last: longer.
 */
struct sdw_histogram {
    uint64_t count[SDW_HISTOGRAM_BUCKETS + 1];
    double sum_s;
};

struct sdw_jobs_counts {
    int queued, running; /* now */
    int queue_max;
    int unsaved; /* ended jobs that the disk did not take so far: the queue waits for them */
    uint64_t ended[SDW_JOB_STATE_COUNT]; /* since the start, by state */
    uint64_t submitted, refused;         /* refused: the queue was full */
    uint64_t steps, images;
    double steps_s, text_s, vae_s, png_s; /* sums over completed jobs */
    struct sdw_histogram step;            /* each, of all jobs */
    struct sdw_histogram text, vae, png;  /* of completed jobs */
    double wait_s; /* until a place in the queue is free, as measured on this machine; negative
                      when not known */
    int64_t kept_bytes;
};

void sdw_jobs_count(struct sdw_jobs *jobs, struct sdw_jobs_counts *counts);

#endif
