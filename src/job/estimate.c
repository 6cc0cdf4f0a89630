/* estimate.c: how long it will still take, from this machine's own steps.
 *
 * A step costs as many seconds as the UNet is evaluated pixels (twice with guidance); what comes
 * before and after the steps costs by the pixel. Both rates are a running mean over the completed
 * jobs, so a change of load shows within a few jobs. */
#include "job/internal.h"

#include "base/clock.h"

#define NEWEST_SHARE 0.3 /* of the running mean */

const double sdw_histogram_bounds_s[SDW_HISTOGRAM_BUCKETS] = {0.003, 0.01, 0.03, 0.1, 0.3, 1,
                                                              3,     10,   30,   100, 300, 1000};

void sdw_histogram_add(struct sdw_histogram *histogram, double seconds)
{
    int i = 0;
    while (i < SDW_HISTOGRAM_BUCKETS && seconds > sdw_histogram_bounds_s[i])
        i++;
    histogram->count[i]++;
    histogram->sum_s += seconds;
}

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
    if (job->steps_run > 0) {
        double steps_s = job->stepped_s - job->started_s;
        mean(&jobs->step_cost, steps_s / job->steps_run / step_units(job));
        mean(&jobs->rest_cost, (job->elapsed_s - steps_s) / pixels(job));
    }
}

double sdw_job_remaining(const struct sdw_job *job)
{
    const struct sdw_jobs *jobs = job->jobs;
    double step_s = jobs->step_cost * step_units(job), since_s = 0;
    int steps_left = job->total - job->step; /* an interrupted job goes on about there */
    if (job->state == SDW_JOB_RUNNING && job->steps_run > 0) { /* its own pace is the best guess */
        step_s = (job->stepped_s - job->started_s) / job->steps_run;
        steps_left = job->steps_left;
        since_s = sdw_clock_seconds() - job->stepped_s;
    } else if (job->state == SDW_JOB_RUNNING) {
        since_s = sdw_clock_seconds() - job->started_s;
    }
    if (step_s <= 0)
        return -1;
    double left_s = step_s * steps_left + jobs->rest_cost * pixels(job) - since_s;
    return left_s > 0 ? left_s : 0;
}

double sdw_job_eta(const struct sdw_job *job)
{
    if (sdw_job_has_ended(job))
        return -1;
    double sum_s = sdw_job_remaining(job);
    for (const struct sdw_job *other = job->jobs->oldest; other && sum_s >= 0;
         other = other->newer) {
        if (sdw_job_has_ended(other) || !sdw_job_runs_before(other, job))
            continue;
        double one_s = sdw_job_remaining(other);
        sum_s = one_s < 0 ? -1 : sum_s + one_s;
    }
    return sum_s;
}
