/* events.c: the log of a job, and the readers that wait at its end.
 *
 * An event is stored, then told, and never changes: so its id stands for it even across the end of
 * the process. When the store refuses (a full disk), progress is told all the same, because the
 * same step has the same id and text in every run, and stored with the next event that it takes; an
 * end is told and kept in memory until the store takes it, and no other job begins before.
 *
 * Readers need the lock only to learn whether there is one more event; the bytes they copy without.
 * The large complete event (the image in base64) is made for the first reader who asks, and exists
 * once a job, however many there are. */
#include "job/internal.h"

#include "base/clock.h"
#include "base/json.h"
#include "base/log.h"
#include "image/png.h"

#include <assert.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Base64 of all images, and of the first once more. */
#define COMPLETE_BYTES_MAX (3ull * SDW_PNG_BYTES_MAX)

static void wake(struct sdw_job_watcher *watcher)
{
    if (!watcher->asleep)
        return;
    watcher->asleep = false;
    watcher->wake(watcher->context);
}

/* One place more is always there for the terminal event. */
static bool has_room(struct sdw_job *job)
{
    if (job->event_count + 1 < job->event_max)
        return true;
    int max = job->event_max * 2 + 16;
    struct event *events = realloc(job->events, (size_t)max * sizeof *events);
    if (!events)
        return false;
    job->events = events;
    job->event_max = max;
    return true;
}

bool sdw_job_add_event(struct sdw_job *job, enum sdw_job_event_kind kind, const char *members,
                       size_t length)
{
    bool last = kind != SDW_JOB_EVENT_PROGRESS && kind != SDW_JOB_EVENT_PREVIEW;
    char *copy = members ? strndup(members, length) : NULL;
    bool whole = has_room(job) && (copy || !members);
    if (!whole && !(last && job->event_count < job->event_max)) {
        free(copy);
        return false;
    }
    job->events[job->event_count++] = (struct event){kind, copy ? length : 0, copy};
    return true;
}

void sdw_job_wake(struct sdw_job *job)
{
    for (struct sdw_job_watcher *w = job->watchers; w; w = w->next)
        wake(w);
}

/* Stores the events from `before` on, then wakes the readers. */
static void publish(struct sdw_job *job, int before)
{
    struct sdw_error err;
    bool waited = job->event_stored < before;
    if (sdw_store_events(job->jobs->store, job, &err) != SDW_OK && !waited)
        sdw_log_warn("job %s: its events wait to be stored: %s", job->id, err.message);
    sdw_job_wake(job);
}

/* Steps that an interrupted run has told already are not told again. */
void sdw_job_append_progress(struct sdw_job *job, int step, int total)
{
    int before = job->event_count;
    double now_s = sdw_clock_seconds();
    if (job->steps_run > 0) /* the first one has the text encoder's time in it */
        sdw_histogram_add(&job->jobs->counts.step, now_s - job->stepped_s);
    job->stepped_s = now_s;
    job->steps_run++;
    job->steps_left = total - step;
    if (job->state != SDW_JOB_RUNNING)
        return;
    job->total = total;
    while (job->step < step) {
        char members[80];
        int next = job->step + 1;
        int length = snprintf(members, sizeof members, "\"step\":%d,\"total\":%d,\"percent\":%.1f",
                              next, total, 100.0 * next / total);
        if (!sdw_job_add_event(job, SDW_JOB_EVENT_PROGRESS, members, (size_t)length))
            break; /* no memory: told with the next step, in order */
        job->step = next;
    }
    publish(job, before);
}

/* Appends the bytes in base64; false when they do not fit. */
static bool append_base64(struct sdw_text *text, const char *bytes, size_t length)
{
    size_t size = sodium_base64_encoded_len(length, sodium_base64_VARIANT_ORIGINAL);
    char *encoded = malloc(size);
    if (!encoded)
        return false;
    sodium_bin2base64(encoded, size, (const unsigned char *)bytes, length,
                      sodium_base64_VARIANT_ORIGINAL);
    bool fits = sdw_text_append(text, encoded, size - 1, NULL) == SDW_OK; /* without the NUL */
    free(encoded);
    return fits;
}

/* A preview that finds no memory is left out: it comes besides, and never instead. */
void sdw_job_append_preview(struct sdw_job *job, int step, int total, const struct sdw_text *png)
{
    struct sdw_text text;
    int before = job->event_count;
    if (job->state != SDW_JOB_RUNNING || step <= job->previewed)
        return;
    sdw_text_init(&text, SDW_PNG_BYTES_MAX);
    bool whole = sdw_text_printf(&text, NULL, "\"step\":%d,\"total\":%d,\"image_base64\":\"", step,
                                 total) == SDW_OK &&
                 append_base64(&text, png->data, png->length) &&
                 sdw_text_printf(&text, NULL, "\",\"format\":\"png\"") == SDW_OK;
    if (whole && sdw_job_add_event(job, SDW_JOB_EVENT_PREVIEW, text.data, text.length))
        job->previewed = step;
    sdw_text_free(&text);
    publish(job, before);
}

/* What follows the image in a complete event; empty when there is no memory. */
static struct sdw_text complete_members(const struct sdw_job *job)
{
    const struct sdw_result *result = &job->result;
    struct sdw_text text;
    sdw_text_init(&text, 4096);
    sdw_text_printf(&text, NULL,
                    "\"format\":\"png\",\"seed\":%llu,\"width\":%d,\"height\":%d,"
                    "\"elapsed_ms\":%.0f,"
                    "\"timings_ms\":{\"text\":%.1f,\"unet\":%.1f,\"vae\":%.1f,\"png\":%.1f}",
                    (unsigned long long)result->seed, result->width, result->height,
                    job->elapsed_s * 1e3, result->text_s * 1e3, result->unet_s * 1e3,
                    result->vae_s * 1e3, result->png_s * 1e3);
    return text;
}

static struct sdw_text error_members(const char *message)
{
    struct sdw_text text;
    struct sdw_json json;
    sdw_text_init(&text, 8 * SDW_ERROR_MAX);
    sdw_json_init(&json, &text);
    sdw_json_string(&json, "message", message);
    if (json.status)
        sdw_text_free(&text);
    return text;
}

static void append_last(struct sdw_job *job)
{
    static const enum sdw_job_event_kind kinds[] = {
        [SDW_JOB_COMPLETED] = SDW_JOB_EVENT_COMPLETE,
        [SDW_JOB_FAILED] = SDW_JOB_EVENT_ERROR,
        [SDW_JOB_CANCELLED] = SDW_JOB_EVENT_CANCELLED,
    };
    struct sdw_text text = {0};
    if (job->state == SDW_JOB_COMPLETED)
        text = complete_members(job);
    else if (job->state == SDW_JOB_FAILED)
        text = error_members(job->error);
    sdw_job_add_event(job, kinds[job->state], text.data, text.length);
    sdw_text_free(&text);
}

static void count_end(struct sdw_job *job)
{
    struct sdw_jobs_counts *counts = &job->jobs->counts;
    counts->ended[job->state]++;
    if (job->state != SDW_JOB_COMPLETED)
        return;
    counts->images++;
    counts->steps += (uint64_t)job->steps_run;
    counts->steps_s += job->result.unet_s;
    counts->text_s += job->result.text_s;
    counts->vae_s += job->result.vae_s;
    counts->png_s += job->result.png_s;
    sdw_histogram_add(&counts->text, job->result.text_s);
    sdw_histogram_add(&counts->vae, job->result.vae_s);
    sdw_histogram_add(&counts->png, job->result.png_s);
}

bool sdw_job_settle(struct sdw_job *job)
{
    struct sdw_jobs *jobs = job->jobs;
    struct sdw_error err;
    if (sdw_store_end(jobs->store, job, &err) != SDW_OK) {
        if (!job->unsaved) {
            sdw_log_error("job %s has ended and waits to be stored, and the queue with it: %s",
                          job->id, err.message);
            job->unsaved = true;
            jobs->unsaved++;
            pthread_cond_broadcast(&jobs->changed); /* the keeper tries again */
        }
        return false;
    }
    if (job->unsaved) {
        sdw_log_info("job %s: its end is stored now", job->id);
        job->unsaved = false;
        jobs->unsaved--;
    }
    jobs->kept++;
    jobs->counts.kept_bytes += job->bytes;
    sdw_job_unreference(job);
    sdw_jobs_retire(jobs);
    return true;
}

void sdw_job_end(struct sdw_job *job, enum sdw_job_state state, const char *error)
{
    assert(!sdw_job_has_ended(job));
    job->ended_ms = sdw_clock_unix_ms();
    if (job->state == SDW_JOB_RUNNING) {
        job->elapsed_s = sdw_clock_seconds() - job->started_s;
        job->jobs->counts.running--;
    } else {
        job->jobs->counts.queued--;
    }
    job->state = state;
    if (state == SDW_JOB_FAILED)
        snprintf(job->error, sizeof job->error, "%s", error);
    append_last(job);
    count_end(job);
    sdw_job_wake(job);
    sdw_job_settle(job);
}

/* Events of a job that comes from the store, for the first who asks. */
static void fetch_events(struct sdw_job *job)
{
    struct sdw_error err;
    if (job->fetched)
        return;
    job->fetched = true;
    if (sdw_store_read_events(job->jobs->store, job, &err))
        sdw_log_error("job %s: its events cannot be read: %s", job->id, err.message);
}

static bool fetch_image(struct sdw_job *job)
{
    struct sdw_error err;
    struct sdw_text *png = &job->result.png;
    if (job->state != SDW_JOB_COMPLETED || png->length > 0)
        return png->length > 0;
    sdw_text_init(png, SDW_PNG_BYTES_MAX);
    if (sdw_store_read_image(job->jobs->store, job->number, png, &err) == SDW_OK)
        return true;
    sdw_log_error("job %s: its image cannot be read: %s", job->id, err.message);
    sdw_text_free(png);
    return false;
}

void sdw_job_fetch_all(struct sdw_job *job)
{
    fetch_events(job);
    fetch_image(job);
}

const void *sdw_job_image(struct sdw_job *job, int index, size_t *length)
{
    const char *png = NULL;
    *length = 0;
    pthread_mutex_lock(&job->jobs->lock);
    if (fetch_image(job)) {
        const struct sdw_text *all = &job->result.png;
        size_t at = 0;
        while (index-- > 0)
            at += sdw_png_length(all->data + at, all->length - at);
        *length = sdw_png_length(all->data + at, all->length - at);
        png = *length ? all->data + at : NULL;
    }
    pthread_mutex_unlock(&job->jobs->lock);
    return png;
}

/* Appends "image_base64":"..." of one PNG file; false when there is no memory. */
static bool put_image(struct sdw_text *text, const char *png, size_t length)
{
    return sdw_text_printf(text, NULL, "\"image_base64\":\"") == SDW_OK &&
           append_base64(text, png, length) && sdw_text_append(text, "\"", 1, NULL) == SDW_OK;
}

/* Of a job of several images: "images":[{"image_base64":"...","seed":1},...], */
static bool put_images(struct sdw_text *text, const struct sdw_text *png, uint64_t seed)
{
    bool ok = sdw_text_printf(text, NULL, "\"images\":[") == SDW_OK;
    for (size_t at = 0, length; ok && at < png->length; at += length) {
        length = sdw_png_length(png->data + at, png->length - at);
        ok = length > 0 && sdw_text_printf(text, NULL, at ? ",{" : "{") == SDW_OK &&
             put_image(text, png->data + at, length) &&
             sdw_text_printf(text, NULL, ",\"seed\":%llu}", (unsigned long long)seed++) == SDW_OK;
    }
    return ok && sdw_text_printf(text, NULL, "],") == SDW_OK;
}

/* Makes the image and what the log has; false when there is no memory or no image. */
static bool make_complete(struct sdw_job *job, const struct event *event)
{
    if (job->complete.length)
        return true;
    if (event->length == 0 || !fetch_image(job))
        return false;
    const struct sdw_text *png = &job->result.png;
    size_t first = sdw_png_length(png->data, png->length);
    struct sdw_text *text = &job->complete;
    sdw_text_init(text, COMPLETE_BYTES_MAX);
    if (put_image(text, png->data, first) && sdw_text_printf(text, NULL, ",") == SDW_OK &&
        (first == png->length || put_images(text, png, job->params.seed)) &&
        sdw_text_append(text, event->members, event->length, NULL) == SDW_OK)
        return true;
    sdw_text_free(text);
    return false;
}

static void tell(struct sdw_job *job, const struct event *event, struct sdw_job_event *told)
{
    static const char no_memory[] = "\"message\":\"no memory for this event\"";
    *told = (struct sdw_job_event){event->kind, event->length, event->members};
    if (event->kind == SDW_JOB_EVENT_CANCELLED)
        told->members = "";
    else if (event->kind == SDW_JOB_EVENT_COMPLETE && make_complete(job, event))
        *told = (struct sdw_job_event){event->kind, job->complete.length, job->complete.data};
    else if (event->kind == SDW_JOB_EVENT_COMPLETE || event->length == 0)
        *told = (struct sdw_job_event){SDW_JOB_EVENT_ERROR, sizeof no_memory - 1, no_memory};
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
    static const char stopped[] =
        "\"message\":\"the worker is stopping; this job is kept, and goes "
        "on when the worker starts again\"";
    pthread_mutex_lock(&job->jobs->lock);
    fetch_events(job);
    bool there = index < job->event_count;
    if (there) {
        tell(job, &job->events[index], event);
    } else if (job->jobs->stopping && !sdw_job_has_ended(job)) {
        *event = (struct sdw_job_event){SDW_JOB_EVENT_STOPPED, sizeof stopped - 1, stopped};
        there = true;
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
    fetch_events(job);
    int count = job->event_count;
    *ended = sdw_job_has_ended(job);
    pthread_mutex_unlock(&job->jobs->lock);
    return count;
}

void sdw_job_nudge(struct sdw_job *job, struct sdw_job_watcher *watcher)
{
    pthread_mutex_lock(&job->jobs->lock);
    wake(watcher);
    pthread_mutex_unlock(&job->jobs->lock);
}
