/* job.c: what can be asked of one job. */
#include "job/internal.h"

#include "base/clock.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const state_names[SDW_JOB_STATES] = {"queued", "running", "completed", "failed",
                                                        "cancelled"};

const char *sdw_job_state_name(enum sdw_job_state state)
{
    return state_names[state];
}

void sdw_job_unref(struct sdw_job *job)
{
    if (--job->references > 0)
        return;
    sdw_events_free(job);
    sdw_params_free(&job->params);
    sdw_text_free(&job->result.png);
    free(job);
}

void sdw_job_release(struct sdw_job *job)
{
    struct sdw_jobs *jobs = job->jobs;
    pthread_mutex_lock(&jobs->lock);
    sdw_job_unref(job);
    pthread_mutex_unlock(&jobs->lock);
}

/* Jobs before this one in the queue, itself included. */
static int position_of(const struct sdw_job *job)
{
    int position = 0;
    for (const struct sdw_job *other = job; other; other = other->older)
        position += other->state == SDW_JOB_QUEUED;
    return position;
}

/* Seconds of steps that are left before this job is complete; negative when no step was ever timed.
 */
static double eta_of(const struct sdw_job *job)
{
    const struct sdw_jobs *jobs = job->jobs;
    if (job->state >= SDW_JOB_COMPLETED)
        return 0;
    if (jobs->step_s <= 0)
        return -1;
    double steps = 0;
    for (const struct sdw_job *other = job; other; other = other->older)
        if (other->state == SDW_JOB_QUEUED || other->state == SDW_JOB_RUNNING)
            steps += other->params.steps - other->step;
    return steps * jobs->step_s;
}

void sdw_job_status(struct sdw_job *job, struct sdw_job_status *status)
{
    pthread_mutex_lock(&job->jobs->lock);
    *status = (struct sdw_job_status){
        .state = job->state,
        .position = job->state == SDW_JOB_QUEUED ? position_of(job) : 0,
        .step = job->step,
        .total = job->total,
        .eta_s = eta_of(job),
        .seed = job->params.seed,
        .width = job->params.width,
        .height = job->params.height,
        .cancel_on_disconnect = job->params.cancel_on_disconnect,
        .created_ms = job->created_ms,
        .started_ms = job->started_ms,
        .finished_ms = job->finished_ms,
        .text_s = job->result.text_s,
        .unet_s = job->result.unet_s,
        .vae_s = job->result.vae_s,
        .png_s = job->result.png_s,
    };
    memcpy(status->id, job->id, sizeof job->id);
    memcpy(status->error, job->error, sizeof job->error);
    pthread_mutex_unlock(&job->jobs->lock);
}

enum sdw_status sdw_job_image(struct sdw_job *job, struct sdw_text *png, struct sdw_error *err)
{
    pthread_mutex_lock(&job->jobs->lock);
    enum sdw_status status;
    if (job->state == SDW_JOB_COMPLETED)
        status = sdw_text_append(png, job->result.png.data, job->result.png.length, err);
    else
        status = sdw_fail(err, SDW_NOT_FOUND, "job %s has no image: it is %s", job->id,
                          state_names[job->state]);
    pthread_mutex_unlock(&job->jobs->lock);
    return status;
}
