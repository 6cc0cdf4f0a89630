/* client.h: the smallest HTTP client, on raw sockets, and a worker with a painter behind it. */
#ifndef CLIENT_H
#define CLIENT_H

#include "http/server.h"
#include "painter.h"

#include "base/text.h"

#include <stdbool.h>

struct worker {
    struct painter painter;
    struct sdw_jobs *jobs;
    struct sdw_server *server;
    struct sdw_params_defaults defaults;
    atomic_bool loading, shutdown_asked;
    int port;
};

/* options: NULL, or limits and a key; the rest is filled in. */
struct worker *worker_open(const struct sdw_server_options *options, int queue_max);
void worker_close(struct worker *worker);
/* What the server asks a worker; context: the struct worker. */
void worker_state(void *context, struct sdw_server_state *state);

struct reply {
    int status;
    struct sdw_text head, body; /* chunks of the body are put together */
};

int client_connect(int port);
void client_send(int fd, const void *bytes, size_t length);
/* Reads until the server closes. */
void client_receive(int fd, struct reply *reply);
void reply_free(struct reply *reply);
bool reply_has_header(const struct reply *reply, const char *line); /* "Allow: GET" */

/* One request on a connection of its own; headers: lines that end in \r\n, or "". */
void client_ask(struct worker *worker, struct reply *reply, const char *method, const char *path,
                const char *headers, const char *body);
/* POST /v1/jobs; asserts 200 and copies the id. */
void client_submit(struct worker *worker, char *id, const char *body);
/* Asserts that the status is `http` and the body's error code is `code`. */
void client_refused(struct worker *worker, const char *method, const char *path,
                    const char *headers, const char *body, int http, const char *code);

#endif
