/* server.h: the worker's HTTP surface.
 *
 * The server owns its socket, one thread for all connections and one for the clock of the streams.
 * What it needs from the worker comes in as values and calls; it never sees a tensor. */
#ifndef SDW_HTTP_SERVER_H
#define SDW_HTTP_SERVER_H

#include "base/status.h"
#include "job/job.h"
#include "pipeline/params.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SDW_HTTP_BODY_BYTES_MAX (32u << 20) /* of a request; more is answered 413 */
#define SDW_HTTP_DRAIN_BYTES_MAX                                                                   \
    (64u << 20) /* read and thrown away, so that the answer arrives                                \
                 */
#define SDW_HTTP_CONNECTIONS_MAX 4096
#define SDW_HTTP_IDLE_S          60 /* a connection without a byte either way is closed */
#define SDW_HTTP_HEADER_S        30 /* a request that is not whole by then is closed... */
#define SDW_HTTP_BODY_RENEWS_BYTES                                                                 \
    (256u << 10) /* ...unless its body has brought so much, which gives it the same time again */
#define SDW_HTTP_HEADER_BYTES_MAX (16u << 10) /* request line and headers; more is answered 431 */
#define SDW_HTTP_READERS_MAX      4096        /* of one job's stream; more are answered 429 */
#define SDW_HTTP_KEEP_ALIVE_S     15          /* a comment line on a silent stream */
#define SDW_HTTP_KEY_BYTES_MAX    512
#define SDW_HTTP_PAGE_MAX         100 /* jobs in one answer of the list */

/* What the worker is doing; asked for at every request that depends on it. */
struct sdw_server_state {
    bool ready, stopping;
    char reason[160];                 /* "model loading"; when not ready */
    double progress;                  /* of loading, 0..1; negative when not known */
    uint64_t bytes_done, bytes_total; /* of a download; 0 when there is none */
    double rate_bytes_s, left_s;
    uint64_t heartbeats_heard, heartbeats_failed; /* since the start */
    /* Valid once ready, and from then on. */
    const struct sdw_params_defaults *defaults;
};

struct sdw_server_model {
    const char *id, *aliases, *repository; /* aliases: separated by blanks */
    int size, steps;
    double guidance_scale;
};

struct sdw_server_sampler {
    const char *name, *title, *help;
};

/* Texts and tables live as long as the server. */
struct sdw_server_options {
    const char *bind_addr;           /* numeric, IPv4 or IPv6; NULL: 0.0.0.0 */
    int port;                        /* 0 picks a free one */
    const char *const *api_keys;     /* NULL after the last; NULL: everybody may come in */
    const char *const *cors_origins; /* of pages that may use the worker; "*": of all; likewise */
    const char *tls_cert, *tls_key;  /* PEM; NULL: plain HTTP */
    size_t body_bytes_max;           /* 0: SDW_HTTP_BODY_BYTES_MAX */
    int connections_max;             /* 0: SDW_HTTP_CONNECTIONS_MAX */
    int connections_per_address;     /* 0: no limit of its own */
    int idle_s;                      /* 0: SDW_HTTP_IDLE_S */
    int header_s;                    /* 0: SDW_HTTP_HEADER_S */
    size_t header_bytes_max;         /* 0: SDW_HTTP_HEADER_BYTES_MAX */
    int readers_per_job_max;         /* 0: SDW_HTTP_READERS_MAX */
    int prompt_bytes_max;            /* 0: SDW_PARAMS_TEXT_MAX */
    double keep_alive_s;             /* 0: SDW_HTTP_KEEP_ALIVE_S */

    struct sdw_jobs *jobs; /* outlives the server */
    void *context;
    void (*state)(void *context, struct sdw_server_state *state); /* from the server's thread */
    void (*shutdown)(void *context); /* POST /v1/shutdown: note it and return; NULL: not offered */

    const char *worker_id, *model_id, *device, *version;
    const struct sdw_server_model *models;
    int model_count;
    const struct sdw_server_sampler *samplers;
    int sampler_count;
    const char *const *schedules; /* NULL after the last */
};

struct sdw_server;

/* Binds and answers from then on. "port 8600 is in use: ..." is SDW_IO. */
enum sdw_status sdw_server_open(struct sdw_server **server,
                                const struct sdw_server_options *options, struct sdw_error *err);
int sdw_server_port(const struct sdw_server *server);

/* Takes no new connections, lets the streams send what they have (after sdw_jobs_stop: each its
 * terminal event) for at most timeout_s, and frees. NULL is allowed. */
void sdw_server_close(struct sdw_server *server, double timeout_s);

#endif
