/* stream.c: a job's events as text/event-stream.
 *
 * A reader is a cursor into the job's log: the index of its next event and an offset into the one
 * that it is sending. So it costs a few hundred bytes and the connection's buffer, however slow it
 * is, and history and live events are the same thing. With nothing to send the connection is
 * suspended; the log wakes it. libmicrohttpd does not look at suspended connections: a clock thread
 * sends the keep-alive comments and notices who has left. */
#include "http/internal.h"

#include "base/clock.h"

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define STREAM_BLOCK_BYTES 16384
#define TICKS              15 /* of the clock in one keep-alive interval */
#define READERS_RETRY_S    5

/* What is being sent: three pieces, the middle one the job's own bytes. */
struct pieces {
    char head[160], tail[64];
    struct {
        const char *bytes;
        size_t length;
    } piece[3];
    int at; /* piece; 3: all sent */
    size_t offset;
};

struct stream {
    struct sdw_server *server;
    struct MHD_Connection *connection;
    struct sdw_job *job;
    struct sdw_job_watcher watcher;
    bool named;
    int index; /* of the next event */
    struct pieces pieces;
    bool ended;     /* the last piece is in `pieces` */
    bool suspended; /* under the jobs' lock */
    atomic_bool comment_due, gone;
    atomic_llong active_ms; /* when something was sent last */
    struct stream *next, **place;
};

static void set_pieces(struct pieces *pieces, const char *members, size_t length)
{
    pieces->piece[0].bytes = pieces->head;
    pieces->piece[0].length = strlen(pieces->head);
    pieces->piece[1].bytes = members;
    pieces->piece[1].length = length;
    pieces->piece[2].bytes = pieces->tail;
    pieces->piece[2].length = strlen(pieces->tail);
    pieces->at = 0;
    pieces->offset = 0;
}

static void compose_done(struct stream *stream)
{
    struct pieces *pieces = &stream->pieces;
    pieces->head[0] = 0;
    snprintf(pieces->tail, sizeof pieces->tail, "%sdata: [DONE]\n\n",
             stream->named ? "event: done\n" : "");
    set_pieces(pieces, "", 0);
    stream->ended = true;
}

static void compose_event(struct stream *stream, const struct sdw_job_event *event)
{
    static const char *const names[] = {"progress", "preview",   "complete",
                                        "error",    "cancelled", "error"};
    struct pieces *pieces = &stream->pieces;
    bool image = stream->named && event->kind == SDW_JOB_EVENT_COMPLETE;
    const char *name = image ? "image" : names[event->kind];
    char line[32] = "";
    if (stream->named)
        snprintf(line, sizeof line, "event: %s\n", name);
    char id[32] = ""; /* the end of this process is no event of the job: a reader who comes again
                         with the id that it has misses nothing */
    if (event->kind != SDW_JOB_EVENT_STOPPED)
        snprintf(id, sizeof id, "id: %d\n", ++stream->index);
    stream->ended = event->kind != SDW_JOB_EVENT_PROGRESS && event->kind != SDW_JOB_EVENT_PREVIEW;
    if (event->kind == SDW_JOB_EVENT_CANCELLED)
        snprintf(pieces->head, sizeof pieces->head, "%s%sdata: [CANCELLED]", id, line);
    else
        snprintf(pieces->head, sizeof pieces->head, "%s%sdata: {\"event\":\"%s\",\"type\":\"%s\",",
                 id, line, name, name);
    snprintf(pieces->tail, sizeof pieces->tail, "%s\n\n%s%s",
             event->kind == SDW_JOB_EVENT_CANCELLED ? "" : "}",
             stream->ended && stream->named ? "event: done\n" : "",
             stream->ended ? "data: [DONE]\n\n" : "");
    set_pieces(pieces, event->members, event->length);
}

static void compose_comment(struct stream *stream)
{
    snprintf(stream->pieces.head, sizeof stream->pieces.head, ": keep-alive\n\n");
    stream->pieces.tail[0] = 0;
    set_pieces(&stream->pieces, "", 0);
}

/* Copies what fits; returns the bytes copied. */
static size_t take(struct pieces *pieces, char *to, size_t room)
{
    size_t taken = 0;
    while (pieces->at < 3) {
        size_t left = pieces->piece[pieces->at].length - pieces->offset;
        size_t part = left < room - taken ? left : room - taken;
        memcpy(to + taken, pieces->piece[pieces->at].bytes + pieces->offset, part);
        taken += part;
        pieces->offset += part;
        if (part < left)
            break;
        pieces->at++;
        pieces->offset = 0;
    }
    return taken;
}

/* libmicrohttpd asks for more bytes. */
static ssize_t read_stream(void *context, uint64_t position, char *to, size_t room)
{
    (void)position;
    struct stream *stream = context;
    if (atomic_load(&stream->gone))
        return MHD_CONTENT_READER_END_WITH_ERROR;
    size_t taken = 0;
    while (taken < room) {
        struct sdw_job_event event;
        taken += take(&stream->pieces, to + taken, room - taken);
        if (stream->pieces.at < 3 || stream->ended)
            break;
        if (taken == 0 && atomic_exchange(&stream->comment_due, false))
            compose_comment(stream);
        else if (sdw_job_event(stream->job, stream->index, &event, taken ? NULL : &stream->watcher))
            compose_event(stream, &event);
        else
            break;
    }
    if (taken) {
        atomic_store(&stream->active_ms, (long long)(sdw_clock_seconds() * 1e3));
        return (ssize_t)taken;
    }
    return stream->ended || atomic_load(&stream->server->closing) ? MHD_CONTENT_READER_END_OF_STREAM
                                                                  : 0;
}

/* The next two run with the jobs locked. Nothing falls asleep any more once the server closes. */
static void fall_asleep(void *context)
{
    struct stream *stream = context;
    if (atomic_load(&stream->server->closing))
        return;
    stream->suspended = true;
    MHD_suspend_connection(stream->connection);
}

static void wake_up(void *context)
{
    struct stream *stream = context;
    if (!stream->suspended)
        return;
    stream->suspended = false;
    MHD_resume_connection(stream->connection);
}

static int count_readers(const struct sdw_server *server, const struct sdw_job *job)
{
    int count = 0;
    for (const struct stream *other = server->streams; other; other = other->next)
        count += other->job == job;
    return count;
}

/* The connection is over, for whatever reason. */
static void free_stream(void *context)
{
    struct stream *stream = context;
    struct sdw_server *server = stream->server;
    sdw_job_unwatch(stream->job, &stream->watcher);
    pthread_mutex_lock(&server->lock);
    *stream->place = stream->next;
    if (stream->next)
        stream->next->place = stream->place;
    server->stream_count--;
    bool last = count_readers(server, stream->job) == 0;
    pthread_mutex_unlock(&server->lock);

    if (last && !stream->ended && sdw_job_params(stream->job)->cancel_on_disconnect &&
        !atomic_load(&server->closing)) {
        struct sdw_job_status status;
        sdw_job_status(stream->job, &status);
        sdw_jobs_cancel(server->options.jobs, status.id, NULL);
    }
    sdw_job_release(stream->job);
    free(stream);
}

static void list_stream(struct stream *stream)
{
    struct sdw_server *server = stream->server;
    pthread_mutex_lock(&server->lock);
    stream->next = server->streams;
    stream->place = &server->streams;
    if (stream->next)
        stream->next->place = &stream->next;
    server->streams = stream;
    server->stream_count++;
    pthread_mutex_unlock(&server->lock);
}

/* Where a reader who has seen events up to Last-Event-ID goes on. */
static void place_cursor(struct stream *stream, const char *last_id)
{
    bool ended;
    int count = sdw_job_event_count(stream->job, &ended);
    long long seen = last_id ? strtoll(last_id, NULL, 10) : 0;
    stream->index = seen < 0 ? 0 : seen > count ? count : (int)seen;
    stream->pieces.at = 3;
    if (ended && stream->index == count)
        compose_done(stream);
}

/* NULL, and request->err says why: no such job, or too many who read it. */
static struct sdw_job *find_job(struct request *request)
{
    struct sdw_server *server = request->server;
    struct sdw_job *job = sdw_jobs_find(server->options.jobs, request->id);
    if (!job) {
        sdw_fail(&request->err, SDW_NOT_FOUND, "there is no job %s", request->id);
        return NULL;
    }
    pthread_mutex_lock(&server->lock);
    int count = count_readers(server, job);
    pthread_mutex_unlock(&server->lock);
    if (count < server->options.readers_per_job_max)
        return job;
    sdw_fail(&request->err, SDW_READERS,
             "%d others read the stream of job %s, as many as may: ask for GET /v1/jobs/%s", count,
             request->id, request->id);
    sdw_job_release(job);
    return NULL;
}

enum MHD_Result sdw_handle_stream(struct request *request)
{
    struct sdw_job *job = find_job(request);
    if (!job)
        return sdw_answer_retry(request, &request->err,
                                request->err.status == SDW_READERS ? READERS_RETRY_S : 0);
    struct stream *stream = calloc(1, sizeof *stream);
    if (!stream) {
        sdw_job_release(job);
        return MHD_NO;
    }
    const char *form = sdw_request_query(request, "events");
    stream->server = request->server;
    stream->connection = request->connection;
    stream->job = job;
    stream->named = form && strcmp(form, "named") == 0;
    stream->watcher =
        (struct sdw_job_watcher){.sleep = fall_asleep, .wake = wake_up, .context = stream};
    atomic_init(&stream->active_ms, (long long)(sdw_clock_seconds() * 1e3));
    place_cursor(stream, sdw_request_header(request, "Last-Event-ID"));
    sdw_job_watch(job, &stream->watcher);
    list_stream(stream);

    struct MHD_Response *response = MHD_create_response_from_callback(
        MHD_SIZE_UNKNOWN, STREAM_BLOCK_BYTES, read_stream, stream, free_stream);
    if (!response) {
        free_stream(stream);
        return MHD_NO;
    }
    MHD_add_response_header(response, MHD_HTTP_HEADER_CACHE_CONTROL, "no-cache");
    MHD_add_response_header(response, "X-Accel-Buffering", "no");
    return sdw_answer(request, 200, response, "text/event-stream");
}

/* True when the peer of a suspended connection is no longer there. Half-closed counts only where
 * the job depends on its readers: some clients close their side once they have asked. */
static bool has_left(const struct stream *stream)
{
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(stream->connection, MHD_CONNECTION_INFO_CONNECTION_FD);
    struct pollfd fd = {.fd = info ? info->connect_fd : -1};
    if (sdw_job_params(stream->job)->cancel_on_disconnect)
        fd.events = POLLRDHUP;
    return poll(&fd, 1, 0) > 0 && (fd.revents & (POLLRDHUP | POLLHUP | POLLERR));
}

static void look_after(struct stream *stream, double interval_s)
{
    long long quiet_ms = (long long)(sdw_clock_seconds() * 1e3) - atomic_load(&stream->active_ms);
    if (has_left(stream))
        atomic_store(&stream->gone, true);
    else if ((double)quiet_ms >= interval_s * 1e3)
        atomic_store(&stream->comment_due, true);
    else
        return;
    sdw_job_nudge(stream->job, &stream->watcher);
}

void sdw_streams_nudge(struct sdw_server *server)
{
    pthread_mutex_lock(&server->lock);
    for (struct stream *stream = server->streams; stream; stream = stream->next)
        sdw_job_nudge(stream->job, &stream->watcher);
    pthread_mutex_unlock(&server->lock);
}

void *sdw_streams_tick(void *context)
{
    struct sdw_server *server = context;
    double interval_s = server->options.keep_alive_s, tick_s = interval_s / TICKS;
    pthread_mutex_lock(&server->lock);
    while (!atomic_load(&server->closing)) {
        struct timespec until;
        clock_gettime(CLOCK_MONOTONIC, &until);
        long long ns = until.tv_nsec + (long long)(tick_s * 1e9);
        until.tv_sec += ns / 1000000000;
        until.tv_nsec = ns % 1000000000;
        pthread_cond_timedwait(&server->tick, &server->lock, &until);
        for (struct stream *stream = server->streams; stream; stream = stream->next)
            look_after(stream, interval_s);
        sdw_visitors_tick(server);
    }
    pthread_mutex_unlock(&server->lock);
    return NULL;
}
