/* estimate.c: how long it will still take, from this machine's own steps.
 *
 * A step costs as many seconds as the UNet is evaluated pixels (twice with guidance); what comes
 * before and after the steps costs by the pixel. Both rates are a running mean over the completed
 * jobs, so a change of load shows within a few jobs. */
#include "job/internal.h"

#include "base/clock.h"

#define NEWEST_SHARE 0.3 /* of the running mean */

static double pixels(const struct sdw_job *job)
{
    return (double)job->params.width * job->params.height;
}

static double step_units(const struct sdw_job *job)
{
    return pixels(job) * (job->params.guidance_scale > 1 ? 2 : 1);
}

static void mean(double *running, double newest)
{
    *running = *running > 0 ? *running + NEWEST_SHARE * (newest - *running) : newest;
}

void sdw_jobs_measure(struct sdw_jobs *jobs, const struct sdw_job *job)
{
    if (job->step > 0) {
        mean(&jobs->step_cost, (job->stepped_s - job->started_s) / job->step / step_units(job));
        mean(&jobs->rest_cost, (job->ended_s - job->stepped_s) / pixels(job));
    }
}

double sdw_job_remaining(const struct sdw_job *job)
{
    const struct sdw_jobs *jobs = job->jobs;
    double step_s = jobs->step_cost * step_units(job), since_s = 0;
    if (job->state == SDW_JOB_RUNNING && job->step > 0) { /* its own pace is the best guess */
        step_s = (job->stepped_s - job->started_s) / job->step;
        since_s = sdw_clock_seconds() - job->stepped_s;
    } else if (job->state == SDW_JOB_RUNNING) {
        since_s = sdw_clock_seconds() - job->started_s;
    }
    if (step_s <= 0)
        return -1;
    double left_s = step_s * (job->total - job->step) + jobs->rest_cost * pixels(job) - since_s;
    return left_s > 0 ? left_s : 0;
}

double sdw_job_eta(const struct sdw_job *job)
{
    if (job->state != SDW_JOB_QUEUED && job->state != SDW_JOB_RUNNING)
        return -1;
    double sum_s = sdw_job_remaining(job);
    for (const struct sdw_job *before = job->older; before && sum_s >= 0; before = before->older) {
        if (before->state != SDW_JOB_QUEUED && before->state != SDW_JOB_RUNNING)
            continue;
        double one_s = sdw_job_remaining(before);
        sum_s = one_s < 0 ? -1 : sum_s + one_s;
    }
    return sum_s;
}
