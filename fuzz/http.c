/* http.c: any bytes at the socket of a worker, and bodies with any value in any field.
 *
 * An input is what a client sends, "job_x" in it stands for a job that is there; then it has
 * nothing more to say, and the worker has to end the connection. One that begins with a NUL is a
 * recipe for a body instead: each two bytes put a value into a field of the table that
 * /openapi.json is made from. */
#include "fuzz.h"

#include "base/text.h"
#include "http/server.h"
#include "painter.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define PATIENCE_S    20
#define REQUEST_BYTES (1u << 20)

static struct painter painter;
static struct sdw_runner paint;
static struct sdw_params_defaults defaults = {.steps = 4,
                                              .width = 64,
                                              .height = 64,
                                              .guidance_scale = 7.5,
                                              .sampler = "euler",
                                              .multiple = 8};
static struct sdw_jobs *jobs;
static struct sdw_server *server;
static char known_id[SDW_JOB_ID_MAX];

static void tell_state(void *context, struct sdw_server_state *state)
{
    (void)context;
    *state = (struct sdw_server_state){.ready = true, .progress = -1, .defaults = &defaults};
}

/* Whatever size is asked for, a small picture of few steps: it is not the painter who is tried. */
static enum sdw_status paint_small(void *context, const struct sdw_params *params,
                                   const struct sdw_progress *progress, struct sdw_result *result,
                                   struct sdw_error *err)
{
    struct sdw_params small = *params;
    (void)context;
    small.width = small.height = 64;
    small.steps = 2;
    return paint.run(paint.context, &small, progress, result, err);
}

static void open_worker(void)
{
    struct sdw_error err = {0};
    struct sdw_jobs_options queue = {.queue_max = 16, .kept_max = 16};
    struct sdw_runner runner = {.run = paint_small};
    struct sdw_server_options options = {.bind_addr = "127.0.0.1",
                                         .keep_alive_s = 0.15, /* ticks each 10 ms */
                                         .body_bytes_max = REQUEST_BYTES,
                                         .state = tell_state,
                                         .worker_id = "fuzzed",
                                         .model_id = "none",
                                         .device = "none:0",
                                         .version = "0"};
    paint = painter_runner(&painter);
    FUZZ_CHECK(sdw_jobs_open(&jobs, &queue, &err) == SDW_OK);
    FUZZ_CHECK(sdw_jobs_start(jobs, &runner, &err) == SDW_OK);
    options.jobs = jobs;
    FUZZ_CHECK(sdw_server_open(&server, &options, &err) == SDW_OK);
}

/* Jobs are retired after a while; then a new one is made. */
static void know_a_job(void)
{
    struct sdw_job *job = *known_id ? sdw_jobs_find(jobs, known_id) : NULL;
    struct sdw_params params = {.prompt = strdup("a cat")};
    struct sdw_error err = {0};
    sdw_params_complete(&params, &defaults);
    if (!job && sdw_jobs_submit(jobs, known_id, &params, NULL, NULL, &err))
        *known_id = 0; /* the queue is full */
    sdw_params_free(&params);
    sdw_job_release(job);
}

static void put_value(struct sdw_text *body, const struct sdw_param_row *row, uint8_t choice)
{
    static const char *const values[] = {"null",
                                         "true",
                                         "\"\"",
                                         "\"x\"",
                                         "-1",
                                         "0",
                                         "1",
                                         "0.5",
                                         "1e999",
                                         "-0",
                                         "[]",
                                         "{}",
                                         "\"\\u0000\"",
                                         "\"\\ud800\"",
                                         "18446744073709551615",
                                         "18446744073709551616",
                                         "\"iVBORw0KGgo=\"",
                                         "\"data:image/png;base64,\"",
                                         "\"data:,\"",
                                         "[[[[[[[[]]]]]]]]",
                                         "{\"a\":{\"b\":1}}"};
    enum { VALUES = sizeof values / sizeof values[0] };
    switch (choice % (VALUES + 6)) {
    case VALUES: sdw_text_printf(body, NULL, "%.17g", row->min); break;
    case VALUES + 1: sdw_text_printf(body, NULL, "%.17g", row->max); break;
    case VALUES + 2: sdw_text_printf(body, NULL, "%.17g", row->min - 1); break;
    case VALUES + 3: sdw_text_printf(body, NULL, "%.17g", row->max + 1); break;
    case VALUES + 4: sdw_text_printf(body, NULL, "\"%0*d\"", (int)choice * 64, 0); break;
    case VALUES + 5:
        sdw_text_printf(body, NULL, "\"%s\"", row->choices[0] ? row->choices[0] : "euler");
        break;
    default: sdw_text_printf(body, NULL, "%s", values[choice % (VALUES + 6)]);
    }
}

static void put_recipe(struct sdw_text *text, const uint8_t *data, size_t size)
{
    struct sdw_text body;
    sdw_text_init(&body, REQUEST_BYTES / 2);
    sdw_text_printf(&body, NULL, "{\"prompt\":\"a\"");
    for (size_t i = 0; i + 1 < size; i += 2) {
        const struct sdw_param_row *row = &sdw_param_rows[data[i] % sdw_param_count];
        sdw_text_printf(&body, NULL, ",\"%s\":", row->name);
        put_value(&body, row, data[i + 1]);
    }
    sdw_text_printf(&body, NULL, "}");
    sdw_text_printf(text, NULL, "POST /v1/jobs HTTP/1.0\r\nContent-Length: %zu\r\n\r\n%s",
                    body.length, body.data);
    sdw_text_free(&body);
}

static void put_bytes(struct sdw_text *text, const uint8_t *data, size_t size)
{
    static const char name[] = "job_x";
    for (size_t i = 0; i < size; i++)
        if (size - i >= sizeof name - 1 && memcmp(data + i, name, sizeof name - 1) == 0) {
            sdw_text_append(text, known_id, strlen(known_id), NULL);
            i += sizeof name - 2;
        } else {
            sdw_text_append(text, (const char *)data + i, 1, NULL);
        }
}

/* Sends, says that this is all, and hears the worker out. */
static void converse(const char *bytes, size_t length, struct sdw_text *answer)
{
    char block[16384];
    ssize_t got;
    struct timeval patience = {.tv_sec = PATIENCE_S};
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_port = htons((uint16_t)sdw_server_port(server))};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    if (connect(fd, (struct sockaddr *)&address, sizeof address) < 0) {
        close(fd); /* no port is left for a moment */
        usleep(100000);
        return;
    }
    while (length > 0 && (got = send(fd, bytes, length, MSG_NOSIGNAL)) > 0) {
        bytes += got;
        length -= (size_t)got;
    }
    shutdown(fd, SHUT_WR);
    do { /* libFuzzer's clock interrupts */
        got = recv(fd, block, sizeof block, 0);
        if (got > 0)
            sdw_text_append(answer, block, (size_t)got, NULL);
    } while (got > 0 || (got < 0 && errno == EINTR));
    FUZZ_CHECK(got == 0 || errno == ECONNRESET); /* it ends */
    close(fd);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char health[] = "GET /health HTTP/1.0\r\n\r\n";
    struct sdw_text sent, answer;
    if (!server)
        open_worker();
    know_a_job();
    sdw_text_init(&sent, REQUEST_BYTES);
    sdw_text_init(&answer, 8 * REQUEST_BYTES);
    if (size > 0 && data[0] == 0)
        put_recipe(&sent, data + 1, size - 1);
    else
        put_bytes(&sent, data, size);
    converse(sent.data ? sent.data : "", sent.length, &answer);
    FUZZ_CHECK(answer.length == 0 || memcmp(answer.data, "HTTP/1.", 7) == 0);
    if (size > 0 && data[0] == 0) /* a body is taken or refused, whatever it holds */
        FUZZ_CHECK(answer.length == 0 || answer.data[9] == '2' || answer.data[9] == '4');
    sdw_text_free(&answer);
    converse(health, sizeof health - 1, &answer);
    FUZZ_CHECK(answer.length == 0 || memcmp(answer.data + 8, " 200", 4) == 0);
    sdw_text_free(&answer);
    sdw_text_free(&sent);
    return 0;
}
