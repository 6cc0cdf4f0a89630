/* keeper.c: the thread that looks after what time does to jobs: deadlines pass, ended ones grow
 * old, and a disk that took nothing may have room again. */
#include "job/internal.h"

#include "base/clock.h"
#include "base/log.h"

#include <stdio.h>
#include <time.h>

#define ROUND_MS 60000 /* at most this long between two looks */
#define RETRY_MS 1000  /* between two attempts to store an end */

static bool over_limits(const struct sdw_jobs *jobs, const struct sdw_store_oldest *oldest)
{
    const struct sdw_jobs_options *options = &jobs->options;
    return jobs->kept > options->kept_max || jobs->counts.kept_bytes > options->kept_bytes_max ||
           (options->kept_s > 0 && oldest->ended_ms + options->kept_s * 1000 < sdw_clock_unix_ms());
}

/* Whoever holds the job reads on. */
static void let_go(struct sdw_jobs *jobs, const struct sdw_store_oldest *oldest)
{
    struct sdw_job *job = jobs->oldest;
    while (job && job->number != oldest->number)
        job = job->newer;
    if (!job)
        return;
    sdw_job_fetch_all(job);
    sdw_job_unlist(job);
}

/* The newest ended job is kept whatever its size, so that an image larger than the limit can be
 * fetched at all. */
void sdw_jobs_retire(struct sdw_jobs *jobs)
{
    struct sdw_store_oldest oldest;
    struct sdw_error err;
    bool found = true;
    while (jobs->kept > 1) {
        enum sdw_status status = sdw_store_oldest(jobs->store, &oldest, &found, &err);
        if (!status && (!found || !over_limits(jobs, &oldest)))
            return;
        if (!status)
            let_go(jobs, &oldest);
        if (!status)
            status = sdw_store_delete(jobs->store, oldest.number, &err);
        if (status) {
            sdw_log_warn("old jobs are kept: %s", err.message);
            return;
        }
        jobs->kept--;
        jobs->counts.kept_bytes -= oldest.bytes;
    }
}

/* Returns whether all are stored. */
static bool settle_all(struct sdw_jobs *jobs)
{
    for (struct sdw_job *job = jobs->oldest; job && jobs->unsaved > 0;) {
        bool waits = job->unsaved;
        if (waits && !sdw_job_settle(job))
            return false;
        job = waits ? jobs->oldest : job->newer; /* an end changes the list */
    }
    return true;
}

void sdw_job_miss(struct sdw_job *job)
{
    char sentence[SDW_ERROR_MAX];
    if (job->state == SDW_JOB_RUNNING)
        snprintf(sentence, sizeof sentence,
                 "the job's timeout_ms of %d was over when it had done %d of %d steps",
                 job->params.timeout_ms, job->step, job->total);
    else
        snprintf(sentence, sizeof sentence,
                 "the job's timeout_ms of %d was over before its turn came",
                 job->params.timeout_ms);
    sdw_job_end(job, SDW_JOB_FAILED, sentence);
}

/* Ends jobs whose deadline is over: queued ones here, the running one at its next step. Returns the
 * milliseconds until the next deadline, at most ROUND_MS. */
static int64_t pass_deadlines(struct sdw_jobs *jobs)
{
    int64_t now_ms = sdw_clock_unix_ms(), next_ms = ROUND_MS;
    for (struct sdw_job *job = jobs->oldest, *next; job; job = next) {
        next = job->newer;
        if (sdw_job_has_ended(job) || job->params.timeout_ms == 0 || job->late)
            continue;
        int64_t left_ms = job->created_ms + job->params.timeout_ms - now_ms;
        if (left_ms > 0) {
            next_ms = left_ms < next_ms ? left_ms : next_ms;
        } else if (job->state == SDW_JOB_RUNNING) {
            job->late = true;
            atomic_store(&job->cancel, true);
        } else {
            sdw_job_miss(job);
            next = jobs->oldest; /* the list has changed: from the start again */
        }
    }
    return next_ms;
}

static void wait_until(struct sdw_jobs *jobs, int64_t wait_ms)
{
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += wait_ms / 1000;
    until.tv_nsec += wait_ms % 1000 * 1000000;
    if (until.tv_nsec >= 1000000000) {
        until.tv_sec++;
        until.tv_nsec -= 1000000000;
    }
    pthread_cond_timedwait(&jobs->changed, &jobs->lock, &until);
}

void *sdw_jobs_keep(void *context)
{
    struct sdw_jobs *jobs = context;
    pthread_mutex_lock(&jobs->lock);
    while (!jobs->closing) {
        bool waited_for = jobs->unsaved > 0, stored = settle_all(jobs);
        if (waited_for && stored)
            pthread_cond_broadcast(&jobs->changed); /* the queue goes on */
        sdw_jobs_retire(jobs);
        int64_t wait_ms = jobs->stopping ? ROUND_MS : pass_deadlines(jobs);
        wait_until(jobs, stored || wait_ms < RETRY_MS ? wait_ms : RETRY_MS);
    }
    pthread_mutex_unlock(&jobs->lock);
    return NULL;
}
