/* jobs.c: the list of jobs: who comes in, who is found, who is let go.
 *
 * In memory are the jobs that have not ended, and those that somebody holds; all others are rows of
 * the store, and become a struct again for as long as somebody holds them. */
#include "job/internal.h"

#include "base/clock.h"
#include "base/log.h"

#include <assert.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FIRST_EVENTS 8 /* a job has room for so many before it asks for more */

const char *sdw_job_state_name(enum sdw_job_state state)
{
    static const char *const names[SDW_JOB_STATE_COUNT] = {"queued", "running", "completed",
                                                           "failed", "cancelled"};
    return names[state];
}

static void list_job(struct sdw_job *job)
{
    struct sdw_jobs *jobs = job->jobs;
    job->older = jobs->newest;
    *(jobs->newest ? &jobs->newest->newer : &jobs->oldest) = job;
    jobs->newest = job;
    job->listed = true;
}

void sdw_job_unlist(struct sdw_job *job)
{
    struct sdw_jobs *jobs = job->jobs;
    if (!job->listed)
        return;
    *(job->older ? &job->older->newer : &jobs->oldest) = job->newer;
    *(job->newer ? &job->newer->older : &jobs->newest) = job->older;
    job->older = job->newer = NULL;
    job->listed = false;
}

static void free_job(struct sdw_job *job)
{
    assert(!job->watchers);
    sdw_job_unlist(job);
    sdw_params_free(&job->params);
    free(job->shown);
    sdw_result_free(&job->result);
    for (int i = 0; i < job->event_count; i++)
        free(job->events[i].members);
    free(job->events);
    sdw_text_free(&job->complete);
    free(job);
}

void sdw_job_unreference(struct sdw_job *job)
{
    if (--job->references == 0)
        free_job(job);
}

/* With one reference, on no list, and room for a terminal event. */
static struct sdw_job *new_job(struct sdw_jobs *jobs)
{
    struct sdw_job *job = calloc(1, sizeof *job);
    struct event *events = calloc(FIRST_EVENTS, sizeof *events);
    if (!job || !events) {
        free(job);
        free(events);
        return NULL;
    }
    job->jobs = jobs;
    job->references = 1;
    job->events = events;
    job->event_max = FIRST_EVENTS;
    atomic_init(&job->cancel, false);
    return job;
}

/* A queue of large inputs is the store's to hold: they come back when the job begins. */
static void drop_images(struct sdw_job *job)
{
    struct sdw_params_image *images[] = {&job->params.init_image, &job->params.mask_image};
    for (size_t i = 0; i < sizeof images / sizeof images[0]; i++) {
        job->has_images |= images[i]->bytes != NULL;
        free(images[i]->bytes);
        *images[i] = (struct sdw_params_image){0};
    }
}

/* A job that had not ended when the last process did: queued again, unless it was to be cancelled,
 * cannot be read, or may be what ended that process. */
static enum sdw_status bring_back(struct sdw_job *job, struct sdw_error *err)
{
    char sentence[SDW_ERROR_MAX];
    snprintf(sentence, sizeof sentence, "%s", job->error);
    if (job->attempts >= SDW_JOB_ATTEMPTS_MAX)
        snprintf(sentence, sizeof sentence,
                 "the worker ended %d times while it ran step %d of this job", job->attempts,
                 job->step + 1);
    job->fetched = true;
    drop_images(job);
    job->state = SDW_JOB_QUEUED;
    job->jobs->counts.queued++;
    enum sdw_status status = sdw_store_read_events(job->jobs->store, job, err);
    list_job(job);
    if (status)
        return status;
    for (int i = 0, step = 0; i < job->event_count; i++) {
        step += job->events[i].kind == SDW_JOB_EVENT_PROGRESS;
        if (job->events[i].kind == SDW_JOB_EVENT_PREVIEW)
            job->previewed = step;
    }
    if (job->cancel_asked)
        sdw_job_end(job, SDW_JOB_CANCELLED, NULL);
    else if (*sentence)
        sdw_job_end(job, SDW_JOB_FAILED, sentence);
    return SDW_OK;
}

static enum sdw_status bring_back_all(struct sdw_jobs *jobs, struct sdw_error *err)
{
    struct sdw_store_totals totals = {0};
    enum sdw_status status = sdw_store_totals(jobs->store, &totals, err);
    bool found = true;
    jobs->kept = totals.ended;
    jobs->counts.kept_bytes = totals.bytes;
    for (int64_t number = 0; !status && found;) {
        struct sdw_job *job = new_job(jobs);
        if (!job)
            return sdw_fail(err, SDW_MEMORY, "no memory for the stored jobs");
        status = sdw_store_next(jobs->store, number, job, &found, err);
        number = job->number;
        if (!status && found)
            status = bring_back(job, err);
        else
            sdw_job_unreference(job);
    }
    if (!status)
        sdw_jobs_retire(jobs);
    return status;
}

static void init_lock(struct sdw_jobs *jobs)
{
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_mutex_init(&jobs->lock, NULL);
    pthread_cond_init(&jobs->changed, &attributes);
    pthread_condattr_destroy(&attributes);
}

static void free_jobs(struct sdw_jobs *jobs)
{
    while (jobs->oldest) {
        assert(jobs->oldest->references == 1);
        sdw_job_unreference(jobs->oldest);
    }
    sdw_store_close(jobs->store);
    pthread_cond_destroy(&jobs->changed);
    pthread_mutex_destroy(&jobs->lock);
    free(jobs);
}

enum sdw_status sdw_jobs_open(struct sdw_jobs **out, const struct sdw_jobs_options *options,
                              struct sdw_error *err)
{
    struct sdw_jobs *jobs = calloc(1, sizeof *jobs);
    struct sdw_error unused;
    err = err ? err : &unused;
    if (!jobs)
        return sdw_fail(err, SDW_MEMORY, "no memory for the queue of jobs");
    jobs->options = *options;
    jobs->options.state_dir = NULL; /* the caller's; the store has its own */
    if (!jobs->options.maker)
        jobs->options.maker = "";
    if (jobs->options.queue_max == 0)
        jobs->options.queue_max = SDW_JOBS_QUEUE_MAX;
    if (jobs->options.kept_max == 0)
        jobs->options.kept_max = SDW_JOBS_KEPT_MAX;
    if (jobs->options.kept_bytes_max == 0)
        jobs->options.kept_bytes_max = SDW_JOBS_KEPT_BYTES_MAX;
    init_lock(jobs);
    enum sdw_status status =
        sodium_init() < 0
            ? sdw_fail(err, SDW_INTERNAL, "the system gives no random numbers (sodium_init)")
            : sdw_store_open(&jobs->store, options->state_dir, err);
    if (!status)
        status = bring_back_all(jobs, err);
    if (!status && pthread_create(&jobs->keeper, NULL, sdw_jobs_keep, jobs) != 0)
        status = sdw_fail(err, SDW_INTERNAL, "the system gives no thread for the jobs");
    if (status) {
        free_jobs(jobs);
        return status;
    }
    if (options->state_dir)
        sdw_log_info("state folder %s: %d jobs go on, %d have ended", options->state_dir,
                     jobs->counts.queued, jobs->kept);
    *out = jobs;
    return SDW_OK;
}

enum sdw_status sdw_jobs_start(struct sdw_jobs *jobs, const struct sdw_runner *runner,
                               struct sdw_error *err)
{
    pthread_mutex_lock(&jobs->lock);
    assert(!jobs->started);
    jobs->runner = *runner;
    bool started = pthread_create(&jobs->worker, NULL, sdw_jobs_work, jobs) == 0;
    if (started && pthread_create(&jobs->helper, NULL, sdw_jobs_help, jobs) != 0) {
        jobs->stopping = true; /* the worker has not looked yet */
        pthread_mutex_unlock(&jobs->lock);
        pthread_join(jobs->worker, NULL);
        pthread_mutex_lock(&jobs->lock);
        started = false;
    }
    jobs->started = started;
    jobs->working = started ? 2 : 0;
    pthread_mutex_unlock(&jobs->lock);
    return started ? SDW_OK
                   : sdw_fail(err, SDW_INTERNAL, "the system gives no thread for the jobs");
}

/* Waits until the workers have left their loops, at most until `deadline`. With the lock held. */
static bool wait_for_worker(struct sdw_jobs *jobs, const struct timespec *deadline)
{
    while (jobs->working)
        if (pthread_cond_timedwait(&jobs->changed, &jobs->lock, deadline) != 0)
            return !jobs->working;
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
    struct sdw_job *next;
    for (struct sdw_job *job = jobs->oldest; job; job = next) {
        next = job->newer;
        if (sdw_job_has_ended(job))
            continue;
        atomic_store(&job->cancel, true);
        if (sdw_store_lasts(jobs->store)) {
            sdw_job_wake(job);
        } else {
            sdw_job_end(job, SDW_JOB_CANCELLED, NULL);
            next = jobs->oldest; /* the list has changed: from the start again */
        }
    }
    pthread_cond_broadcast(&jobs->changed);
    bool gone = wait_for_worker(jobs, &deadline);
    pthread_mutex_unlock(&jobs->lock);
    return gone;
}

void sdw_jobs_close(struct sdw_jobs *jobs)
{
    if (!jobs)
        return;
    sdw_jobs_stop(jobs, 0);
    if (jobs->started) {
        pthread_join(jobs->worker, NULL);
        pthread_join(jobs->helper, NULL);
    }
    pthread_mutex_lock(&jobs->lock);
    jobs->closing = true;
    pthread_cond_broadcast(&jobs->changed);
    pthread_mutex_unlock(&jobs->lock);
    pthread_join(jobs->keeper, NULL);
    free_jobs(jobs);
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

/* The parameters are borrowed until the job is stored. */
static enum sdw_status fill_job(struct sdw_job *job, const struct sdw_params *params,
                                const struct sdw_faults *warnings, const char *key,
                                struct sdw_error *err)
{
    struct sdw_text shown;
    sdw_text_init(&shown, SDW_STORE_SHOWN_BYTES_MAX);
    enum sdw_status status = sdw_params_write(&shown, params, true, err);
    if (status) {
        sdw_text_free(&shown);
        return status;
    }
    job->shown = shown.data;
    draw_id(job->id);
    job->params = *params;
    job->total = sdw_params_steps(params);
    job->created_ms = sdw_clock_unix_ms();
    job->fetched = true;
    if (warnings) {
        job->warning_count = warnings->unknown;
        memcpy(job->warnings, warnings->unknown_key, sizeof job->warnings);
    }
    if (key)
        snprintf(job->key, sizeof job->key, "%s", key);
    return SDW_OK;
}

enum sdw_status sdw_jobs_submit(struct sdw_jobs *jobs, char id[SDW_JOB_ID_MAX],
                                struct sdw_params *params, const struct sdw_faults *warnings,
                                const char *key, struct sdw_error *err)
{
    assert(!key || strlen(key) < SDW_JOB_KEY_MAX);
    pthread_mutex_lock(&jobs->lock);
    enum sdw_status status = admit(jobs, err);
    struct sdw_job *job = status ? NULL : new_job(jobs);
    if (!status && !job)
        status = sdw_fail(err, SDW_MEMORY, "no memory for one more job");
    if (!status)
        status = fill_job(job, params, warnings, key, err);
    if (!status)
        status = sdw_store_submit(jobs->store, job, err);
    if (!status) {
        *params = (struct sdw_params){0};
        drop_images(job);
        snprintf(id, SDW_JOB_ID_MAX, "%s", job->id);
        list_job(job);
        jobs->counts.queued++;
        jobs->counts.submitted++;
        pthread_cond_broadcast(&jobs->changed);
    } else if (job) {
        job->params = (struct sdw_params){0};
        sdw_job_unreference(job);
    }
    pthread_mutex_unlock(&jobs->lock);
    return status;
}

/* One more reference to a job in memory, or the first one to a job that is only stored. */
static struct sdw_job *hold(struct sdw_jobs *jobs, const char *id, const char *key)
{
    assert(id || key);
    struct sdw_error err;
    bool found = false;
    struct sdw_job *job = jobs->newest;
    while (job && strcmp(id ? job->id : job->key, id ? id : key) != 0)
        job = job->older;
    if (job) {
        job->references++;
        return job;
    }
    job = new_job(jobs);
    enum sdw_status status = !job ? sdw_fail(&err, SDW_MEMORY, "no memory for a stored job")
                             : id ? sdw_store_find(jobs->store, id, job, &found, &err)
                                  : sdw_store_find_key(jobs->store, key, job, &found, &err);
    if (status)
        sdw_log_error("job %s: %s", id ? id : key, err.message);
    if (found) {
        list_job(job);
        return job;
    }
    if (job)
        sdw_job_unreference(job);
    return NULL;
}

struct sdw_job *sdw_jobs_find(struct sdw_jobs *jobs, const char *id)
{
    pthread_mutex_lock(&jobs->lock);
    struct sdw_job *job = hold(jobs, id, NULL);
    pthread_mutex_unlock(&jobs->lock);
    return job;
}

struct sdw_job *sdw_jobs_find_key(struct sdw_jobs *jobs, const char *key)
{
    pthread_mutex_lock(&jobs->lock);
    struct sdw_job *job = hold(jobs, NULL, key);
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
    char(*ids)[SDW_JOB_ID_MAX] = calloc((size_t)count, sizeof *ids);
    struct sdw_error err;
    int page = 0, listed = 0;
    *total = 0;
    pthread_mutex_lock(&jobs->lock);
    enum sdw_status status =
        ids ? sdw_store_page(jobs->store, ids, skip, count, &page, total, &err)
            : sdw_fail(&err, SDW_MEMORY, "no memory for a page of %d jobs", count);
    if (status)
        sdw_log_error("the list of jobs: %s", err.message);
    for (int i = 0; i < page; i++) {
        list[listed] = hold(jobs, ids[i], NULL);
        listed += list[listed] != NULL;
    }
    pthread_mutex_unlock(&jobs->lock);
    free(ids);
    return listed;
}

static struct sdw_job *find_unended(struct sdw_jobs *jobs, const char *id)
{
    struct sdw_job *job = jobs->newest;
    while (job && (sdw_job_has_ended(job) || strcmp(job->id, id) != 0))
        job = job->older;
    return job;
}

/* What is answered is stored first: an acknowledged request to cancel outlives the process, too. */
enum sdw_status sdw_jobs_cancel(struct sdw_jobs *jobs, const char *id, struct sdw_error *err)
{
    enum sdw_status status = SDW_OK;
    pthread_mutex_lock(&jobs->lock);
    struct sdw_job *job = find_unended(jobs, id);
    if (!job) {
        job = hold(jobs, id, NULL);
        status = job ? sdw_fail(err, SDW_NOT_FOUND, "job %.64s has ended already: %s", id,
                                sdw_job_state_name(job->state))
                     : sdw_fail(err, SDW_NOT_FOUND, "there is no job %.64s", id);
        if (job)
            sdw_job_unreference(job);
    } else if (job->state == SDW_JOB_QUEUED) {
        sdw_job_end(job, SDW_JOB_CANCELLED, NULL);
    } else {
        struct sdw_error fault;
        if (sdw_store_cancel(jobs->store, job, &fault))
            sdw_log_warn("job %s: %s", job->id, fault.message);
        job->cancel_asked = true;
        atomic_store(&job->cancel, true);
    }
    pthread_mutex_unlock(&jobs->lock);
    return status;
}

bool sdw_job_runs_before(const struct sdw_job *job, const struct sdw_job *other)
{
    bool begun = job->started_ms != 0, other_begun = other->started_ms != 0;
    int difference = job->params.priority - other->params.priority;
    if (begun != other_begun)
        return begun;
    return difference ? difference > 0 : job->number < other->number;
}

static int position(const struct sdw_job *job)
{
    int before = 0;
    if (job->state != SDW_JOB_QUEUED)
        return 0;
    for (const struct sdw_job *other = job->jobs->oldest; other; other = other->newer)
        before += other->state == SDW_JOB_QUEUED && sdw_job_runs_before(other, job);
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
    status->elapsed_s =
        job->state == SDW_JOB_RUNNING ? sdw_clock_seconds() - job->started_s : job->elapsed_s;
    snprintf(status->id, sizeof status->id, "%s", job->id);
    snprintf(status->error, sizeof status->error, "%s", job->error);
    pthread_mutex_unlock(&job->jobs->lock);
}

const char *sdw_job_report(struct sdw_job *job)
{
    pthread_mutex_lock(&job->jobs->lock);
    const char *report = job->result.report;
    pthread_mutex_unlock(&job->jobs->lock);
    return report;
}

const char *sdw_job_request(const struct sdw_job *job)
{
    return job->shown ? job->shown : "{}";
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

void sdw_jobs_count(struct sdw_jobs *jobs, struct sdw_jobs_counts *counts)
{
    pthread_mutex_lock(&jobs->lock);
    *counts = jobs->counts;
    counts->queue_max = jobs->options.queue_max;
    counts->unsaved = jobs->unsaved;
    counts->wait_s = jobs->running ? sdw_job_remaining(jobs->running) : -1;
    pthread_mutex_unlock(&jobs->lock);
}
