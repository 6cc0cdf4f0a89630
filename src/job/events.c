/* events.c: the log of a job's events, and the bytes that readers of the stream get from it.
 *
 * A log is written once and read by many, at their own pace: a reader is a cursor, and costs
 * nothing here. The big event, the image in base64, is kept once for all of them. */
#include "job/internal.h"

#include <inttypes.h>
#include <jansson.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void append(struct sdw_job *job, enum sdw_event_kind kind, char *rest)
{
    if (job->events == SDW_EVENTS_MAX)
        return;
    job->event[job->events++] = (struct sdw_event){kind, rest, rest ? strlen(rest) : 0};
}

void sdw_events_progress(struct sdw_job *job)
{
    char *rest;
    if (job->events >= SDW_EVENTS_MAX - 2) /* the end must fit */
        return;
    if (asprintf(&rest, "\"step\":%d,\"total\":%d,\"percent\":%.1f}", job->step, job->total,
                 100.0 * job->step / job->total) > 0)
        append(job, SDW_EVENT_PROGRESS, rest);
}

void sdw_events_complete(struct sdw_job *job, double elapsed_s)
{
    const struct sdw_text *png = &job->result.png;
    size_t encoded = sodium_base64_ENCODED_LEN(png->length, sodium_base64_VARIANT_ORIGINAL), head;
    char *rest = malloc(encoded + 160);
    if (rest) {
        head = (size_t)sprintf(rest, "\"image_base64\":\"");
        sodium_bin2base64(rest + head, encoded, (const unsigned char *)png->data, png->length,
                          sodium_base64_VARIANT_ORIGINAL);
        sprintf(rest + head + encoded - 1,
                "\",\"format\":\"png\",\"seed\":%" PRIu64
                ",\"width\":%d,\"height\":%d,\"elapsed_ms\":%.0f}",
                job->result.seed, job->result.width, job->result.height, elapsed_s * 1e3);
        append(job, SDW_EVENT_COMPLETE, rest);
    }
    append(job, SDW_EVENT_DONE, NULL);
}

void sdw_events_error(struct sdw_job *job, const char *message)
{
    json_t *text = json_string(message);
    char *quoted = text ? json_dumps(text, JSON_ENCODE_ANY) : NULL, *rest = NULL;
    if (asprintf(&rest, "\"message\":%s}", quoted ? quoted : "\"the job failed\"") > 0)
        append(job, SDW_EVENT_ERROR, rest);
    append(job, SDW_EVENT_DONE, NULL);
    free(quoted);
    json_decref(text);
}

void sdw_events_cancelled(struct sdw_job *job)
{
    append(job, SDW_EVENT_CANCELLED, NULL);
    append(job, SDW_EVENT_DONE, NULL);
}

void sdw_events_free(struct sdw_job *job)
{
    for (int i = 0; i < job->events; i++)
        free(job->event[i].rest);
    job->events = 0;
}

/* What stands before an event's rest: "id: 1\n[event: progress\n]data:
 * {"event":"progress","type":"progress",". */
static size_t head_of(char *head, size_t room, const struct sdw_event *event, int id, bool named)
{
    static const char *const names[] = {"progress", "complete", "error", "cancelled", "done"};
    const char *name = event->kind == SDW_EVENT_COMPLETE && named ? "image" : names[event->kind];
    char line[32] = "";
    if (named)
        snprintf(line, sizeof line, "event: %s\n", name);
    int n;
    if (event->rest)
        n = snprintf(head, room, "id: %d\n%sdata: {\"event\":\"%s\",\"type\":\"%s\",", id, line,
                     name, name);
    else
        n = snprintf(head, room, "id: %d\n%sdata: %s", id, line,
                     event->kind == SDW_EVENT_CANCELLED ? "[CANCELLED]" : "[DONE]");
    return (size_t)n;
}

/* Copies what of `from` lies behind *skip, as far as there is room; *skip and *room shrink. */
static size_t copy_part(char *to, size_t *room, size_t *skip, const char *from, size_t length)
{
    if (*skip >= length) {
        *skip -= length;
        return 0;
    }
    size_t n = length - *skip < *room ? length - *skip : *room;
    memcpy(to, from + *skip, n);
    *room -= n;
    *skip = 0;
    return n;
}

int64_t sdw_job_read(struct sdw_job *job, struct sdw_job_cursor *cursor, char *to, size_t room)
{
    size_t copied = 0;
    pthread_mutex_lock(&job->jobs->lock);
    bool over = job->state >= SDW_JOB_COMPLETED;
    while (room > 0 && cursor->after < job->events) {
        const struct sdw_event *event = &job->event[cursor->after];
        char head[160];
        size_t head_length = head_of(head, sizeof head, event, cursor->after + 1, cursor->named);
        size_t whole = head_length + event->length + 2, skip = cursor->offset, before = copied;
        copied += copy_part(to + copied, &room, &skip, head, head_length);
        copied +=
            copy_part(to + copied, &room, &skip, event->rest ? event->rest : "", event->length);
        copied += copy_part(to + copied, &room, &skip, "\n\n", 2);
        cursor->offset += copied - before;
        if (cursor->offset == whole) {
            cursor->after++;
            cursor->offset = 0;
        }
    }
    bool all = cursor->after >= job->events;
    pthread_mutex_unlock(&job->jobs->lock);
    if (copied > 0)
        return (int64_t)copied;
    return all && over ? SDW_STREAM_END : SDW_STREAM_WAIT;
}
