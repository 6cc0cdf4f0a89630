/* test_stream.c: event streams to the letter, by one reader and by a thousand, and their end. */
#include "client.h"

#include "base/clock.h"

#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

static void stream(struct worker *worker, struct reply *reply, const char *id, const char *query,
                   const char *headers)
{
    char path[128];
    snprintf(path, sizeof path, "/v1/jobs/%s/stream%s", id, query);
    client_ask(worker, reply, "GET", path, headers, NULL);
    assert_int_equal(reply->status, 200);
    assert_true(reply_has_header(reply, "Content-Type: text/event-stream"));
}

static int open_stream(struct worker *worker, const char *id)
{
    char text[160];
    int length = snprintf(text, sizeof text,
                          "GET /v1/jobs/%s/stream HTTP/1.1\r\nHost: localhost\r\n"
                          "Connection: close\r\n\r\n",
                          id);
    int fd = client_connect(worker->port);
    client_send(fd, text, (size_t)length);
    return fd;
}

static enum sdw_job_state state_of(struct worker *worker, const char *id)
{
    struct sdw_job_status status;
    struct sdw_job *job = sdw_jobs_find(worker->jobs, id);
    assert_non_null(job);
    sdw_job_status(job, &status);
    sdw_job_release(job);
    return status.state;
}

static void wait_for(struct worker *worker, const char *id, enum sdw_job_state state)
{
    double end_s = sdw_clock_seconds() + 10;
    while (state_of(worker, id) != state && sdw_clock_seconds() < end_s)
        usleep(500);
    assert_int_equal(state_of(worker, id), state);
}

/* The events of a completed job of `total` steps from event `first` (1 is the first) on. */
static void assert_history(const char *text, int first, int total)
{
    char expected[160];
    for (int i = first; i <= total; i++) {
        int length = snprintf(expected, sizeof expected,
                              "id: %d\ndata: {\"event\":\"progress\",\"type\":\"progress\","
                              "\"step\":%d,\"total\":%d,\"percent\":%.1f}\n\n",
                              i, i, total, 100.0 * i / total);
        assert_memory_equal(text, expected, length);
        text += length;
    }
    if (first <= total + 1) {
        int length = snprintf(expected, sizeof expected,
                              "id: %d\ndata: {\"event\":\"complete\",\"type\":\"complete\","
                              "\"image_base64\":\"iVBORw0KGgo",
                              total + 1);
        assert_memory_equal(text, expected, length);
        text = strstr(text, "\"format\":\"png\",\"seed\":42,");
        assert_non_null(text);
        text = strstr(text, "}\n\n");
        assert_non_null(text);
        text += 3;
    }
    assert_string_equal(text, "data: [DONE]\n\n");
}

static void live_and_late(void **state)
{
    (void)state;
    struct worker *worker = worker_open(NULL, 0);
    char id[SDW_JOB_ID_MAX];
    struct reply live, late;
    atomic_store(&worker->painter.step_ms, 3);
    client_submit(worker, id, "{\"prompt\":\"a cat\",\"steps\":20,\"seed\":42}");
    stream(worker, &live, id, "", "");
    assert_history(live.body.data, 1, 20);
    stream(worker, &late, id, "", "");
    assert_int_equal(late.body.length, live.body.length);
    assert_memory_equal(late.body.data, live.body.data, late.body.length);
    reply_free(&late);
    reply_free(&live);
    static const struct {
        const char *header;
        int first;
    } resumes[] = {{"Last-Event-ID: 7\r\n", 8},      {"Last-Event-ID: 20\r\n", 21},
                   {"Last-Event-ID: 21\r\n", 22},    {"Last-Event-ID: 999999\r\n", 22},
                   {"Last-Event-ID: banana\r\n", 1}, {"Last-Event-ID: -5\r\n", 1}};
    for (size_t i = 0; i < sizeof resumes / sizeof resumes[0]; i++) {
        stream(worker, &late, id, "", resumes[i].header);
        assert_history(late.body.data, resumes[i].first, 20);
        reply_free(&late);
    }
    worker_close(worker);
}

/* A step is seen when it is done, not when a buffer is full. */
/* Three images: steps are counted over all, the event holds each, and each has its address. */
static void several_images(void **state)
{
    (void)state;
    struct worker *worker = worker_open(NULL, 0);
    char id[SDW_JOB_ID_MAX], path[96];
    struct reply events, image;
    client_submit(
        worker, id,
        "{\"prompt\":\"a cat\",\"steps\":2,\"seed\":42,\"n\":3,\"width\":64,\"height\":64}");
    stream(worker, &events, id, "", "");
    assert_history(events.body.data, 1, 6);
    const char *at = strstr(events.body.data, "\"images\":[{\"image_base64\":\"iVBORw0KGgo");
    for (int i = 0; i < 3; i++) {
        char seed[32];
        snprintf(seed, sizeof seed, "\",\"seed\":%d}%s", 42 + i, i < 2 ? ",{" : "],");
        assert_non_null(at);
        at = strstr(at, seed);
    }
    assert_non_null(at);
    for (int i = 0; i < 4; i++) {
        snprintf(path, sizeof path, "/v1/jobs/%s/image?index=%d", id, i);
        client_ask(worker, &image, "GET", path, "", NULL);
        assert_int_equal(image.status, i < 3 ? 200 : 404);
        if (i < 3)
            assert_memory_equal(image.body.data, "\x89PNG", 4);
        reply_free(&image);
    }
    reply_free(&events);
    worker_close(worker);
}

static void events_are_prompt(void **state)
{
    (void)state;
    struct worker *worker = worker_open(NULL, 0);
    char id[SDW_JOB_ID_MAX], bytes[4096];
    atomic_store(&worker->painter.step_ms, 100);
    client_submit(worker, id, "{\"prompt\":\"a cat\",\"steps\":5,\"seed\":42}");
    int fd = open_stream(worker, id);
    struct sdw_text text;
    sdw_text_init(&text, sizeof bytes);
    while (!text.data || !strstr(text.data, "\"step\":1,")) {
        ssize_t n = recv(fd, bytes, sizeof bytes, 0);
        assert_true(n > 0);
        sdw_text_append(&text, bytes, (size_t)n, NULL);
    }
    assert_null(strstr(text.data, "\"step\":3,"));
    sdw_text_free(&text);
    close(fd);
    wait_for(worker, id, SDW_JOB_COMPLETED); /* who leaves does not end the job */
    worker_close(worker);
}

static void named_form(void **state)
{
    (void)state;
    struct worker *worker = worker_open(NULL, 0);
    char id[SDW_JOB_ID_MAX];
    struct reply reply;
    client_submit(worker, id, "{\"prompt\":\"a cat\",\"steps\":1,\"seed\":42}");
    stream(worker, &reply, id, "?events=named", "");
    const char *text = reply.body.data;
    assert_ptr_equal(strstr(text, "id: 1\nevent: progress\ndata: {\"event\":\"progress\","), text);
    text = strstr(text, "\n\n") + 2;
    assert_ptr_equal(
        strstr(text, "id: 2\nevent: image\ndata: {\"event\":\"image\",\"type\":\"image\","), text);
    text = strstr(text, "\n\n") + 2;
    assert_string_equal(text, "event: done\ndata: [DONE]\n\n");
    reply_free(&reply);
    worker_close(worker);
}

static void ends_of_all_kinds(void **state)
{
    (void)state;
    struct worker *worker = worker_open(NULL, 0);
    char running[SDW_JOB_ID_MAX], queued[SDW_JOB_ID_MAX];
    struct reply reply;
    atomic_store(&worker->painter.hold, 1);
    client_submit(worker, running, "{\"prompt\":\"a cat\",\"steps\":5}");
    client_submit(worker, queued, "{\"prompt\":\"a cat\",\"steps\":5}");
    wait_for(worker, running, SDW_JOB_RUNNING);
    int fd = open_stream(worker, running);
    char path[80];
    snprintf(path, sizeof path, "/v1/jobs/%s", running);
    client_ask(worker, &reply, "DELETE", path, "", NULL);
    assert_int_equal(reply.status, 200);
    reply_free(&reply);
    client_receive(fd, &reply);
    assert_string_equal(reply.body.data, "id: 1\ndata: [CANCELLED]\n\ndata: [DONE]\n\n");
    reply_free(&reply);
    worker->painter.fail = "it \"broke\"";
    atomic_store(&worker->painter.hold, 0);
    stream(worker, &reply, queued, "", "Last-Event-ID: 5\r\n");
    const char *error = strstr(reply.body.data, "id: 6\n");
    assert_non_null(error);
    assert_string_equal(error, "id: 6\ndata: {\"event\":\"error\",\"type\":\"error\","
                               "\"message\":\"it \\\"broke\\\"\"}\n\ndata: [DONE]\n\n");
    reply_free(&reply);
    worker_close(worker);
}

static void keep_alive(void **state)
{
    (void)state;
    struct worker *worker = worker_open(&(struct sdw_server_options){.keep_alive_s = 0.15}, 0);
    char id[SDW_JOB_ID_MAX];
    struct reply reply;
    atomic_store(&worker->painter.hold, 1);
    client_submit(worker, id, "{\"prompt\":\"a cat\",\"steps\":2,\"seed\":42}");
    int fd = open_stream(worker, id);
    usleep(700000);
    atomic_store(&worker->painter.hold, 0);
    client_receive(fd, &reply);
    int comments = 0;
    const char *text = reply.body.data;
    for (; memcmp(text, ": keep-alive\n\n", 14) == 0; text += 14)
        comments++;
    assert_true(comments >= 2 && comments <= 5);
    assert_history(text, 1, 2);
    reply_free(&reply);
    worker_close(worker);
}

static void cancel_on_disconnect(void **state)
{
    (void)state;
    struct worker *worker = worker_open(&(struct sdw_server_options){.keep_alive_s = 0.3}, 0);
    char id[SDW_JOB_ID_MAX];
    atomic_store(&worker->painter.hold, 1);
    client_submit(worker, id, "{\"prompt\":\"x\",\"steps\":2,\"cancel_on_disconnect\":true}");
    int one = open_stream(worker, id), two = open_stream(worker, id);
    wait_for(worker, id, SDW_JOB_RUNNING);
    usleep(50000);
    close(one);
    usleep(200000);
    assert_int_equal(state_of(worker, id), SDW_JOB_RUNNING); /* one is still there */
    close(two);
    wait_for(worker, id, SDW_JOB_CANCELLED);
    client_submit(worker, id, "{\"prompt\":\"x\",\"steps\":2}");
    wait_for(worker, id, SDW_JOB_RUNNING);
    one = open_stream(worker, id);
    usleep(20000);
    close(one);
    usleep(200000);
    assert_int_equal(state_of(worker, id), SDW_JOB_RUNNING);
    worker_close(worker);
}

static void close_connections(int *fds, int count)
{
    for (int i = 0; i < count; i++)
        close(fds[i]);
    free(fds);
}

/* Some read, some have stopped reading; the job and the others do not care. */
static void many_readers(void **state)
{
    (void)state;
    enum { READERS = 300, STALLED = 30 };
    struct worker *worker = worker_open(NULL, 0);
    char id[SDW_JOB_ID_MAX];
    int *fds = malloc(READERS * sizeof *fds), *stalled = malloc(STALLED * sizeof *stalled),
        small = 1;
    atomic_store(&worker->painter.hold, 1);
    client_submit(worker, id,
                  "{\"prompt\":\"a cat\",\"steps\":10,\"seed\":42,\"width\":1024,"
                  "\"height\":1024}");
    for (int i = 0; i < STALLED; i++) {
        stalled[i] = open_stream(worker, id);
        setsockopt(stalled[i], SOL_SOCKET, SO_RCVBUF, &small, sizeof small);
    }
    for (int i = 0; i < READERS; i++)
        fds[i] = open_stream(worker, id);
    usleep(100000);
    atomic_store(&worker->painter.hold, 0);
    for (int i = 0; i < READERS; i++) {
        struct reply reply;
        client_receive(fds[i], &reply);
        assert_history(reply.body.data, 1, 10);
        reply_free(&reply);
    }
    free(fds);
    struct reply reply;
    double start_s = sdw_clock_seconds();
    client_ask(worker, &reply, "GET", "/health", "", NULL);
    assert_true(sdw_clock_seconds() - start_s < 0.5);
    reply_free(&reply);
    start_s = sdw_clock_seconds();
    worker_close(worker); /* with the stalled ones still there */
    assert_true(sdw_clock_seconds() - start_s < 2);
    close_connections(stalled, STALLED);
}

/* Every stream gets its terminal event, within the two seconds that a hive allows. */
static void stop_under_load(void **state)
{
    (void)state;
    enum { READERS = 60 };
    struct worker *worker = worker_open(NULL, 0);
    char id[3][SDW_JOB_ID_MAX];
    int fds[READERS];
    atomic_store(&worker->painter.step_ms, 5);
    for (int i = 0; i < 3; i++)
        client_submit(worker, id[i], "{\"prompt\":\"a cat\",\"steps\":150}");
    for (int i = 0; i < READERS; i++)
        fds[i] = open_stream(worker, id[i % 3]);
    wait_for(worker, id[0], SDW_JOB_RUNNING);
    usleep(50000);
    double start_s = sdw_clock_seconds();
    worker_close(worker);
    assert_true(sdw_clock_seconds() - start_s < 2);
    for (int i = 0; i < READERS; i++) {
        struct reply reply;
        static const char end[] = "data: [CANCELLED]\n\ndata: [DONE]\n\n";
        client_receive(fds[i], &reply);
        assert_true(reply.body.length >= sizeof end - 1);
        assert_string_equal(reply.body.data + reply.body.length - (sizeof end - 1), end);
        reply_free(&reply);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(live_and_late),        cmocka_unit_test(several_images),
        cmocka_unit_test(events_are_prompt),    cmocka_unit_test(named_form),
        cmocka_unit_test(ends_of_all_kinds),    cmocka_unit_test(keep_alive),
        cmocka_unit_test(cancel_on_disconnect), cmocka_unit_test(many_readers),
        cmocka_unit_test(stop_under_load),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
