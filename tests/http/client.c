/* client.c: see client.h. */
#include "client.h"

#include <arpa/inet.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#define REPLY_BYTES_MAX (64u << 20)

static bool sampler_known(const char *name)
{
    return strcmp(name, "euler") == 0 || strcmp(name, "ddim") == 0;
}

void worker_state(void *context, struct sdw_server_state *state)
{
    struct worker *worker = context;
    bool loading = atomic_load(&worker->loading);
    state->ready = !loading;
    state->progress = loading ? 0.25 : -1;
    snprintf(state->reason, sizeof state->reason, "model loading");
    state->defaults = &worker->defaults;
}

static void on_shutdown(void *context)
{
    atomic_store(&((struct worker *)context)->shutdown_asked, true);
}

struct worker *worker_open(const struct sdw_server_options *options, int queue_max)
{
    static const struct sdw_server_sampler samplers[] = {{"euler", "Euler", "plain"},
                                                         {"ddim", "DDIM", "the first"}};
    static const struct sdw_server_model models[] = {
        {"tiny", "tiny small", "nobody/tiny", 64, 4, 7.5}};
    static const char *const schedules[] = {"normal", "karras", NULL};
    struct worker *worker = calloc(1, sizeof *worker);
    struct sdw_jobs_options jobs_options = {.queue_max = queue_max};
    struct sdw_runner runner = painter_runner(&worker->painter);
    struct sdw_error err = {0};
    worker->defaults = (struct sdw_params_defaults){.steps = 4,
                                                    .width = 64,
                                                    .height = 64,
                                                    .guidance_scale = 7.5,
                                                    .sampler = "euler",
                                                    .multiple = 8,
                                                    .sampler_known = sampler_known};
    assert_int_equal(sdw_jobs_open(&worker->jobs, &jobs_options, &err), SDW_OK);
    assert_int_equal(sdw_jobs_start(worker->jobs, &runner, &err), SDW_OK);
    struct sdw_server_options all = options ? *options : (struct sdw_server_options){0};
    if (!all.bind_addr)
        all.bind_addr = "127.0.0.1";
    all.jobs = worker->jobs;
    all.context = worker;
    all.state = worker_state;
    all.shutdown = on_shutdown;
    all.worker_id = "worker-test-1";
    all.model_id = "tiny";
    all.device = "paint:0";
    all.version = "0.1.0";
    all.models = models;
    all.model_count = 1;
    all.samplers = samplers;
    all.sampler_count = 2;
    all.schedules = schedules;
    if (sdw_server_open(&worker->server, &all, &err))
        fail_msg("%s", err.message);
    worker->port = sdw_server_port(worker->server);
    return worker;
}

void worker_close(struct worker *worker)
{
    sdw_jobs_stop(worker->jobs, 2);
    sdw_server_close(worker->server, 1);
    sdw_jobs_close(worker->jobs);
    free(worker);
}

int client_connect(int port)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    struct timeval patience = {.tv_sec = 20};
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    assert_true(fd >= 0);
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    assert_int_equal(connect(fd, (struct sockaddr *)&address, sizeof address), 0);
    return fd;
}

void client_send(int fd, const void *bytes, size_t length)
{
    const char *at = bytes;
    while (length > 0) {
        ssize_t sent = send(fd, at, length, MSG_NOSIGNAL);
        if (sent <= 0)
            return; /* the other side has had enough; what it says counts */
        at += sent;
        length -= (size_t)sent;
    }
}

static void put_chunks_together(struct sdw_text *to, const char *chunks, size_t length)
{
    const char *end = chunks + length;
    while (chunks < end) {
        char *after;
        size_t size = strtoul(chunks, &after, 16);
        if (size == 0)
            break;
        after += 2;
        size_t there = (size_t)(end - after);
        sdw_text_append(to, after, size < there ? size : there, NULL);
        if (size + 2 >= there)
            break;
        chunks = after + size + 2;
    }
}

void client_receive(int fd, struct reply *reply)
{
    struct sdw_text all;
    char part[65536];
    ssize_t n;
    sdw_text_init(&all, REPLY_BYTES_MAX);
    sdw_text_init(&reply->head, REPLY_BYTES_MAX);
    sdw_text_init(&reply->body, REPLY_BYTES_MAX);
    while ((n = recv(fd, part, sizeof part, 0)) > 0)
        sdw_text_append(&all, part, (size_t)n, NULL);
    close(fd);
    char *end = all.length ? strstr(all.data, "\r\n\r\n") : NULL;
    if (!end)
        fail_msg("no HTTP answer, but %zu bytes", all.length);
    size_t head = (size_t)(end - all.data) + 2;
    sdw_text_append(&reply->head, all.data, head, NULL);
    assert_int_equal(sscanf(reply->head.data, "HTTP/1.1 %d", &reply->status), 1);
    if (reply_has_header(reply, "Transfer-Encoding: chunked"))
        put_chunks_together(&reply->body, end + 4, all.length - head - 2);
    else
        sdw_text_append(&reply->body, end + 4, all.length - head - 2, NULL);
    sdw_text_append(&reply->body, "", 0, NULL);
    sdw_text_free(&all);
}

void reply_free(struct reply *reply)
{
    sdw_text_free(&reply->head);
    sdw_text_free(&reply->body);
}

bool reply_has_header(const struct reply *reply, const char *line)
{
    size_t length = strlen(line);
    for (const char *at = reply->head.data; at && *at; at = strstr(at, "\r\n")) {
        at += *at == '\r' ? 2 : 0;
        if (strncasecmp(at, line, length) == 0)
            return true;
        if (!*at)
            break;
    }
    return false;
}

void client_ask(struct worker *worker, struct reply *reply, const char *method, const char *path,
                const char *headers, const char *body)
{
    struct sdw_text text;
    sdw_text_init(&text, REPLY_BYTES_MAX);
    sdw_text_printf(&text, NULL, "%s %s HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n%s",
                    method, path, headers);
    if (body)
        sdw_text_printf(&text, NULL, "Content-Length: %zu\r\n", strlen(body));
    sdw_text_append(&text, "\r\n", 2, NULL);
    if (body)
        sdw_text_append(&text, body, strlen(body), NULL);
    int fd = client_connect(worker->port);
    client_send(fd, text.data, text.length);
    sdw_text_free(&text);
    client_receive(fd, reply);
}

void client_submit(struct worker *worker, char *id, const char *body)
{
    struct reply reply;
    client_ask(worker, &reply, "POST", "/v1/jobs", "Content-Type: application/json\r\n", body);
    assert_int_equal(reply.status, 200);
    json_t *json = json_loads(reply.body.data, JSON_DECODE_INT_AS_REAL, NULL);
    const char *text = json_string_value(json_object_get(json, "job_id"));
    assert_non_null(text);
    assert_int_equal(strlen(text), SDW_JOB_ID_MAX - 1);
    strcpy(id, text);
    char url[80];
    snprintf(url, sizeof url, "/v1/jobs/%s/stream", id);
    assert_string_equal(json_string_value(json_object_get(json, "sse_url")), url);
    json_decref(json);
    reply_free(&reply);
}

void client_refused(struct worker *worker, const char *method, const char *path,
                    const char *headers, const char *body, int http, const char *code)
{
    struct reply reply;
    client_ask(worker, &reply, method, path, headers, body);
    if (reply.status != http)
        fail_msg("%s %s: %d %s", method, path, reply.status, reply.body.data);
    json_t *json = json_loads(reply.body.data, JSON_DECODE_INT_AS_REAL, NULL),
           *error = json_object_get(json, "error");
    assert_string_equal(json_string_value(json_object_get(error, "code")), code);
    assert_true(strlen(json_string_value(json_object_get(error, "message"))) > 10);
    assert_true(reply_has_header(&reply, "Content-Type: application/json"));
    json_decref(json);
    reply_free(&reply);
}
