/* work.c: the threads that run the jobs, one after the other. The lock is never held during a
 * generation.
 *
 * The device has one user at a time. A run that needs it no more says so (on_computed): while its
 * image is encoded, the helper begins the next job. Where the processor computes, nobody says so,
 * and the helper has nothing to do. */
#include "job/internal.h"

#include "base/clock.h"
#include "base/log.h"

static void on_step(void *context, int step, int total)
{
    struct sdw_job *job = context;
    pthread_mutex_lock(&job->jobs->lock);
    sdw_job_append_progress(job, step, total);
    pthread_mutex_unlock(&job->jobs->lock);
}

static void on_preview(void *context, int step, int total, const struct sdw_text *png)
{
    struct sdw_job *job = context;
    pthread_mutex_lock(&job->jobs->lock);
    sdw_job_append_preview(job, step, total, png);
    pthread_mutex_unlock(&job->jobs->lock);
}

/* What cannot be saved costs time after the next crash, and nothing else. */
static void on_save(void *context, const void *bytes, size_t length)
{
    struct sdw_job *job = context;
    struct sdw_jobs *jobs = job->jobs;
    struct sdw_error err;
    pthread_mutex_lock(&jobs->lock);
    if (!sdw_job_has_ended(job) &&
        sdw_store_save(jobs->store, job, jobs->options.maker, bytes, length, &err) != SDW_OK)
        sdw_log_warn("job %s: %s", job->id, err.message);
    pthread_mutex_unlock(&jobs->lock);
}

/* The next job may have the device. */
static void on_computed(void *context)
{
    struct sdw_job *job = context;
    struct sdw_jobs *jobs = job->jobs;
    pthread_mutex_lock(&jobs->lock);
    job->encoding = true;
    jobs->encoding++;
    jobs->device_taken = false;
    jobs->running = NULL;
    pthread_cond_broadcast(&jobs->changed);
    pthread_mutex_unlock(&jobs->lock);
}

/* None while an end waits to be stored: a full disk costs the memory of one image, not of a queue
 * of them. None on a device that is lost, which would fail them all. */
static struct sdw_job *next_queued(struct sdw_jobs *jobs)
{
    struct sdw_job *next = NULL;
    if (jobs->unsaved > 0 || (jobs->options.able && !jobs->options.able(jobs->options.context)))
        return NULL;
    for (struct sdw_job *job = jobs->oldest; job; job = job->newer)
        if (job->state == SDW_JOB_QUEUED && (!next || sdw_job_runs_before(job, next)))
            next = job;
    return next;
}

/* Without the lock meanwhile; one after the other. */
static void tell_busy(struct sdw_jobs *jobs, bool busy)
{
    jobs->busy = busy;
    if (!jobs->options.busy)
        return;
    jobs->telling_busy = true;
    pthread_mutex_unlock(&jobs->lock);
    jobs->options.busy(jobs->options.context, busy);
    pthread_mutex_lock(&jobs->lock);
    jobs->telling_busy = false;
    pthread_cond_broadcast(&jobs->changed);
}

static void finish(struct sdw_job *job, enum sdw_status status, const struct sdw_error *err)
{
    /* A cancellation that was acknowledged counts, even when the last step was done already. */
    if (job->cancel_asked)
        sdw_job_end(job, SDW_JOB_CANCELLED, NULL);
    else if (status && job->late)
        sdw_job_miss(job);
    else if (status)
        sdw_job_end(job, SDW_JOB_FAILED, err->message);
    else
        sdw_job_end(job, SDW_JOB_COMPLETED, NULL);
    sdw_log_info("job %s: %s after %.2f s%s%s", job->id, sdw_job_state_name(job->state),
                 job->elapsed_s, job->error[0] ? ": " : "", job->error);
    if (job->state == SDW_JOB_COMPLETED)
        sdw_jobs_measure(job->jobs, job);
}

/* The store hears of it only so that it is the first one again after a restart: a refusal costs
 * nothing. */
static void begin(struct sdw_jobs *jobs, struct sdw_job *job, struct sdw_text *saved)
{
    struct sdw_error err;
    job->references++;
    job->state = SDW_JOB_RUNNING;
    job->started_ms = sdw_clock_unix_ms();
    job->started_s = job->stepped_s = sdw_clock_seconds();
    jobs->running = job;
    jobs->device_taken = true;
    job->encoding = false;
    jobs->counts.queued--;
    jobs->counts.running++;
    if (sdw_store_start(jobs->store, job, &err))
        sdw_log_warn("job %s: %s", job->id, err.message);
    if (sdw_store_read_state(jobs->store, job->number, jobs->options.maker, saved, &err))
        sdw_log_warn("job %s begins anew: %s", job->id, err.message);
    sdw_log_info("job %s: %s, %d steps, %dx%d, seed %llu", job->id,
                 saved->length ? "goes on from its saved state" : "running", job->params.steps,
                 job->params.width, job->params.height, (unsigned long long)job->params.seed);
}

/* It goes on when the worker starts again. */
static void interrupt(struct sdw_jobs *jobs, struct sdw_job *job)
{
    struct sdw_error err;
    sdw_log_info("job %s: interrupted at step %d of %d", job->id, job->step, job->total);
    if (sdw_store_interrupt(jobs->store, job, &err))
        sdw_log_warn("job %s: %s", job->id, err.message);
}

/* The request as it came, where it had images; without the lock. */
static enum sdw_status draw(struct sdw_job *job, const struct sdw_text *request,
                            const struct sdw_progress *progress, struct sdw_result *result,
                            struct sdw_error *err)
{
    const struct sdw_runner *runner = &job->jobs->runner;
    struct sdw_params params;
    if (!job->has_images)
        return runner->run(runner->context, &job->params, progress, result, err);
    enum sdw_status status = sdw_store_parse(&params, request->data, request->length, err);
    if (status)
        return status;
    status = runner->run(runner->context, &params, progress, result, err);
    sdw_params_free(&params);
    return status;
}

static void run(struct sdw_jobs *jobs, struct sdw_job *job)
{
    struct sdw_error err = {0};
    struct sdw_result result = {0};
    struct sdw_text saved, request;
    sdw_text_init(&result.png, SDW_PNG_BYTES_MAX);
    sdw_text_init(&saved, SDW_STORE_STATE_BYTES_MAX);
    sdw_text_init(&request, SDW_STORE_REQUEST_BYTES_MAX);
    begin(jobs, job, &saved);
    enum sdw_status status = SDW_OK;
    if (job->has_images)
        status = sdw_store_read_request(jobs->store, job->number, &request, &err);
    struct sdw_progress progress = {.step = on_step,
                                    .preview = on_preview,
                                    .computed = on_computed,
                                    .context = job,
                                    .cancel = &job->cancel,
                                    .save = sdw_store_lasts(jobs->store) ? on_save : NULL,
                                    .save_every_s = jobs->options.save_every_s,
                                    .resume = saved.data,
                                    .resume_length = saved.length};
    pthread_mutex_unlock(&jobs->lock);
    if (!status)
        status = draw(job, &request, &progress, &result, &err);
    sdw_text_free(&request);
    sdw_text_free(&saved);
    pthread_mutex_lock(&jobs->lock);

    if (job->encoding) {
        jobs->encoding--;
    } else {
        jobs->device_taken = false;
        jobs->running = NULL;
    }
    bool interrupted =
        jobs->stopping && status == SDW_CANCELLED && !job->cancel_asked && !job->late;
    if (sdw_job_has_ended(job) || interrupted || status)
        sdw_result_free(&result);
    if (interrupted)
        interrupt(jobs, job);
    else if (!sdw_job_has_ended(job)) { /* else a stop has ended it */
        job->result = result;
        finish(job, status, &err);
    }
    sdw_job_unreference(job);
}

/* The worker takes every job that it can, the helper those that begin while the worker encodes. */
static void work(struct sdw_jobs *jobs, bool helps)
{
    pthread_mutex_lock(&jobs->lock);
    while (!jobs->stopping) {
        bool may = !jobs->device_taken && (!helps || jobs->encoding > 0);
        struct sdw_job *job = may ? next_queued(jobs) : NULL;
        bool busy = job || jobs->device_taken || jobs->encoding > 0;
        if (!jobs->telling_busy && busy != jobs->busy)
            tell_busy(jobs, busy); /* without the lock: look again */
        else if (!jobs->telling_busy && job)
            run(jobs, job);
        else
            pthread_cond_wait(&jobs->changed, &jobs->lock);
    }
    jobs->working--;
    pthread_cond_broadcast(&jobs->changed);
    pthread_mutex_unlock(&jobs->lock);
}

void *sdw_jobs_work(void *context)
{
    work(context, false);
    return NULL;
}

void *sdw_jobs_help(void *context)
{
    work(context, true);
    return NULL;
}
