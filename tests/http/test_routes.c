/* test_routes.c: every route, and every way to be refused. */
#include "client.h"

#include "base/clock.h"

#include <jansson.h>
#include <png.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#define JSON "Content-Type: application/json\r\n"

static json_t *get_json(struct worker *worker, const char *path, int http)
{
    struct reply reply;
    client_ask(worker, &reply, "GET", path, "", NULL);
    assert_int_equal(reply.status, http);
    json_t *json = json_loads(reply.body.data, JSON_DECODE_INT_AS_REAL, NULL);
    if (!json)
        fail_msg("%s: no JSON: %s", path, reply.body.data);
    reply_free(&reply);
    return json;
}

static const char *text_of(const json_t *json, const char *key)
{
    const char *text = json_string_value(json_object_get(json, key));
    return text ? text : "";
}

static void wait_for(struct worker *worker, const char *id, const char *state)
{
    char path[80];
    bool there = false;
    double end_s = sdw_clock_seconds() + 10;
    snprintf(path, sizeof path, "/v1/jobs/%s", id);
    while (!there && sdw_clock_seconds() < end_s) {
        json_t *json = get_json(worker, path, 200);
        there = strcmp(text_of(json, "state"), state) == 0;
        json_decref(json);
        usleep(1000);
    }
    assert_true(there);
}

static void plain_routes(void **state)
{
    (void)state;
    struct worker *worker = worker_open(NULL, 0);
    json_t *json = get_json(worker, "/health", 200);
    assert_string_equal(text_of(json, "status"), "healthy");
    assert_true(strlen(text_of(json, "timestamp")) >= 20);
    json_decref(json);
    json = get_json(worker, "/ready", 200);
    assert_true(json_is_true(json_object_get(json, "ready")));
    json_decref(json);
    json = get_json(worker, "/info", 200);
    assert_string_equal(text_of(json, "id"), "worker-test-1");
    assert_string_equal(text_of(json, "model_id"), "tiny");
    assert_string_equal(text_of(json, "device"), "paint:0");
    assert_string_equal(text_of(json, "status"), "ready");
    assert_string_equal(text_of(json, "implementation"), "sd-worker");
    assert_true(json_number_value(json_object_get(json, "port")) == worker->port);
    json_decref(json);
    json = get_json(worker, "/", 200);
    assert_string_equal(text_of(json, "id"), "worker-test-1");
    json_decref(json);
    json = get_json(worker, "/v1/models", 200);
    assert_string_equal(text_of(json, "loaded"), "tiny");
    json_decref(json);
    json = get_json(worker, "/v1/samplers", 200);
    assert_int_equal(json_array_size(json_object_get(json, "samplers")), 2);
    assert_int_equal(json_array_size(json_object_get(json, "schedules")), 2);
    json_decref(json);
    json = get_json(worker, "/openapi.json", 200);
    json_t *schema =
        json_object_get(json_object_get(json_object_get(json, "components"), "schemas"), "Job");
    assert_int_equal(json_object_size(json_object_get(schema, "properties")), sdw_param_count);
    assert_non_null(json_object_get(
        json_object_get(json_object_get(json, "paths"), "/v1/jobs/{id}"), "delete"));
    json_decref(json);
    worker_close(worker);
}

static void page_for_browsers(void **state)
{
    (void)state;
    struct worker *worker = worker_open(NULL, 0);
    struct reply reply;
    client_ask(worker, &reply, "GET", "/", "Accept: text/html,*/*;q=0.8\r\n", NULL);
    assert_int_equal(reply.status, 200);
    assert_true(reply_has_header(&reply, "Content-Type: text/html"));
    assert_memory_equal(reply.body.data, "<!doctype html>", 15);
    assert_null(strstr(reply.body.data, "http://")); /* nothing is fetched from elsewhere */
    assert_null(strstr(reply.body.data, "https://"));
    reply_free(&reply);
    worker_close(worker);
}

static void job_from_start_to_end(void **state)
{
    (void)state;
    struct worker *worker = worker_open(NULL, 0);
    char id[SDW_JOB_ID_MAX], path[96];
    atomic_store(&worker->painter.hold, 1);
    client_submit(worker, id,
                  "{\"prompt\":\"a \\\"cat\\\"\",\"steps\":3,\"seed\":18446744073709551615,"
                  "\"hive_id\":\"h\",\"model\":\"m\",\"worker_id\":\"w\",\"stepz\":4,"
                  "\"operation\":\"image_generation\",\"width\":72,\"height\":64}");
    wait_for(worker, id, "running");
    snprintf(path, sizeof path, "/v1/jobs/%s/image", id);
    client_refused(worker, "GET", path, "", NULL, 404, "not_found");
    json_t *info = get_json(worker, "/info", 200);
    assert_string_equal(text_of(info, "status"), "busy");
    json_decref(info);
    atomic_store(&worker->painter.hold, 0);
    wait_for(worker, id, "completed");

    struct reply reply;
    client_ask(worker, &reply, "GET", path, "", NULL);
    assert_int_equal(reply.status, 200);
    assert_true(reply_has_header(&reply, "Content-Type: image/png"));
    png_image image = {.version = PNG_IMAGE_VERSION};
    assert_true(png_image_begin_read_from_memory(&image, reply.body.data, reply.body.length));
    assert_int_equal(image.width, 72);
    assert_int_equal(image.height, 64);
    png_image_free(&image);
    reply_free(&reply);

    snprintf(path, sizeof path, "/v1/jobs/%s", id);
    client_ask(worker, &reply, "GET", path, "", NULL);
    assert_non_null(strstr(reply.body.data, "\"seed\":18446744073709551615,"));
    assert_non_null(strstr(reply.body.data, "\"prompt\":\"a \\\"cat\\\"\""));
    assert_non_null(strstr(reply.body.data, "\"unknown_keys\":[\"stepz\"]"));
    assert_non_null(strstr(reply.body.data, "\"step\":3,\"total\":3,"));
    reply_free(&reply);
    assert_true(atomic_load(&worker->painter.last_seed) == UINT64_MAX);
    client_refused(worker, "DELETE", path, "", NULL, 404, "not_found"); /* it has ended */
    worker_close(worker);
}

static void list_of_jobs(void **state)
{
    (void)state;
    struct worker *worker = worker_open(NULL, 0);
    char id[3][SDW_JOB_ID_MAX];
    for (int i = 0; i < 3; i++)
        client_submit(worker, id[i], "{\"prompt\":\"x\",\"steps\":1}");
    json_t *json = get_json(worker, "/v1/jobs?limit=2&offset=1", 200);
    json_t *jobs = json_object_get(json, "jobs");
    assert_int_equal(json_array_size(jobs), 2);
    assert_true(json_number_value(json_object_get(json, "total")) == 3);
    assert_string_equal(text_of(json_array_get(jobs, 0), "job_id"), id[1]);
    assert_string_equal(text_of(json_array_get(jobs, 1), "job_id"), id[0]);
    json_decref(json);
    json = get_json(worker, "/v1/jobs?limit=banana&offset=-3", 200);
    assert_int_equal(json_array_size(json_object_get(json, "jobs")), 3);
    json_decref(json);
    worker_close(worker);
}

static void seeds_are_drawn(void **state)
{
    (void)state;
    struct worker *worker = worker_open(NULL, 0);
    static const char *const bodies[] = {"{\"prompt\":\"x\",\"steps\":1}",
                                         "{\"prompt\":\"x\",\"steps\":1,\"seed\":null}",
                                         "{\"prompt\":\"x\",\"steps\":1,\"seed\":-1}"};
    char id[SDW_JOB_ID_MAX];
    uint64_t seeds[3];
    for (int i = 0; i < 3; i++) {
        client_submit(worker, id, bodies[i]);
        wait_for(worker, id, "completed");
        seeds[i] = atomic_load(&worker->painter.last_seed);
    }
    assert_true(seeds[0] != seeds[1] && seeds[1] != seeds[2] && seeds[0] != seeds[2]);
    worker_close(worker);
}

static void refusals(void **state)
{
    (void)state;
    struct worker *worker = worker_open(NULL, 0);
    static const char nobody[] = "/v1/jobs/job_00000000-0000-4000-8000-000000000000";
    const struct {
        const char *method, *path, *headers, *body;
        int http;
        const char *code;
    } cases[] = {
        {"GET", "/nothing", "", NULL, 404, "not_found"},
        {"GET", "/v1/jobs/", "", NULL, 404, "not_found"},
        {"GET", "/v1/jobs/x/y/z", "", NULL, 404, "not_found"},
        {"GET", nobody, "", NULL, 404, "not_found"},
        {"GET", "/v1/jobs/%00%ff%22", "", NULL, 404, "not_found"},
        {"DELETE", nobody, "", NULL, 404, "not_found"},
        {"GET", "/v1/jobs/x/stream", "", NULL, 404, "not_found"},
        {"GET", "/v1/jobs/x/image", "", NULL, 404, "not_found"},
        {"PUT", "/v1/jobs", JSON, "{}", 405, "method_not_allowed"},
        {"POST", "/health", "", "{}", 405, "method_not_allowed"},
        {"POST", "/v1/jobs", "Content-Type: text/plain\r\n", "{\"prompt\":\"x\"}", 415,
         "unsupported_media_type"},
        {"POST", "/v1/jobs", "Content-Type: multipart/form-data; boundary=x\r\n", "x", 415,
         "unsupported_media_type"},
        {"POST", "/v1/jobs", JSON "Origin: http://evil.example\r\n", "{\"prompt\":\"x\"}", 403,
         "forbidden"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        client_refused(worker, cases[i].method, cases[i].path, cases[i].headers, cases[i].body,
                       cases[i].http, cases[i].code);
    struct reply reply;
    client_ask(worker, &reply, "PUT", "/v1/jobs", JSON, "{}");
    assert_true(reply_has_header(&reply, "Allow: POST, GET"));
    reply_free(&reply);
    client_ask(worker, &reply, "POST", "/v1/jobs",
               "Content-Type: application/x-www-form-urlencoded\r\nOrigin: http://localhost\r\n",
               "{\"prompt\":\"x\"}"); /* curl -d, and our own page */
    assert_int_equal(reply.status, 200);
    reply_free(&reply);
    worker_close(worker);
}

static void same_key_same_job(void **state)
{
    (void)state;
    struct worker *worker = worker_open(NULL, 1);
    struct reply first, again;
    static const char key[] = JSON "Idempotency-Key: 8f14e45f\r\n";
    static const char body[] = "{\"prompt\":\"x\",\"steps\":1}";
    client_ask(worker, &first, "POST", "/v1/jobs", key, body);
    assert_int_equal(first.status, 200);
    for (int i = 0; i < 5; i++) { /* also when the queue would be full */
        client_ask(worker, &again, "POST", "/v1/jobs", key, body);
        assert_int_equal(again.status, 200);
        assert_string_equal(again.body.data, first.body.data);
        reply_free(&again);
    }
    client_ask(worker, &again, "POST", "/v1/jobs", JSON "Idempotency-Key: 8f14e45e\r\n", body);
    assert_string_not_equal(again.body.data, first.body.data);
    reply_free(&again);
    reply_free(&first);
    char large[200] = JSON "Idempotency-Key: ";
    size_t length = strlen(large);
    memset(large + length, 'k', SDW_JOB_KEY_MAX);
    memcpy(large + length + SDW_JOB_KEY_MAX, "\r\n", 3);
    client_refused(worker, "POST", "/v1/jobs", large, body, 400, "invalid_request");
    client_refused(worker, "POST", "/v1/jobs", JSON "Idempotency-Key: \r\n", body, 400,
                   "invalid_request");
    worker_close(worker);
}

/* What a page of another site can make a browser send. */
static void other_sites(void **state)
{
    (void)state;
    struct worker *worker = worker_open(NULL, 0);
    static const char *const origins[] = {"Origin: http://evil.example\r\n", "Origin: null\r\n",
                                          "Origin: http://localhost.evil.example\r\n"};
    for (size_t i = 0; i < sizeof origins / sizeof origins[0]; i++) {
        client_refused(worker, "POST", "/v1/shutdown", origins[i], "", 403, "forbidden");
        client_refused(worker, "DELETE", "/v1/jobs/x", origins[i], NULL, 403, "forbidden");
    }
    assert_false(atomic_load(&worker->shutdown_asked));
    static const struct {
        const char *host;
        bool ours;
    } hosts[] = {{"localhost:8600", true},
                 {"LOCALHOST", true},
                 {"127.0.0.1:80", true},
                 {"[::1]:8600", true},
                 {"evil.example", false},
                 {"127.0.0.1.evil.example", false},
                 {"localhost.evil.example:8600", false},
                 {"[::1", false},
                 {"", false}};
    for (size_t i = 0; i < sizeof hosts / sizeof hosts[0]; i++) {
        char text[160];
        struct reply reply;
        int length =
            snprintf(text, sizeof text,
                     "GET /info HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n", hosts[i].host);
        int fd = client_connect(worker->port);
        client_send(fd, text, (size_t)length);
        client_receive(fd, &reply);
        if (reply.status != (hosts[i].ours ? 200 : 403))
            fail_msg("Host: %s: %d", hosts[i].host, reply.status);
        reply_free(&reply);
    }
    worker_close(worker);
    worker = worker_open(&(struct sdw_server_options){.bind_addr = "0.0.0.0"}, 0);
    struct reply reply; /* bound to all addresses it has names that it cannot know */
    client_ask(worker, &reply, "GET", "/info", "", NULL);
    assert_int_equal(reply.status, 200);
    reply_free(&reply);
    worker_close(worker);
}

static void large_bodies(void **state)
{
    (void)state;
    struct sdw_server_options options = {.body_bytes_max = 8u << 20};
    struct worker *worker = worker_open(&options, 0);
    size_t length = 10u << 20;
    char *body = malloc(length + 1);
    memset(body, 'x', length);
    memcpy(body, "{\"prompt\":\"", 11);
    body[length] = 0;
    client_refused(worker, "POST", "/v1/jobs", JSON, body, 413, "too_large");
    client_refused(worker, "POST", "/nothing", JSON, body, 404, "not_found");
    free(body);
    client_refused(worker, "POST", "/v1/jobs", JSON "Content-Length: 99999999999\r\n", NULL, 413,
                   "too_large");
    json_decref(get_json(worker, "/health", 200)); /* it goes on */
    worker_close(worker);
}

static void not_ready(void **state)
{
    (void)state;
    struct worker *worker = worker_open(NULL, 0);
    atomic_store(&worker->loading, true);
    json_t *json = get_json(worker, "/ready", 503);
    assert_true(json_is_false(json_object_get(json, "ready")));
    assert_string_equal(text_of(json, "reason"), "model loading");
    assert_true(json_real_value(json_object_get(json, "progress")) == 0.25);
    json_decref(json);
    json = get_json(worker, "/info", 200);
    assert_string_equal(text_of(json, "status"), "starting");
    json_decref(json);
    json_decref(get_json(worker, "/health", 200));
    client_refused(worker, "POST", "/v1/jobs", JSON, "{\"prompt\":\"x\"}", 503, "unavailable");
    worker_close(worker);
}

static enum sdw_status small_machine(void *context, const struct sdw_params *params,
                                     struct sdw_error *err)
{
    return params->width <= *(const int *)context
               ? SDW_OK
               : sdw_fail(err, SDW_MEMORY, "an image of %d x %d takes 9 MB more, 4 MB are free",
                          params->width, params->height);
}

static void more_than_the_memory(void **state)
{
    (void)state;
    int side = 128;
    struct worker *worker = worker_open(NULL, 0);
    struct reply reply;
    worker->defaults.fits = small_machine;
    worker->defaults.context = &side;
    client_ask(worker, &reply, "POST", "/v1/jobs", JSON, "{\"prompt\":\"x\",\"width\":136}");
    assert_int_equal(reply.status, 400);
    assert_string_equal(reply.body.data,
                        "{\"errors\":[{\"field\":\"width\",\"constraint\":\"memory\",\"message\":"
                        "\"an image of 136 x 64 takes 9 MB more, 4 MB are free\",\"value\":136}]}");
    reply_free(&reply);
    client_ask(worker, &reply, "POST", "/v1/jobs", JSON, "{\"prompt\":\"x\",\"width\":128}");
    assert_int_equal(reply.status, 200);
    reply_free(&reply);
    worker_close(worker);
}

static void full_queue(void **state)
{
    (void)state;
    struct worker *worker = worker_open(NULL, 2);
    char id[3][SDW_JOB_ID_MAX];
    atomic_store(&worker->painter.hold, 1);
    client_submit(worker, id[0], "{\"prompt\":\"x\",\"steps\":2}");
    wait_for(worker, id[0], "running");
    client_submit(worker, id[1], "{\"prompt\":\"x\",\"steps\":2}");
    client_submit(worker, id[2], "{\"prompt\":\"x\",\"steps\":2}");
    client_refused(worker, "POST", "/v1/jobs", JSON, "{\"prompt\":\"x\"}", 429, "queue_full");
    struct reply reply;
    client_ask(worker, &reply, "POST", "/v1/jobs", JSON, "{\"prompt\":\"x\"}");
    assert_true(reply_has_header(&reply, "Retry-After: "));
    reply_free(&reply);
    char path[80];
    snprintf(path, sizeof path, "/v1/jobs/%s", id[2]);
    json_t *json = get_json(worker, path, 200);
    assert_true(json_number_value(json_object_get(json, "position")) == 2);
    json_decref(json);
    client_ask(worker, &reply, "GET", "/metrics", "", NULL);
    assert_non_null(strstr(reply.body.data, "sdw_jobs{state=\"queued\"} 2\n"));
    assert_non_null(strstr(reply.body.data, "sdw_jobs_refused_total 2\n"));
    assert_non_null(
        strstr(reply.body.data,
               "sdw_http_answers_total{method=\"POST\",route=\"/v1/jobs\",status=\"4xx\"} 2\n"));
    assert_non_null(strstr(reply.body.data, "sdw_step_seconds_bucket{le=\"+Inf\"} "));
    assert_non_null(
        strstr(reply.body.data, "sdw_stage_seconds_bucket{stage=\"vae\",le=\"0.003\"} "));
    assert_non_null(strstr(reply.body.data, "sdw_stage_seconds_sum{stage=\"png\"} "));
    assert_non_null(strstr(reply.body.data, "sdw_heartbeats_total{result=\"heard\"} 0\n"));
    assert_non_null(strstr(reply.body.data, "sdw_info{worker=\""));
    reply_free(&reply);
    client_ask(worker, &reply, "DELETE", path, "", NULL);
    assert_int_equal(reply.status, 200);
    assert_non_null(strstr(reply.body.data, "\"status\":\"cancelled\""));
    reply_free(&reply);
    atomic_store(&worker->painter.hold, 0);
    worker_close(worker);
}

/* Walks the routes that /openapi.json lists: with a key, all but two are closed. */
static void keys(void **state)
{
    (void)state;
    static const char *const known[] = {"another", "s3cret", NULL};
    struct worker *worker = worker_open(&(struct sdw_server_options){.api_keys = known}, 0);
    struct reply reply;
    client_ask(worker, &reply, "GET", "/openapi.json", "Authorization: Bearer s3cret\r\n", NULL);
    assert_int_equal(reply.status, 200);
    json_t *api = json_loads(reply.body.data, JSON_DECODE_INT_AS_REAL, NULL), *methods, *operation;
    reply_free(&reply);
    const char *path, *method;
    int walked = 0;
    json_object_foreach(json_object_get(api, "paths"), path, methods)
    {
        json_object_foreach(methods, method, operation)
        {
            char upper[8] = "", url[80];
            for (int i = 0; method[i]; i++)
                upper[i] = (char)(method[i] - 32);
            bool id = strstr(path, "{id}") != NULL;
            snprintf(url, sizeof url, id ? "/v1/jobs/job_x%s" : "%s",
                     id ? strchr(path, '}') + 1 : path);
            walked++;
            if (strcmp(path, "/health") == 0 || strcmp(path, "/ready") == 0) {
                json_decref(get_json(worker, url, 200));
                continue;
            }
            client_refused(worker, upper, url, "", NULL, 401, "unauthorized");
            client_refused(worker, upper, url, "Authorization: Bearer s3cre\r\n", NULL, 401,
                           "unauthorized");
            client_refused(worker, upper, url, "Authorization: Basic s3cret\r\n", NULL, 401,
                           "unauthorized");
        }
    }
    json_decref(api);
    assert_int_equal(walked, 15);
    client_refused(worker, "GET", "/nothing", "", NULL, 401, "unauthorized");
    client_ask(worker, &reply, "GET", "/info", "Authorization: Bearer s3cret\r\n", NULL);
    assert_int_equal(reply.status, 200);
    reply_free(&reply);
    worker_close(worker);
}

/* Pages of a named origin may send and read; of another one, neither. */
static void origins(void **state)
{
    (void)state;
    static const char *const known[] = {"https://friend.example", NULL};
    static const char *const secret[] = {"s3cret", NULL};
    struct worker *worker =
        worker_open(&(struct sdw_server_options){.cors_origins = known, .api_keys = secret}, 0);
    struct reply reply;
    client_ask(worker, &reply, "OPTIONS", "/v1/jobs",
               "Origin: https://friend.example\r\nAccess-Control-Request-Method: POST\r\n", NULL);
    assert_int_equal(reply.status, 204); /* without the key: browsers do not send it here */
    assert_true(reply_has_header(&reply, "Access-Control-Allow-Origin: https://friend.example"));
    reply_free(&reply);
    client_ask(worker, &reply, "POST", "/v1/jobs",
               JSON "Authorization: Bearer s3cret\r\nOrigin: https://friend.example\r\n",
               "{\"prompt\":\"a\",\"steps\":1,\"width\":64,\"height\":64}");
    assert_int_equal(reply.status, 200);
    assert_true(reply_has_header(&reply, "Access-Control-Allow-Origin: https://friend.example"));
    reply_free(&reply);
    client_refused(worker, "OPTIONS", "/v1/jobs",
                   "Authorization: Bearer s3cret\r\nOrigin: https://foe.example\r\n"
                   "Access-Control-Request-Method: POST\r\n",
                   NULL, 405, "method_not_allowed");
    client_refused(worker, "POST", "/v1/jobs",
                   JSON "Authorization: Bearer s3cret\r\nOrigin: https://foe.example\r\n",
                   "{\"prompt\":\"a\"}", 403, "forbidden");
    client_ask(worker, &reply, "GET", "/health", "Origin: https://foe.example\r\n", NULL);
    assert_null(strcasestr(reply.head.data, "Access-Control"));
    reply_free(&reply);
    worker_close(worker);
}

static void connections_of_one_address(void **state)
{
    (void)state;
    struct worker *worker =
        worker_open(&(struct sdw_server_options){.connections_per_address = 2}, 0);
    int first = client_connect(worker->port), second = client_connect(worker->port);
    client_send(first, "GET", 3);
    client_send(second, "GET", 3);
    usleep(50000);
    char byte;
    int third = client_connect(worker->port);
    send(third, "GET /health HTTP/1.1\r\n\r\n", 24, MSG_NOSIGNAL);
    assert_true(recv(third, &byte, 1, 0) <= 0); /* closed without a word */
    close(third);
    close(second);
    close(first);
    usleep(50000);
    json_decref(get_json(worker, "/health", 200));
    worker_close(worker);
}

/* A request and the end of what its sender has to say, at once: the answer, and the end. */
static void last_words(void **state)
{
    (void)state;
    static const char text[] = "GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n";
    struct worker *worker = worker_open(&(struct sdw_server_options){.keep_alive_s = 0.3}, 0);
    double start_s = sdw_clock_seconds();
    for (int i = 0; i < 50; i++) {
        struct reply reply;
        int fd = client_connect(worker->port);
        client_send(fd, text, sizeof text - 1);
        shutdown(fd, SHUT_WR);
        client_receive(fd, &reply);
        assert_int_equal(reply.status, 200);
        reply_free(&reply);
    }
    assert_true(sdw_clock_seconds() - start_s < 10); /* not the idle timeout */
    worker_close(worker);
}

static void shutdown_on_request(void **state)
{
    (void)state;
    struct worker *worker = worker_open(NULL, 0);
    struct reply reply;
    client_ask(worker, &reply, "POST", "/v1/shutdown", "", "");
    assert_int_equal(reply.status, 200);
    assert_true(atomic_load(&worker->shutdown_asked));
    reply_free(&reply);
    worker_close(worker);
}

static void port_in_use(void **state)
{
    (void)state;
    struct worker *worker = worker_open(NULL, 0);
    struct sdw_error err = {0};
    struct sdw_server *server = NULL;
    char expected[40];
    struct sdw_server_options options = {
        .bind_addr = "127.0.0.1", .port = worker->port, .jobs = worker->jobs};
    options.state = worker_state;
    assert_int_equal(sdw_server_open(&server, &options, &err), SDW_IO);
    snprintf(expected, sizeof expected, "port %d is in use", worker->port);
    assert_memory_equal(err.message, expected, strlen(expected));
    options.bind_addr = "my-house";
    assert_int_equal(sdw_server_open(&server, &options, &err), SDW_USAGE);
    assert_non_null(strstr(err.message, "\"my-house\""));
    worker_close(worker);
}

static void ipv6(void **state)
{
    (void)state;
    struct worker *worker = worker_open(&(struct sdw_server_options){.bind_addr = "::"}, 0);
    json_decref(get_json(worker, "/health", 200)); /* and IPv4 besides */
    worker_close(worker);
}

/* Bytes that are no HTTP, and connections that say nothing, leave the worker standing. */
static void rude_clients(void **state)
{
    (void)state;
    struct worker *worker = worker_open(NULL, 0);
    static const char *const rude[] = {
        "\r\n\r\n", "GET\r\n\r\n", "POST /v1/jobs HTTP/1.1\r\nContent-Length: -4\r\n\r\n",
        "POST /v1/jobs HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        "\x16\x03\x01"};
    for (size_t i = 0; i < sizeof rude / sizeof rude[0]; i++) {
        int fd = client_connect(worker->port);
        client_send(fd, rude[i], strlen(rude[i]));
        usleep(2000);
        close(fd);
    }
    int silent = client_connect(worker->port);
    json_decref(get_json(worker, "/health", 200));
    worker_close(worker);
    close(silent);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(plain_routes),
        cmocka_unit_test(page_for_browsers),
        cmocka_unit_test(job_from_start_to_end),
        cmocka_unit_test(list_of_jobs),
        cmocka_unit_test(seeds_are_drawn),
        cmocka_unit_test(refusals),
        cmocka_unit_test(other_sites),
        cmocka_unit_test(same_key_same_job),
        cmocka_unit_test(large_bodies),
        cmocka_unit_test(not_ready),
        cmocka_unit_test(more_than_the_memory),
        cmocka_unit_test(full_queue),
        cmocka_unit_test(keys),
        cmocka_unit_test(origins),
        cmocka_unit_test(connections_of_one_address),
        cmocka_unit_test(last_words),
        cmocka_unit_test(shutdown_on_request),
        cmocka_unit_test(port_in_use),
        cmocka_unit_test(ipv6),
        cmocka_unit_test(rude_clients),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
