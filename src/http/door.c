/* door.c: who may come in: keys, hosts, and pages of other sites (CORS). */
#include "http/internal.h"

#include <netinet/in.h>
#include <sodium.h>
#include <string.h>
#include <strings.h>

static bool is_loopback(const struct sockaddr *address)
{
    if (address->sa_family == AF_INET)
        return (ntohl(((const struct sockaddr_in *)(const void *)address)->sin_addr.s_addr) >>
                24) == 127;
    if (address->sa_family != AF_INET6)
        return false;
    const struct in6_addr *in6 = &((const struct sockaddr_in6 *)(const void *)address)->sin6_addr;
    return IN6_IS_ADDR_LOOPBACK(in6) || (IN6_IS_ADDR_V4MAPPED(in6) && in6->s6_addr[12] == 127);
}

/* In constant time: both are brought to one length and compared whole. */
static bool key_matches(const char *given, const char *key)
{
    unsigned char a[SDW_HTTP_KEY_BYTES_MAX] = {0}, b[SDW_HTTP_KEY_BYTES_MAX] = {0};
    size_t length = strlen(given);
    if (length >= sizeof a)
        return false;
    memcpy(a, given, length);
    memcpy(b, key, strlen(key)); /* sdw_server_open checked its length */
    return sodium_memcmp(a, b, sizeof a) == 0;
}

/* All keys are compared, so that time does not tell which one was close. */
static bool any_key_matches(const char *given, const char *const *keys)
{
    bool found = false;
    for (; *keys; keys++)
        found |= key_matches(given, *keys);
    return found;
}

static void check_access(struct request *request)
{
    const char *const *keys = request->server->options.api_keys;
    enum access access = request->route ? request->route->access : ACCESS_KEY;
    const char *given = sdw_request_header(request, "Authorization");
    if (keys && access != ACCESS_OPEN) {
        if (!given || strncasecmp(given, "Bearer ", 7) != 0)
            sdw_fail(&request->err, SDW_UNAUTHORIZED,
                     "this worker needs a key: send Authorization: Bearer <key>");
        else if (!any_key_matches(given + 7, keys))
            sdw_fail(&request->err, SDW_UNAUTHORIZED, "the key is not one of this worker's");
    } else if (access == ACCESS_LOCAL) {
        const union MHD_ConnectionInfo *info =
            MHD_get_connection_info(request->connection, MHD_CONNECTION_INFO_CLIENT_ADDRESS);
        if (!info || !is_loopback(info->client_addr))
            sdw_fail(
                &request->err, SDW_FORBIDDEN,
                "only this machine may do that, or who has the key of a worker with --api-key");
    }
}

/* The origin of a page that was named as welcome, or NULL. */
static const char *welcome_origin(const struct request *request)
{
    const char *origin = sdw_request_header(request, "Origin");
    const char *const *known = request->server->options.cors_origins;
    for (; origin && known && *known; known++)
        if (strcmp(*known, "*") == 0 || strcasecmp(*known, origin) == 0)
            return origin;
    return NULL;
}

/* A page of another site can make its visitor's browser post to a worker that only the visitor
 * reaches; the browser says where the page is from. */
static bool is_foreign(const struct request *request)
{
    const char *origin = sdw_request_header(request, "Origin");
    const char *host = sdw_request_header(request, "Host");
    if (!origin || welcome_origin(request))
        return false;
    const char *name = strstr(origin, "://");
    return !host || !name || strcasecmp(name + 3, host) != 0;
}

/* A name that somebody else's name server points at 127.0.0.1 makes that page and the worker one
 * site; so a worker on loopback answers to the names of loopback alone. */
static bool is_misnamed(const struct request *request)
{
    static const char *const names[] = {"localhost", "127.0.0.1", "[::1]"};
    const char *bound = request->server->options.bind_addr;
    const char *host = sdw_request_header(request, "Host");
    if (!host || (strncmp(bound, "127.", 4) != 0 && strcmp(bound, "::1") != 0))
        return false;
    size_t length = *host == '[' ? strcspn(host, "]") + 1 : strcspn(host, ":");
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        if (length == strlen(names[i]) && strncasecmp(host, names[i], length) == 0)
            return false;
    return strlen(bound) != length || strncmp(host, bound, length) != 0;
}

static void check_site(struct request *request)
{
    if (request->err.status || !request->route)
        return;
    if (is_misnamed(request))
        sdw_fail(&request->err, SDW_FORBIDDEN,
                 "this worker listens on %s and answers to that name or localhost, not to %.100s",
                 request->server->options.bind_addr, sdw_request_header(request, "Host"));
    else if (strcmp(request->route->method, "GET") != 0 && is_foreign(request))
        sdw_fail(&request->err, SDW_FORBIDDEN,
                 "pages of other sites may only read, unless --cors-origin names theirs");
}

void sdw_door_check(struct request *request)
{
    check_access(request);
    check_site(request);
}

/* ---- CORS (https://fetch.spec.whatwg.org/#http-cors-protocol) ---- */

void sdw_door_add_headers(const struct request *request, struct MHD_Response *response)
{
    const char *origin = welcome_origin(request);
    if (!origin)
        return;
    MHD_add_response_header(response, "Access-Control-Allow-Origin", origin);
    MHD_add_response_header(response, "Vary", "Origin");
    MHD_add_response_header(response, "Access-Control-Expose-Headers", "Retry-After, X-Request-Id");
}

bool sdw_door_is_preflight(const struct request *request, const char *method)
{
    return strcmp(method, "OPTIONS") == 0 && welcome_origin(request) &&
           sdw_request_header(request, "Access-Control-Request-Method");
}

enum MHD_Result sdw_door_answer_preflight(struct request *request)
{
    struct MHD_Response *response =
        MHD_create_response_from_buffer(0, NULL, MHD_RESPMEM_PERSISTENT);
    if (!response)
        return MHD_NO;
    MHD_add_response_header(response, "Access-Control-Allow-Methods", "GET, POST, DELETE");
    MHD_add_response_header(response, "Access-Control-Allow-Headers",
                            "Authorization, Content-Type, Idempotency-Key, Last-Event-ID");
    MHD_add_response_header(response, "Access-Control-Max-Age", "600");
    return sdw_answer(request, 204, response, "text/plain");
}
