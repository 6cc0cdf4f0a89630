/* server.c: the socket, the life of a request, the life of the server.
 *
 * A request is known by its headers before its body arrives, but answered only after: libmicrohttpd
 * closes the connection on an early answer, and a client that is still sending would see a reset
 * instead of the sentence. What is not wanted is read and thrown away, up to a limit. */
#include "http/internal.h"

#include "base/clock.h"
#include "base/log.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <netdb.h>
#include <netinet/in.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#define SPARE_FILES      64 /* descriptors beside the connections */
#define BACKLOG          1024
#define CONNECTION_BYTES ((size_t)32 << 10) /* that libmicrohttpd has for each, at least */

static void check_head(struct request *request)
{
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(request->connection, MHD_CONNECTION_INFO_REQUEST_HEADER_SIZE);
    size_t limit = request->server->options.header_bytes_max;
    if (info && info->header_size > limit)
        sdw_fail(&request->err, SDW_HEADERS, "the headers have %zu bytes, more than %zu, the limit",
                 info->header_size, limit);
}

/* By this name a request is found in the log. A proxy's is kept where it is a plain word. */
static void name_request(struct request *request)
{
    const char *given = sdw_request_header(request, "X-Request-Id");
    size_t length = given ? strlen(given) : 0;
    if (length > 0 && length < sizeof request->name &&
        strspn(given, "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz-_.") ==
            length)
        strcpy(request->name, given);
    else
        snprintf(request->name, sizeof request->name, "%08" PRIx32 "-%" PRIu64,
                 request->server->mark, ++request->server->named);
}

static struct request *begin(struct sdw_server *server, struct MHD_Connection *connection,
                             const char *method, const char *url)
{
    struct request *request = calloc(1, sizeof *request);
    if (!request)
        return NULL;
    request->server = server;
    request->connection = connection;
    sdw_text_init(&request->body, server->options.body_bytes_max);
    name_request(request);
    sdw_route_find(request, method, url);
    sdw_door_check(request);
    check_head(request);
    return request;
}

/* Takes a piece of the body, or throws it away when the answer is known already. */
static bool take_body(struct request *request, const char *bytes, size_t length)
{
    if (!request->err.status &&
        sdw_text_append(&request->body, bytes, length, &request->err) == SDW_TOO_LARGE)
        sdw_fail(&request->err, SDW_TOO_LARGE, "the body is larger than %zu bytes, the limit",
                 request->body.bytes_max);
    if (!request->err.status)
        return true;
    sdw_text_free(&request->body);
    request->drained += length;
    return request->drained <= SDW_HTTP_DRAIN_BYTES_MAX;
}

/* A body that says beforehand that it is beyond patience is answered at once. */
static bool hopeless(const struct request *request)
{
    const char *length = sdw_request_header(request, "Content-Length");
    return length && strtoull(length, NULL, 10) > SDW_HTTP_DRAIN_BYTES_MAX;
}

static enum MHD_Result on_request(void *context, struct MHD_Connection *connection, const char *url,
                                  const char *method, const char *version, const char *bytes,
                                  size_t *length, void **slot)
{
    (void)version;
    struct request *request = *slot;
    if (!request) {
        request = *slot = begin(context, connection, method, url);
        if (request && sdw_door_is_preflight(request, method))
            return sdw_door_answer_preflight(request);
        if (request && hopeless(request)) {
            sdw_fail(&request->err, SDW_TOO_LARGE, "the body is larger than %zu bytes, the limit",
                     request->body.bytes_max);
            return sdw_answer_error(request, &request->err);
        }
        return request ? MHD_YES : MHD_NO;
    }
    if (*length > 0) {
        bool taken = take_body(request, bytes, *length);
        sdw_visitor_brings(request, *length);
        *length = 0;
        return taken ? MHD_YES : MHD_NO;
    }
    sdw_visitor_asked(request);
    sdw_log_request_set(request->name);
    enum MHD_Result result = request->err.status ? sdw_answer_error(request, &request->err)
                                                 : request->route->handler(request);
    sdw_log_request_set(NULL);
    return result;
}

static void on_completed(void *context, struct MHD_Connection *connection, void **slot,
                         enum MHD_RequestTerminationCode code)
{
    (void)context, (void)connection, (void)code;
    struct request *request = *slot;
    if (!request)
        return;
    sdw_visitor_stays(request);
    sdw_text_free(&request->body);
    free(request);
    *slot = NULL;
}

static void on_log(void *context, const char *format, va_list args)
    __attribute__((format(printf, 2, 0)));
static void on_log(void *context, const char *format, va_list args)
{
    (void)context;
    char line[512];
    vsnprintf(line, sizeof line, format, args);
    line[strcspn(line, "\n")] = 0;
    sdw_log_debug("http: %s", line);
}

static enum sdw_status bind_socket(int *fd, const char *address, int port, struct sdw_error *err)
{
    char service[8];
    struct addrinfo hints = {.ai_flags = AI_NUMERICHOST | AI_NUMERICSERV | AI_PASSIVE,
                             .ai_socktype = SOCK_STREAM},
                    *found;
    snprintf(service, sizeof service, "%d", port);
    int fault = getaddrinfo(address, service, &hints, &found);
    if (fault)
        return sdw_fail(err, SDW_USAGE, "cannot listen on \"%s\": %s; give an IPv4 or IPv6 address",
                        address, gai_strerror(fault));
    int on = 1, off = 0;
    *fd = socket(found->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    setsockopt(*fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (found->ai_family == AF_INET6) /* "::" takes IPv4 too */
        setsockopt(*fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof off);
    enum sdw_status status = SDW_OK;
    if (*fd < 0)
        status = sdw_fail_errno(err, "cannot open a socket");
    else if (bind(*fd, found->ai_addr, found->ai_addrlen) < 0 || listen(*fd, BACKLOG) < 0)
        status = errno == EADDRINUSE
                     ? sdw_fail(err, SDW_IO,
                                "port %d is in use: another program listens on %s; choose one "
                                "with --port, or --port 0 for any free one",
                                port, address)
                     : sdw_fail_errno(err, "cannot listen on %s port %d", address, port);
    freeaddrinfo(found);
    if (status && *fd >= 0)
        close(*fd);
    return status;
}

static int bound_port(int fd)
{
    struct sockaddr_storage address;
    socklen_t length = sizeof address;
    memset(&address, 0, sizeof address);
    if (getsockname(fd, (struct sockaddr *)&address, &length) < 0)
        return 0;
    return ntohs(address.ss_family == AF_INET6 ? ((struct sockaddr_in6 *)&address)->sin6_port
                                               : ((struct sockaddr_in *)&address)->sin_port);
}

/* Many readers are many descriptors; the usual soft limit is 1024. */
static void allow_files(int connections)
{
    struct rlimit limit;
    rlim_t wanted = (rlim_t)connections + SPARE_FILES;
    if (getrlimit(RLIMIT_NOFILE, &limit) < 0 || limit.rlim_cur >= wanted)
        return;
    limit.rlim_cur = limit.rlim_max < wanted ? limit.rlim_max : wanted;
    setrlimit(RLIMIT_NOFILE, &limit);
}

static enum sdw_status start_threads(struct sdw_server *server, int fd, struct sdw_error *err)
{
    unsigned flags =
        MHD_USE_EPOLL_INTERNAL_THREAD | MHD_ALLOW_SUSPEND_RESUME | MHD_USE_ITC | MHD_USE_ERROR_LOG;
    bool encrypted = server->options.tls_cert != NULL;
    size_t memory = 2 * server->options.header_bytes_max; /* of a connection: besides the headers
                                                             their list, and the answer's */
    if (memory < CONNECTION_BYTES)
        memory = CONNECTION_BYTES;
    struct MHD_OptionItem tls[3] = {{MHD_OPTION_END, 0, NULL}};
    if (encrypted) {
        flags |= MHD_USE_TLS;
        tls[0] = (struct MHD_OptionItem){MHD_OPTION_HTTPS_MEM_CERT, 0,
                                         (void *)(uintptr_t)server->options.tls_cert};
        tls[1] = (struct MHD_OptionItem){MHD_OPTION_HTTPS_MEM_KEY, 0,
                                         (void *)(uintptr_t)server->options.tls_key};
        tls[2] = (struct MHD_OptionItem){MHD_OPTION_END, 0, NULL};
    }
    server->daemon = MHD_start_daemon(
        flags, (uint16_t)server->port, NULL, NULL, on_request, server, /* the options: */
        MHD_OPTION_EXTERNAL_LOGGER, on_log, NULL, MHD_OPTION_LISTEN_SOCKET, fd,
        MHD_OPTION_NOTIFY_COMPLETED, on_completed, NULL, MHD_OPTION_CONNECTION_LIMIT,
        (unsigned)server->options.connections_max, MHD_OPTION_PER_IP_CONNECTION_LIMIT,
        (unsigned)server->options.connections_per_address, MHD_OPTION_CONNECTION_TIMEOUT,
        (unsigned)server->options.idle_s, MHD_OPTION_NOTIFY_CONNECTION, sdw_visitors_notify, server,
        MHD_OPTION_CONNECTION_MEMORY_LIMIT, memory, MHD_OPTION_ARRAY, tls, MHD_OPTION_END);
    if (!server->daemon)
        return sdw_fail(err, encrypted ? SDW_USAGE : SDW_INTERNAL,
                        "cannot start the HTTP server on port %d%s", server->port,
                        encrypted ? ": --tls-cert and --tls-key must hold a certificate in PEM and "
                                    "the key that belongs to it"
                                  : "");
    if (pthread_create(&server->ticker, NULL, sdw_streams_tick, server) != 0) {
        MHD_stop_daemon(server->daemon);
        return sdw_fail(err, SDW_INTERNAL, "the system gives no thread for the event streams");
    }
    return SDW_OK;
}

static void set_defaults(struct sdw_server_options *options)
{
    if (!options->bind_addr)
        options->bind_addr = "0.0.0.0";
    if (options->body_bytes_max == 0)
        options->body_bytes_max = SDW_HTTP_BODY_BYTES_MAX;
    if (options->connections_max == 0)
        options->connections_max = SDW_HTTP_CONNECTIONS_MAX;
    if (options->idle_s == 0)
        options->idle_s = SDW_HTTP_IDLE_S;
    if (options->header_s == 0)
        options->header_s = SDW_HTTP_HEADER_S;
    if (options->header_bytes_max == 0)
        options->header_bytes_max = SDW_HTTP_HEADER_BYTES_MAX;
    if (options->readers_per_job_max == 0)
        options->readers_per_job_max = SDW_HTTP_READERS_MAX;
    if (options->prompt_bytes_max == 0)
        options->prompt_bytes_max = SDW_PARAMS_TEXT_MAX;
    if (options->keep_alive_s <= 0)
        options->keep_alive_s = SDW_HTTP_KEEP_ALIVE_S;
}

enum sdw_status sdw_server_open(struct sdw_server **out, const struct sdw_server_options *options,
                                struct sdw_error *err)
{
    assert(options->jobs && options->state);
    for (const char *const *key = options->api_keys; key && *key; key++)
        if (!**key || strlen(*key) >= SDW_HTTP_KEY_BYTES_MAX)
            return sdw_fail(err, SDW_USAGE, "an API key must have 1 to %d bytes",
                            SDW_HTTP_KEY_BYTES_MAX - 1);
    struct sdw_server *server = calloc(1, sizeof *server);
    if (!server)
        return sdw_fail(err, SDW_MEMORY, "no memory for the HTTP server");
    server->options = *options;
    set_defaults(&server->options);
    server->opened_ms = sdw_clock_unix_ms();
    server->mark = randombytes_random();
    atomic_init(&server->closing, false);
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_mutex_init(&server->lock, NULL);
    pthread_cond_init(&server->tick, &attributes);
    pthread_condattr_destroy(&attributes);
    allow_files(server->options.connections_max);

    int fd = -1;
    enum sdw_status status = bind_socket(&fd, server->options.bind_addr, server->options.port, err);
    if (!status) {
        server->port = bound_port(fd);
        status = start_threads(server, fd, err);
        if (status)
            close(fd);
    }
    if (status) {
        free(server);
        return status;
    }
    *out = server;
    return SDW_OK;
}

int sdw_server_port(const struct sdw_server *server)
{
    return server->port;
}

/* Every stream ends by itself once it has sent what it has; a stalled one does not. */
static void wait_for_streams(struct sdw_server *server, double timeout_s)
{
    double end_s = sdw_clock_seconds() + timeout_s;
    for (int count = 1; count > 0 && sdw_clock_seconds() < end_s;) {
        sdw_streams_nudge(server);
        pthread_mutex_lock(&server->lock);
        count = server->stream_count;
        pthread_mutex_unlock(&server->lock);
        if (count > 0)
            usleep(2000);
    }
}

void sdw_server_close(struct sdw_server *server, double timeout_s)
{
    if (!server)
        return;
    MHD_socket listener = MHD_quiesce_daemon(server->daemon);
    pthread_mutex_lock(&server->lock);
    atomic_store(&server->closing, true);
    pthread_cond_signal(&server->tick);
    pthread_mutex_unlock(&server->lock);
    pthread_join(server->ticker, NULL);
    sdw_streams_nudge(server); /* after this nothing sleeps, whatever the time allows */
    wait_for_streams(server, timeout_s);
    MHD_stop_daemon(server->daemon);
    if (listener != MHD_INVALID_SOCKET)
        close(listener);
    pthread_cond_destroy(&server->tick);
    pthread_mutex_destroy(&server->lock);
    free(server);
}
