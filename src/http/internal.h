/* internal.h: what the files of this room share. Handlers run on the server's one thread. */
#ifndef SDW_HTTP_INTERNAL_H
#define SDW_HTTP_INTERNAL_H

#include "http/server.h"

#include "base/json.h"
#include "base/text.h"

#include <microhttpd.h>
#include <pthread.h>
#include <stdatomic.h>

#define ANSWER_BYTES_MAX (32u << 20) /* of a JSON answer; a page of the list is the largest */

struct request;
struct stream;
struct visitor;

/* Who may call a route when no key is set; with a key, everybody but `OPEN` needs it. */
enum access { ACCESS_OPEN, ACCESS_KEY, ACCESS_LOCAL };

struct route {
    const char *method, *pattern; /* "{id}" stands for one segment */
    enum access access;
    enum MHD_Result (*handler)(struct request *request);
    const char *help;
};

extern const struct route sdw_routes[]; /* routes.c: THE table */
extern const int sdw_route_count;
#define ROUTES_MAX       32
#define REQUEST_NAME_MAX 64

struct request {
    struct sdw_server *server;
    struct MHD_Connection *connection;
    const struct route *route;   /* NULL: there is none */
    char id[64];                 /* what stood for {id} */
    char name[REQUEST_NAME_MAX]; /* X-Request-Id: the client's own, or ours */
    struct sdw_text body;
    size_t drained;       /* bytes of the body that were thrown away */
    struct sdw_error err; /* status not SDW_OK: the answer that is already known */
    char allow[64];       /* the methods of a known path, for 405 */
};

struct sdw_server {
    struct sdw_server_options options;
    struct MHD_Daemon *daemon;
    int port;
    atomic_bool closing;
    int64_t opened_ms;
    uint32_t mark;                        /* of this process, in the names of its requests */
    uint64_t named;                       /* requests */
    uint64_t answered[ROUTES_MAX + 1][6]; /* by route (the last: none) and status / 100 */

    pthread_t ticker;
    pthread_mutex_t lock; /* of streams and visitors; taken before the jobs' own */
    pthread_cond_t tick;
    struct stream *streams;
    int stream_count;
    struct visitor *visitors;
};

/* routes.c. Finds the route, or notes in request->err why there is none. */
void sdw_route_find(struct request *request, const char *method, const char *url);

/* door.c: notes in request->err why it may not come in. */
void sdw_door_check(struct request *request);
/* What lets pages of welcome origins read an answer. */
void sdw_door_add_headers(const struct request *request, struct MHD_Response *response);
/* A browser asks whether such a page may send; answered without a key, which it does not send. */
bool sdw_door_is_preflight(const struct request *request, const char *method);
enum MHD_Result sdw_door_answer_preflight(struct request *request);

/* visitors.c: who takes too long to ask is closed. libmicrohttpd tells who comes and goes. */
void sdw_visitors_notify(void *server, struct MHD_Connection *connection, void **slot,
                         enum MHD_ConnectionNotificationCode code);
void sdw_visitor_brings(const struct request *request, size_t bytes); /* of a body */
void sdw_visitor_asked(const struct request *request); /* the request is whole, or refused */
void sdw_visitor_stays(const struct request *request); /* it may ask again */
void sdw_visitors_tick(struct sdw_server *server);     /* with the lock held */

/* answer.c. Every answer is counted by route and status. */
enum MHD_Result sdw_answer(struct request *request, int http, struct MHD_Response *response,
                           const char *content_type);
/* Begins a JSON object; sdw_answer_json closes it and sends it. */
void sdw_answer_begin(struct sdw_json *json, struct sdw_text *text);
enum MHD_Result sdw_answer_json(struct request *request, int http, struct sdw_json *json);
/* {"error":{"code":...,"message":...}} with the status that belongs to err->status. */
enum MHD_Result sdw_answer_error(struct request *request, const struct sdw_error *err);
/* retry_s > 0 adds Retry-After. */
enum MHD_Result sdw_answer_retry(struct request *request, const struct sdw_error *err, int retry_s);

const char *sdw_request_header(const struct request *request, const char *name); /* or NULL */
const char *sdw_request_query(const struct request *request, const char *name);  /* or NULL */
void sdw_server_state(const struct request *request, struct sdw_server_state *state);

/* Handlers: jobs.c */
enum MHD_Result sdw_handle_submit(struct request *request);
enum MHD_Result sdw_handle_list(struct request *request);
enum MHD_Result sdw_handle_job(struct request *request);
enum MHD_Result sdw_handle_image(struct request *request);
enum MHD_Result sdw_handle_cancel(struct request *request);
/* stream.c */
enum MHD_Result sdw_handle_stream(struct request *request);
void *sdw_streams_tick(void *server); /* the thread of keep-alive comments and of patience */
void sdw_streams_nudge(struct sdw_server *server); /* wakes every stream that waits */
/* info.c */
enum MHD_Result sdw_handle_root(struct request *request);
enum MHD_Result sdw_handle_health(struct request *request);
enum MHD_Result sdw_handle_ready(struct request *request);
enum MHD_Result sdw_handle_info(struct request *request);
enum MHD_Result sdw_handle_models(struct request *request);
enum MHD_Result sdw_handle_samplers(struct request *request);
enum MHD_Result sdw_handle_shutdown(struct request *request);
/* metrics.c */
enum MHD_Result sdw_handle_metrics(struct request *request);
/* openapi.c */
enum MHD_Result sdw_handle_openapi(struct request *request);

/* The web page, from web/index.html at build time. */
extern const unsigned char sdw_page[];
extern const size_t sdw_page_length;

#endif
