/* events.c: the log of a job, and the readers that wait at its end.
 *
 * Events are written once and never change, so a reader needs the lock only to learn whether there
 * is one more; the bytes it copies without. A large terminal event (the image in base64) exists
 * once a job, however many readers there are. */
#include "job/internal.h"

#include "base/clock.h"
#include "base/json.h"

#include <assert.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void wake(struct sdw_job_watcher *watcher)
{
    if (!watcher->asleep)
        return;
    watcher->asleep = false;
    watcher->wake(watcher->context);
}

static void append(struct sdw_job *job, enum sdw_job_event_kind kind, const char *members)
{
    assert(job->event_count < job->event_max);
    struct event *event = &job->events[job->event_count];
    event->kind = kind;
    event->length = strlen(members);
    event->members = members;
    if (members != job->large) {
        assert(event->length < sizeof event->small);
        event->members = memcpy(event->small, members, event->length + 1);
    }
    job->event_count++;
    for (struct sdw_job_watcher *w = job->watchers; w; w = w->next)
        wake(w);
}

void sdw_job_append_progress(struct sdw_job *job, int step, int total)
{
    if (job->state != SDW_JOB_RUNNING || job->event_count + 1 >= job->event_max)
        return;
    char members[80];
    snprintf(members, sizeof members, "\"step\":%d,\"total\":%d,\"percent\":%.1f", step, total,
             100.0 * step / total);
    job->step = step;
    job->total = total;
    job->stepped_s = sdw_clock_seconds();
    append(job, SDW_JOB_EVENT_PROGRESS, members);
}

/* "image_base64":"...","format":"png",... ; NULL when there is no memory. */
static char *complete_members(const struct sdw_job *job)
{
    const struct sdw_result *result = &job->result;
    size_t encoded = sodium_base64_encoded_len(result->png.length, sodium_base64_VARIANT_ORIGINAL);
    size_t room = encoded + 400;
    char *members = malloc(room);
    if (!members)
        return NULL;
    size_t at = (size_t)snprintf(members, room, "\"image_base64\":\"");
    sodium_bin2base64(members + at, encoded, (const unsigned char *)result->png.data,
                      result->png.length, sodium_base64_VARIANT_ORIGINAL);
    at += encoded - 1; /* encoded counts the NUL */
    snprintf(members + at, room - at,
             "\",\"format\":\"png\",\"seed\":%llu,\"width\":%d,\"height\":%d,\"elapsed_ms\":%.0f,"
             "\"timings_ms\":{\"text\":%.1f,\"unet\":%.1f,\"vae\":%.1f,\"png\":%.1f}",
             (unsigned long long)result->seed, result->width, result->height,
             (job->ended_s - job->started_s) * 1e3, result->text_s * 1e3, result->unet_s * 1e3,
             result->vae_s * 1e3, result->png_s * 1e3);
    return members;
}

static char *error_members(const char *message)
{
    struct sdw_text text;
    struct sdw_json json;
    sdw_text_init(&text, 8 * SDW_ERROR_MAX);
    sdw_json_init(&json, &text);
    sdw_json_string(&json, "message", message);
    if (json.status)
        sdw_text_free(&text);
    return text.data;
}

static void count_end(struct sdw_job *job)
{
    struct sdw_jobs_counts *counts = &job->jobs->counts;
    counts->ended[job->state]++;
    counts->kept_bytes += job->result.png.length + (job->large ? strlen(job->large) : 0);
    job->jobs->kept++;
    if (job->state != SDW_JOB_COMPLETED)
        return;
    counts->images++;
    counts->steps += (uint64_t)job->step;
    counts->steps_s += job->result.unet_s;
    counts->text_s += job->result.text_s;
    counts->vae_s += job->result.vae_s;
    counts->png_s += job->result.png_s;
}

void sdw_job_end(struct sdw_job *job, enum sdw_job_state state, const char *error)
{
    assert(job->state == SDW_JOB_QUEUED || job->state == SDW_JOB_RUNNING);
    job->ended_ms = sdw_clock_unix_ms();
    job->ended_s = sdw_clock_seconds();
    if (state == SDW_JOB_COMPLETED && !(job->large = complete_members(job))) {
        state = SDW_JOB_FAILED;
        error = "no memory for the image in base64";
    }
    if (job->state == SDW_JOB_QUEUED)
        job->jobs->counts.queued--;
    else
        job->jobs->counts.running--;
    job->state = state;
    if (state == SDW_JOB_FAILED) {
        snprintf(job->error, sizeof job->error, "%s", error);
        job->large = error_members(error);
    }
    count_end(job);
    if (state == SDW_JOB_COMPLETED)
        append(job, SDW_JOB_EVENT_COMPLETE, job->large);
    else if (state == SDW_JOB_CANCELLED)
        append(job, SDW_JOB_EVENT_CANCELLED, "");
    else
        append(job, SDW_JOB_EVENT_ERROR, job->large ? job->large : "\"message\":\"out of memory\"");
    sdw_jobs_retire(job->jobs);
}

void sdw_job_watch(struct sdw_job *job, struct sdw_job_watcher *watcher)
{
    pthread_mutex_lock(&job->jobs->lock);
    watcher->asleep = false;
    watcher->next = job->watchers;
    watcher->place = &job->watchers;
    if (watcher->next)
        watcher->next->place = &watcher->next;
    job->watchers = watcher;
    pthread_mutex_unlock(&job->jobs->lock);
}

void sdw_job_unwatch(struct sdw_job *job, struct sdw_job_watcher *watcher)
{
    pthread_mutex_lock(&job->jobs->lock);
    *watcher->place = watcher->next;
    if (watcher->next)
        watcher->next->place = watcher->place;
    pthread_mutex_unlock(&job->jobs->lock);
}

bool sdw_job_event(struct sdw_job *job, int index, struct sdw_job_event *event,
                   struct sdw_job_watcher *watcher)
{
    pthread_mutex_lock(&job->jobs->lock);
    bool there = index < job->event_count;
    if (there) {
        const struct event *found = &job->events[index];
        *event = (struct sdw_job_event){found->kind, found->length, found->members};
    } else if (watcher) {
        watcher->asleep = true;
        watcher->sleep(watcher->context);
    }
    pthread_mutex_unlock(&job->jobs->lock);
    return there;
}

int sdw_job_event_count(struct sdw_job *job, bool *ended)
{
    pthread_mutex_lock(&job->jobs->lock);
    int count = job->event_count;
    *ended = job->state != SDW_JOB_QUEUED && job->state != SDW_JOB_RUNNING;
    pthread_mutex_unlock(&job->jobs->lock);
    return count;
}

void sdw_job_nudge(struct sdw_job *job, struct sdw_job_watcher *watcher)
{
    pthread_mutex_lock(&job->jobs->lock);
    wake(watcher);
    pthread_mutex_unlock(&job->jobs->lock);
}
