/* visitors.c: connections, and how long they may take to ask.
 *
 * libmicrohttpd's own timeout begins anew with every byte, so a client that drips one byte a second
 * keeps its connection for as long as it likes (slow loris). Here a request has a time by which it
 * must be whole, TLS included. A long body over a slow line is no attack: whatever brings
 * SDW_HTTP_BODY_RENEWS_BYTES gets the same time again. */
#include "http/internal.h"

#include "base/clock.h"
#include "base/log.h"

#include <math.h>
#include <stdlib.h>
#include <sys/socket.h>

struct visitor {
    MHD_socket fd;
    double until_s; /* INFINITY while it is being answered */
    size_t brought; /* of the body, since the time began anew */
    bool silent;    /* at the last tick it had nothing more to say, and nothing came since */
    struct visitor *next, **place;
};

static double now_and(double seconds)
{
    return sdw_clock_seconds() + seconds;
}

static void *arrive(struct sdw_server *server, struct MHD_Connection *connection)
{
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CONNECTION_FD);
    struct visitor *visitor = calloc(1, sizeof *visitor);
    if (!visitor || !info) { /* it has the idle timeout alone */
        free(visitor);
        return NULL;
    }
    visitor->fd = info->connect_fd;
    visitor->until_s = now_and(server->options.header_s);
    pthread_mutex_lock(&server->lock);
    visitor->next = server->visitors;
    visitor->place = &server->visitors;
    if (visitor->next)
        visitor->next->place = &visitor->next;
    server->visitors = visitor;
    pthread_mutex_unlock(&server->lock);
    return visitor;
}

static void leave(struct sdw_server *server, struct visitor *visitor)
{
    pthread_mutex_lock(&server->lock);
    *visitor->place = visitor->next;
    if (visitor->next)
        visitor->next->place = visitor->place;
    pthread_mutex_unlock(&server->lock);
    free(visitor);
}

void sdw_visitors_notify(void *context, struct MHD_Connection *connection, void **slot,
                         enum MHD_ConnectionNotificationCode code)
{
    if (code == MHD_CONNECTION_NOTIFY_STARTED)
        *slot = arrive(context, connection);
    else if (*slot) /* its socket is closed after this */
        leave(context, *slot);
}

static struct visitor *visitor_of(struct MHD_Connection *connection)
{
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(connection, MHD_CONNECTION_INFO_SOCKET_CONTEXT);
    return info ? info->socket_context : NULL;
}

static void set_until(const struct request *request, double until_s)
{
    struct visitor *visitor = visitor_of(request->connection);
    if (!visitor)
        return;
    pthread_mutex_lock(&request->server->lock);
    visitor->until_s = until_s;
    visitor->brought = 0;
    visitor->silent = false;
    pthread_mutex_unlock(&request->server->lock);
}

void sdw_visitor_brings(const struct request *request, size_t bytes)
{
    struct visitor *visitor = visitor_of(request->connection);
    if (!visitor)
        return;
    pthread_mutex_lock(&request->server->lock);
    visitor->silent = false;
    visitor->brought += bytes;
    if (visitor->brought >= SDW_HTTP_BODY_RENEWS_BYTES) {
        visitor->brought = 0;
        visitor->until_s = now_and(request->server->options.header_s);
    }
    pthread_mutex_unlock(&request->server->lock);
}

void sdw_visitor_asked(const struct request *request)
{
    set_until(request, INFINITY);
}

void sdw_visitor_stays(const struct request *request)
{
    const struct sdw_server_options *options = &request->server->options;
    set_until(request, now_and(options->idle_s + options->header_s));
}

/* A client that closed its side without a whole request waits for our end; libmicrohttpd, when it
 * reads the last bytes and the end at once, does not look again. Only at the second tick, because
 * what was read may still be on its way to us. */
static bool has_finished(struct visitor *visitor)
{
    char byte;
    bool before = visitor->silent;
    visitor->silent = recv(visitor->fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) == 0;
    return before && visitor->silent;
}

void sdw_visitors_tick(struct sdw_server *server)
{
    double now_s = sdw_clock_seconds();
    for (struct visitor *visitor = server->visitors; visitor; visitor = visitor->next) {
        bool late = visitor->until_s <= now_s;
        if (visitor->until_s == INFINITY || (!late && !has_finished(visitor)))
            continue;
        if (late)
            sdw_log_debug("http: a connection took too long to ask, and is closed");
        shutdown(visitor->fd, SHUT_RDWR); /* libmicrohttpd reads the end, and does the rest */
        visitor->until_s = INFINITY;
    }
}
