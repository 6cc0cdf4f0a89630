/* jobs.c: the list of jobs: who comes in, who is found, who is let go. */
#include "job/internal.h"

#include "base/clock.h"
#include "base/log.h"

#include <assert.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char *sdw_job_state_name(enum sdw_job_state state)
{
    static const char *const names[SDW_JOB_STATE_COUNT] = {"queued", "running", "completed",
                                                           "failed", "cancelled"};
    return names[state];
}

enum sdw_status sdw_jobs_open(struct sdw_jobs **out, const struct sdw_jobs_options *options,
                              struct sdw_error *err)
{
    struct sdw_jobs *jobs = calloc(1, sizeof *jobs);
    if (!jobs)
        return sdw_fail(err, SDW_MEMORY, "no memory for the queue of jobs");
    if (sodium_init() < 0) {
        free(jobs);
        return sdw_fail(err, SDW_INTERNAL, "the system gives no random numbers (sodium_init)");
    }
    jobs->options = *options;
    if (jobs->options.queue_max == 0)
        jobs->options.queue_max = SDW_JOBS_QUEUE_MAX;
    if (jobs->options.kept_max == 0)
        jobs->options.kept_max = SDW_JOBS_KEPT_MAX;
    if (jobs->options.kept_bytes_max == 0)
        jobs->options.kept_bytes_max = SDW_JOBS_KEPT_BYTES_MAX;
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_mutex_init(&jobs->lock, NULL);
    pthread_cond_init(&jobs->changed, &attributes);
    pthread_condattr_destroy(&attributes);
    *out = jobs;
    return SDW_OK;
}

enum sdw_status sdw_jobs_start(struct sdw_jobs *jobs, const struct sdw_runner *runner,
                               struct sdw_error *err)
{
    pthread_mutex_lock(&jobs->lock);
    assert(!jobs->started);
    jobs->runner = *runner;
    jobs->started = pthread_create(&jobs->thread, NULL, sdw_jobs_work, jobs) == 0;
    bool started = jobs->started;
    pthread_mutex_unlock(&jobs->lock);
    return started ? SDW_OK
                   : sdw_fail(err, SDW_INTERNAL, "the system gives no thread for the jobs");
}

/* Waits until the worker has left its loop, at most until `deadline`. With the lock held. */
static bool wait_for_worker(struct sdw_jobs *jobs, const struct timespec *deadline)
{
    while (jobs->started && !jobs->worker_gone)
        if (pthread_cond_timedwait(&jobs->changed, &jobs->lock, deadline) != 0)
            return !jobs->started || jobs->worker_gone;
    return true;
}

bool sdw_jobs_stop(struct sdw_jobs *jobs, double timeout_s)
{
    struct timespec deadline;
    clock_gettime(CLOCK_MONOTONIC, &deadline);
    double end_s = (double)deadline.tv_nsec * 1e-9 + timeout_s;
    deadline.tv_sec += (time_t)end_s;
    deadline.tv_nsec = (long)((end_s - (double)(time_t)end_s) * 1e9);

    pthread_mutex_lock(&jobs->lock);
    jobs->stopping = true;
    struct sdw_job *newer;
    for (struct sdw_job *job = jobs->oldest; job; job = newer) {
        newer = job->newer; /* an ended job may be retired at once */
        if (job->state != SDW_JOB_QUEUED && job->state != SDW_JOB_RUNNING)
            continue;
        atomic_store(&job->cancel, true);
        sdw_job_end(job, SDW_JOB_CANCELLED, NULL);
        newer = jobs->oldest; /* the list has changed: from the start again */
    }
    pthread_cond_broadcast(&jobs->changed);
    bool gone = wait_for_worker(jobs, &deadline);
    pthread_mutex_unlock(&jobs->lock);
    return gone;
}

static void unlink_job(struct sdw_job *job)
{
    struct sdw_jobs *jobs = job->jobs;
    *(job->older ? &job->older->newer : &jobs->oldest) = job->newer;
    *(job->newer ? &job->newer->older : &jobs->newest) = job->older;
    job->older = job->newer = NULL;
}

void sdw_job_unreference(struct sdw_job *job)
{
    if (--job->references > 0)
        return;
    assert(!job->watchers);
    sdw_params_free(&job->params);
    sdw_text_free(&job->result.png);
    free(job->events);
    free(job->large);
    free(job);
}

void sdw_jobs_close(struct sdw_jobs *jobs)
{
    if (!jobs)
        return;
    sdw_jobs_stop(jobs, 0);
    if (jobs->started)
        pthread_join(jobs->thread, NULL);
    while (jobs->oldest) {
        struct sdw_job *job = jobs->oldest;
        unlink_job(job);
        assert(job->references == 1);
        sdw_job_unreference(job);
    }
    pthread_cond_destroy(&jobs->changed);
    pthread_mutex_destroy(&jobs->lock);
    free(jobs);
}

/* "job_" and a random UUID (version 4, RFC 4122) in lower case. */
static void draw_id(char id[SDW_JOB_ID_MAX])
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

static struct sdw_job *new_job(struct sdw_jobs *jobs, const struct sdw_params *params)
{
    struct sdw_job *job = calloc(1, sizeof *job);
    int event_max = params->steps + 1;
    struct event *events = calloc((size_t)event_max, sizeof *events);
    if (!job || !events) {
        free(job);
        free(events);
        return NULL;
    }
    job->jobs = jobs;
    job->references = 1;
    job->params = *params;
    job->total = params->steps;
    job->events = events;
    job->event_max = event_max;
    job->created_ms = sdw_clock_unix_ms();
    atomic_init(&job->cancel, false);
    draw_id(job->id);
    return job;
}

static enum sdw_status admit(struct sdw_jobs *jobs, struct sdw_error *err)
{
    if (jobs->stopping)
        return sdw_fail(err, SDW_UNAVAILABLE, "the worker is stopping and takes no more jobs");
    if (jobs->counts.queued < jobs->options.queue_max)
        return SDW_OK;
    jobs->counts.refused++;
    return sdw_fail(err, SDW_BUSY, "the queue is full: %d jobs are waiting; try again later",
                    jobs->counts.queued);
}

enum sdw_status sdw_jobs_submit(struct sdw_jobs *jobs, char id[SDW_JOB_ID_MAX],
                                struct sdw_params *params, const struct sdw_faults *warnings,
                                const char *key, struct sdw_error *err)
{
    assert(!key || strlen(key) < SDW_JOB_KEY_MAX);
    pthread_mutex_lock(&jobs->lock);
    enum sdw_status status = admit(jobs, err);
    struct sdw_job *job = status ? NULL : new_job(jobs, params);
    if (!status && !job)
        status = sdw_fail(err, SDW_MEMORY, "no memory for one more job");
    if (status) {
        pthread_mutex_unlock(&jobs->lock);
        return status;
    }
    *params = (struct sdw_params){0};
    if (warnings) {
        job->warning_count = warnings->unknown;
        memcpy(job->warnings, warnings->unknown_key, sizeof job->warnings);
    }
    if (key)
        snprintf(job->key, sizeof job->key, "%s", key);
    snprintf(id, SDW_JOB_ID_MAX, "%s", job->id);
    job->older = jobs->newest;
    *(jobs->newest ? &jobs->newest->newer : &jobs->oldest) = job;
    jobs->newest = job;
    jobs->counts.queued++;
    jobs->counts.submitted++;
    pthread_cond_broadcast(&jobs->changed);
    pthread_mutex_unlock(&jobs->lock);
    return SDW_OK;
}

/* From the oldest on; the newest ended job is kept whatever its size, so that an image larger than
 * the limit can be fetched at all. */
void sdw_jobs_retire(struct sdw_jobs *jobs)
{
    struct sdw_job *job = jobs->oldest;
    while (job && jobs->kept > 1 &&
           (jobs->kept > jobs->options.kept_max ||
            jobs->counts.kept_bytes > jobs->options.kept_bytes_max)) {
        struct sdw_job *newer = job->newer;
        if (job->state != SDW_JOB_QUEUED && job->state != SDW_JOB_RUNNING) {
            jobs->kept--;
            jobs->counts.kept_bytes -= job->result.png.length;
            jobs->counts.kept_bytes -= job->large ? strlen(job->large) : 0;
            unlink_job(job);
            sdw_job_unreference(job);
        }
        job = newer;
    }
}

static struct sdw_job *find(struct sdw_jobs *jobs, const char *id)
{
    struct sdw_job *job = jobs->newest;
    while (job && strcmp(job->id, id) != 0)
        job = job->older;
    return job;
}

struct sdw_job *sdw_jobs_find(struct sdw_jobs *jobs, const char *id)
{
    pthread_mutex_lock(&jobs->lock);
    struct sdw_job *job = find(jobs, id);
    if (job)
        job->references++;
    pthread_mutex_unlock(&jobs->lock);
    return job;
}

struct sdw_job *sdw_jobs_find_key(struct sdw_jobs *jobs, const char *key)
{
    pthread_mutex_lock(&jobs->lock);
    struct sdw_job *job = jobs->newest;
    while (job && (!job->key[0] || strcmp(job->key, key) != 0))
        job = job->older;
    if (job)
        job->references++;
    pthread_mutex_unlock(&jobs->lock);
    return job;
}

void sdw_job_release(struct sdw_job *job)
{
    if (!job)
        return;
    struct sdw_jobs *jobs = job->jobs;
    pthread_mutex_lock(&jobs->lock);
    sdw_job_unreference(job);
    pthread_mutex_unlock(&jobs->lock);
}

int sdw_jobs_list(struct sdw_jobs *jobs, struct sdw_job **list, int skip, int count, int *total)
{
    int at = 0, listed = 0;
    pthread_mutex_lock(&jobs->lock);
    for (struct sdw_job *job = jobs->newest; job; job = job->older, at++) {
        if (at < skip || listed >= count)
            continue;
        job->references++;
        list[listed++] = job;
    }
    *total = at;
    pthread_mutex_unlock(&jobs->lock);
    return listed;
}

enum sdw_status sdw_jobs_cancel(struct sdw_jobs *jobs, const char *id, struct sdw_error *err)
{
    enum sdw_status status = SDW_OK;
    pthread_mutex_lock(&jobs->lock);
    struct sdw_job *job = find(jobs, id);
    if (!job)
        status = sdw_fail(err, SDW_NOT_FOUND, "there is no job %.64s", id);
    else if (job->state == SDW_JOB_RUNNING)
        atomic_store(&job->cancel, true);
    else if (job->state == SDW_JOB_QUEUED)
        sdw_job_end(job, SDW_JOB_CANCELLED, NULL);
    else
        status = sdw_fail(err, SDW_NOT_FOUND, "job %.64s has ended already: %s", id,
                          sdw_job_state_name(job->state));
    pthread_mutex_unlock(&jobs->lock);
    return status;
}

static int position(const struct sdw_job *job)
{
    int before = 0;
    if (job->state != SDW_JOB_QUEUED)
        return 0;
    for (const struct sdw_job *other = job->older; other; other = other->older)
        before += other->state == SDW_JOB_QUEUED;
    return before + 1;
}

void sdw_job_status(struct sdw_job *job, struct sdw_job_status *status)
{
    pthread_mutex_lock(&job->jobs->lock);
    *status = (struct sdw_job_status){
        .state = job->state,
        .position = position(job),
        .step = job->step,
        .total = job->total,
        .eta_s = sdw_job_eta(job),
        .created_ms = job->created_ms,
        .started_ms = job->started_ms,
        .ended_ms = job->ended_ms,
        .text_s = job->result.text_s,
        .unet_s = job->result.unet_s,
        .vae_s = job->result.vae_s,
        .png_s = job->result.png_s,
        .width = job->result.width,
        .height = job->result.height,
    };
    if (job->started_ms)
        status->elapsed_s = (job->ended_ms ? job->ended_s : sdw_clock_seconds()) - job->started_s;
    snprintf(status->id, sizeof status->id, "%s", job->id);
    snprintf(status->error, sizeof status->error, "%s", job->error);
    pthread_mutex_unlock(&job->jobs->lock);
}

const struct sdw_params *sdw_job_params(const struct sdw_job *job)
{
    return &job->params;
}

int sdw_job_warnings(const struct sdw_job *job)
{
    return job->warning_count;
}

const char *sdw_job_warning(const struct sdw_job *job, int i)
{
    return job->warnings[i];
}

const void *sdw_job_image(struct sdw_job *job, size_t *length)
{
    pthread_mutex_lock(&job->jobs->lock);
    bool there = job->state == SDW_JOB_COMPLETED;
    pthread_mutex_unlock(&job->jobs->lock);
    *length = there ? job->result.png.length : 0;
    return there ? job->result.png.data : NULL;
}

void sdw_jobs_count(struct sdw_jobs *jobs, struct sdw_jobs_counts *counts)
{
    pthread_mutex_lock(&jobs->lock);
    *counts = jobs->counts;
    counts->queue_max = jobs->options.queue_max;
    counts->wait_s = jobs->running ? sdw_job_remaining(jobs->running) : -1;
    pthread_mutex_unlock(&jobs->lock);
}
