/* answer.c: how answers are made, so that all of them look alike. */
#include "http/internal.h"

#include "base/log.h"

#include <stdio.h>
#include <stdlib.h>

enum MHD_Result sdw_answer(struct request *request, int http, struct MHD_Response *response,
                           const char *content_type)
{
    if (!response)
        return MHD_NO; /* no memory: the connection is closed */
    struct sdw_server *server = request->server;
    sdw_visitor_asked(request); /* also one that is refused before it is whole */
    long route = request->route ? request->route - sdw_routes : ROUTES_MAX;
    server->answered[route][http / 100]++;
    MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE, content_type);
    MHD_add_response_header(response, "X-Content-Type-Options", "nosniff");
    MHD_add_response_header(response, "X-Request-Id", request->name);
    sdw_door_add_headers(request, response);
    sdw_log_debug("http: %s %s: %d", request->route ? request->route->method : "no route",
                  request->route ? request->route->pattern : "", http);
    enum MHD_Result queued = MHD_queue_response(request->connection, (unsigned int)http, response);
    MHD_destroy_response(response); /* MHD holds its own reference */
    return queued;
}

void sdw_answer_begin(struct sdw_json *json, struct sdw_text *text)
{
    sdw_text_init(text, ANSWER_BYTES_MAX);
    sdw_json_init(json, text);
    sdw_json_open(json, NULL, '{');
}

/* The finished object as a response that owns its text; NULL when there is no memory. */
static struct MHD_Response *json_response(struct sdw_json *json)
{
    sdw_json_close(json, '}');
    struct MHD_Response *response = NULL;
    if (!json->status)
        response = MHD_create_response_from_buffer(json->text->length, json->text->data,
                                                   MHD_RESPMEM_MUST_FREE);
    if (!response)
        sdw_text_free(json->text);
    return response;
}

enum MHD_Result sdw_answer_json(struct request *request, int http, struct sdw_json *json)
{
    return sdw_answer(request, http, json_response(json), "application/json");
}

enum MHD_Result sdw_answer_retry(struct request *request, const struct sdw_error *err, int retry_s)
{
    struct sdw_text text;
    struct sdw_json json;
    sdw_answer_begin(&json, &text);
    sdw_json_open(&json, "error", '{');
    sdw_json_string(&json, "code", sdw_status_code(err->status));
    sdw_json_string(&json, "message", err->message);
    sdw_json_close(&json, '}');
    struct MHD_Response *response = json_response(&json);
    if (response && retry_s > 0) {
        char seconds[16];
        snprintf(seconds, sizeof seconds, "%d", retry_s);
        MHD_add_response_header(response, MHD_HTTP_HEADER_RETRY_AFTER, seconds);
    }
    if (response && err->status == SDW_METHOD)
        MHD_add_response_header(response, MHD_HTTP_HEADER_ALLOW, request->allow);
    if (response && err->status == SDW_UNAUTHORIZED)
        MHD_add_response_header(response, MHD_HTTP_HEADER_WWW_AUTHENTICATE, "Bearer");
    return sdw_answer(request, sdw_status_http(err->status), response, "application/json");
}

enum MHD_Result sdw_answer_error(struct request *request, const struct sdw_error *err)
{
    return sdw_answer_retry(request, err, 0);
}

const char *sdw_request_header(const struct request *request, const char *name)
{
    return MHD_lookup_connection_value(request->connection, MHD_HEADER_KIND, name);
}

const char *sdw_request_query(const struct request *request, const char *name)
{
    return MHD_lookup_connection_value(request->connection, MHD_GET_ARGUMENT_KIND, name);
}

void sdw_server_state(const struct request *request, struct sdw_server_state *state)
{
    *state = (struct sdw_server_state){.progress = -1};
    request->server->options.state(request->server->options.context, state);
    if (atomic_load(&request->server->closing))
        state->stopping = true;
}
