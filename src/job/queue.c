/* queue.c: all jobs: submitted, run one after the other, kept for a while, forgotten. */
#include "job/internal.h"

#include "base/clock.h"
#include "base/log.h"

#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum sdw_status sdw_jobs_open(struct sdw_jobs **jobs, int queue_max, struct sdw_error *err)
{
    *jobs = calloc(1, sizeof **jobs);
    if (!*jobs || sodium_init() < 0) {
        free(*jobs);
        *jobs = NULL;
        return sdw_fail(err, SDW_MEMORY, "no memory for the queue of jobs");
    }
    pthread_mutex_init(&(*jobs)->lock, NULL);
    pthread_cond_init(&(*jobs)->changed, NULL);
    (*jobs)->queue_max = queue_max;
    return SDW_OK;
}

void sdw_jobs_close(struct sdw_jobs *jobs)
{
    if (!jobs)
        return;
    while (jobs->oldest) {
        struct sdw_job *job = jobs->oldest;
        jobs->oldest = job->newer;
        sdw_job_unref(job);
    }
    pthread_mutex_destroy(&jobs->lock);
    pthread_cond_destroy(&jobs->changed);
    free(jobs);
}

void sdw_jobs_listen(struct sdw_jobs *jobs, struct sdw_jobs_listener listener)
{
    pthread_mutex_lock(&jobs->lock);
    jobs->listener = listener;
    pthread_mutex_unlock(&jobs->lock);
}

/* Tells the listener, without the lock: it may take locks of its own. */
static void tell(struct sdw_jobs *jobs, struct sdw_job *job)
{
    pthread_mutex_lock(&jobs->lock);
    struct sdw_jobs_listener listener = jobs->listener;
    pthread_mutex_unlock(&jobs->lock);
    if (listener.changed)
        listener.changed(listener.context, job);
}

/* A random UUID, version 4 (RFC 9562, section 5.4). */
static void new_id(char *id)
{
    unsigned char b[16];
    randombytes_buf(b, sizeof b);
    b[6] = (unsigned char)((b[6] & 0x0f) | 0x40);
    b[8] = (unsigned char)((b[8] & 0x3f) | 0x80);
    snprintf(id, SDW_JOB_ID_MAX,
             "job_%02x%02x%02x%02x-%02x%02x-%02x%02x-%02x%02x-%02x%02x%02x%02x%02x%02x", b[0], b[1],
             b[2], b[3], b[4], b[5], b[6], b[7], b[8], b[9], b[10], b[11], b[12], b[13], b[14],
             b[15]);
}

enum sdw_status sdw_jobs_submit(struct sdw_jobs *jobs, char *id, struct sdw_params *params,
                                struct sdw_error *err)
{
    struct sdw_job *job = calloc(1, sizeof *job);
    if (!job) {
        sdw_params_free(params);
        return sdw_fail(err, SDW_MEMORY, "no memory for a job");
    }
    job->jobs = jobs;
    job->references = 1;
    job->params = *params;
    *params = (struct sdw_params){0};
    job->total = job->params.steps;
    job->created_ms = sdw_clock_unix_ms();
    sdw_text_init(&job->result.png, SDW_PNG_BYTES_MAX);
    new_id(job->id);
    memcpy(id, job->id, sizeof job->id);

    pthread_mutex_lock(&jobs->lock);
    enum sdw_status status = SDW_OK;
    if (jobs->stopping)
        status = sdw_fail(err, SDW_UNAVAILABLE, "the worker is stopping and takes no more jobs");
    else if (jobs->queued >= jobs->queue_max)
        status = sdw_fail(err, SDW_BUSY, "the queue is full: %d jobs wait already; try again later",
                          jobs->queued);
    if (status) {
        sdw_job_unref(job);
    } else {
        job->older = jobs->newest;
        *(jobs->newest ? &jobs->newest->newer : &jobs->oldest) = job;
        jobs->newest = job;
        jobs->queued++;
        jobs->submitted++;
        pthread_cond_broadcast(&jobs->changed);
    }
    pthread_mutex_unlock(&jobs->lock);
    return status;
}

static void unlink_job(struct sdw_jobs *jobs, struct sdw_job *job)
{
    *(job->older ? &job->older->newer : &jobs->oldest) = job->newer;
    *(job->newer ? &job->newer->older : &jobs->newest) = job->older;
    job->older = job->newer = NULL;
    jobs->kept--;
    jobs->kept_bytes -= job->result.png.length;
    sdw_job_unref(job);
}

/* Forgets the oldest finished jobs while there are too many, or their images too large. */
static void retire(struct sdw_jobs *jobs)
{
    struct sdw_job *job = jobs->oldest;
    while (job && (jobs->kept > SDW_JOBS_KEPT_MAX || jobs->kept_bytes > SDW_JOBS_KEPT_BYTES)) {
        struct sdw_job *newer = job->newer;
        if (job->state >= SDW_JOB_COMPLETED)
            unlink_job(jobs, job);
        job = newer;
    }
}

/* The end of a job, whatever it is; under the lock. */
static void finish(struct sdw_jobs *jobs, struct sdw_job *job, enum sdw_job_state state)
{
    job->state = state;
    job->finished_ms = sdw_clock_unix_ms();
    jobs->over[state]++;
    jobs->kept++;
    jobs->kept_bytes += job->result.png.length;
    if (state == SDW_JOB_CANCELLED)
        sdw_events_cancelled(job);
    else if (state == SDW_JOB_FAILED)
        sdw_events_error(job, job->error);
    else
        sdw_events_complete(job, sdw_clock_seconds() - job->started);
}

enum sdw_status sdw_job_cancel(struct sdw_job *job, struct sdw_error *err)
{
    struct sdw_jobs *jobs = job->jobs;
    enum sdw_status status = SDW_OK;
    pthread_mutex_lock(&jobs->lock);
    if (job->state >= SDW_JOB_COMPLETED) {
        status = sdw_fail(err, SDW_NOT_FOUND, "job %s has ended already: it is %s", job->id,
                          sdw_job_state_name(job->state));
    } else {
        atomic_store(&job->cancel, true);
        if (job->state == SDW_JOB_QUEUED) {
            jobs->queued--;
            finish(jobs, job, SDW_JOB_CANCELLED);
        }
    }
    pthread_mutex_unlock(&jobs->lock);
    if (!status)
        tell(jobs, job);
    return status;
}

static void step_done(void *context, int step, int total)
{
    struct sdw_job *job = context;
    struct sdw_jobs *jobs = job->jobs;
    double now = sdw_clock_seconds();
    pthread_mutex_lock(&jobs->lock);
    if (step > 1)
        jobs->step_s =
            jobs->step_s > 0 ? 0.7 * jobs->step_s + 0.3 * (now - job->step_at) : now - job->step_at;
    job->step_at = now;
    job->step = step;
    job->total = total;
    sdw_events_progress(job);
    pthread_mutex_unlock(&jobs->lock);
    tell(jobs, job);
}

/* Waits for the oldest queued job and marks it running, with a reference; NULL when stopping. */
static struct sdw_job *take(struct sdw_jobs *jobs)
{
    struct sdw_job *job = NULL;
    pthread_mutex_lock(&jobs->lock);
    for (;;) {
        for (job = jobs->oldest; job && job->state != SDW_JOB_QUEUED;)
            job = job->newer;
        if (job || jobs->stopping)
            break;
        pthread_cond_wait(&jobs->changed, &jobs->lock);
    }
    if (jobs->stopping)
        job = NULL;
    if (job) {
        job->state = SDW_JOB_RUNNING;
        job->references++;
        job->started = job->step_at = sdw_clock_seconds();
        job->started_ms = sdw_clock_unix_ms();
        jobs->queued--;
    }
    pthread_mutex_unlock(&jobs->lock);
    return job;
}

static void run_job(struct sdw_jobs *jobs, struct sdw_job *job, struct sdw_runner runner)
{
    struct sdw_progress progress = {step_done, job, &job->cancel};
    struct sdw_result result = {0};
    struct sdw_error err = {0};
    sdw_text_init(&result.png, SDW_PNG_BYTES_MAX);
    sdw_log_info("%s: %d steps, %d x %d, seed %llu", job->id, job->params.steps, job->params.width,
                 job->params.height, (unsigned long long)job->params.seed);
    enum sdw_status status = runner.run(runner.context, &job->params, &progress, &result, &err);

    pthread_mutex_lock(&jobs->lock);
    job->result = result;
    enum sdw_job_state state = status == SDW_OK          ? SDW_JOB_COMPLETED
                               : status == SDW_CANCELLED ? SDW_JOB_CANCELLED
                                                         : SDW_JOB_FAILED;
    if (state == SDW_JOB_FAILED)
        memcpy(job->error, err.message, sizeof job->error);
    finish(jobs, job, state);
    double seconds = sdw_clock_seconds() - job->started;
    pthread_mutex_unlock(&jobs->lock);

    if (state == SDW_JOB_FAILED)
        sdw_log_error("%s: failed after %.2f s: %s", job->id, seconds, err.message);
    else
        sdw_log_info("%s: %s in %.2f s (text %.2f, unet %.2f, vae %.2f)", job->id,
                     sdw_job_state_name(state), seconds, result.text_s, result.unet_s,
                     result.vae_s);
    tell(jobs, job);
}

void sdw_jobs_work(struct sdw_jobs *jobs, struct sdw_runner runner)
{
    for (struct sdw_job *job; (job = take(jobs));) {
        run_job(jobs, job, runner);
        pthread_mutex_lock(&jobs->lock);
        sdw_job_unref(job);
        retire(jobs);
        pthread_mutex_unlock(&jobs->lock);
    }
}

/* The oldest job that is neither over nor told to end, with a reference; NULL when there is none.
 */
static struct sdw_job *first_open(struct sdw_jobs *jobs)
{
    pthread_mutex_lock(&jobs->lock);
    struct sdw_job *job = jobs->oldest;
    while (job && job->state != SDW_JOB_QUEUED &&
           !(job->state == SDW_JOB_RUNNING && !atomic_load(&job->cancel)))
        job = job->newer;
    if (job)
        job->references++;
    pthread_mutex_unlock(&jobs->lock);
    return job;
}

void sdw_jobs_stop(struct sdw_jobs *jobs)
{
    pthread_mutex_lock(&jobs->lock);
    jobs->stopping = true;
    pthread_cond_broadcast(&jobs->changed);
    pthread_mutex_unlock(&jobs->lock);
    for (struct sdw_job *job; (job = first_open(jobs));) {
        sdw_job_cancel(job, NULL);
        sdw_job_release(job);
    }
}

struct sdw_jobs_counts sdw_jobs_count(struct sdw_jobs *jobs)
{
    struct sdw_jobs_counts counts = {0};
    pthread_mutex_lock(&jobs->lock);
    for (const struct sdw_job *job = jobs->oldest; job; job = job->newer)
        counts.state[job->state]++;
    counts.submitted = jobs->submitted;
    counts.completed = jobs->over[SDW_JOB_COMPLETED];
    counts.failed = jobs->over[SDW_JOB_FAILED];
    counts.cancelled = jobs->over[SDW_JOB_CANCELLED];
    counts.step_s = jobs->step_s;
    pthread_mutex_unlock(&jobs->lock);
    return counts;
}

double sdw_jobs_wait_s(struct sdw_jobs *jobs)
{
    double steps = 0;
    pthread_mutex_lock(&jobs->lock);
    for (const struct sdw_job *job = jobs->oldest; job; job = job->newer)
        if (job->state == SDW_JOB_QUEUED || job->state == SDW_JOB_RUNNING)
            steps += job->params.steps - job->step;
    double seconds = steps * jobs->step_s;
    pthread_mutex_unlock(&jobs->lock);
    return seconds;
}

struct sdw_job *sdw_jobs_find(struct sdw_jobs *jobs, const char *id)
{
    pthread_mutex_lock(&jobs->lock);
    struct sdw_job *job = jobs->newest;
    while (job && strcmp(job->id, id) != 0)
        job = job->older;
    if (job)
        job->references++;
    pthread_mutex_unlock(&jobs->lock);
    return job;
}

int sdw_jobs_list(struct sdw_jobs *jobs, struct sdw_job **list, int max, int skip, int *total)
{
    int count = 0;
    *total = 0;
    pthread_mutex_lock(&jobs->lock);
    for (struct sdw_job *job = jobs->newest; job; job = job->older, (*total)++)
        if (*total >= skip && count < max) {
            job->references++;
            list[count++] = job;
        }
    pthread_mutex_unlock(&jobs->lock);
    return count;
}
