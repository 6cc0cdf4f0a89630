/* routes.c: the table of routes. A new route is one row here and one handler. */
#include "http/internal.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

/* clang-format off */
const struct route sdw_routes[] = {
    {"GET", "/", ACCESS_KEY, sdw_handle_root, "the web page for a browser, one line of JSON else"},
    {"GET", "/health", ACCESS_OPEN, sdw_handle_health, "the process is alive"},
    {"GET", "/ready", ACCESS_OPEN, sdw_handle_ready, "whether jobs are taken, or why not"},
    {"GET", "/info", ACCESS_KEY, sdw_handle_info, "the worker and what it can"},
    {"GET", "/metrics", ACCESS_KEY, sdw_handle_metrics, "counters as Prometheus text"},
    {"GET", "/openapi.json", ACCESS_KEY, sdw_handle_openapi, "this surface, described for programs"},
    {"GET", "/v1/models", ACCESS_KEY, sdw_handle_models, "the models that have a name"},
    {"GET", "/v1/samplers", ACCESS_KEY, sdw_handle_samplers, "the samplers and schedules"},
    {"POST", "/v1/jobs", ACCESS_KEY, sdw_handle_submit, "asks for an image"},
    {"GET", "/v1/jobs", ACCESS_KEY, sdw_handle_list, "the jobs, newest first; ?offset= and ?limit="},
    {"GET", "/v1/jobs/{id}", ACCESS_KEY, sdw_handle_job, "state, position, steps, time left, timings, error"},
    {"GET", "/v1/jobs/{id}/stream", ACCESS_KEY, sdw_handle_stream, "the events, from the first on; ?events=named"},
    {"GET", "/v1/jobs/{id}/image", ACCESS_KEY, sdw_handle_image, "the PNG"},
    {"DELETE", "/v1/jobs/{id}", ACCESS_KEY, sdw_handle_cancel, "cancels; takes effect at the next step"},
    {"POST", "/v1/shutdown", ACCESS_LOCAL, sdw_handle_shutdown, "stops the worker"},
};
/* clang-format on */
const int sdw_route_count = sizeof sdw_routes / sizeof sdw_routes[0];
static_assert(sizeof sdw_routes / sizeof sdw_routes[0] <= ROUTES_MAX, "more routes than counters");

/* True when `url` is what `pattern` describes; what stands for {id} goes to id[size]. */
static bool matches(const char *pattern, const char *url, char *id, size_t size)
{
    while (*pattern) {
        if (*pattern == '{') {
            size_t length = strcspn(url, "/");
            if (length == 0 || length >= size)
                return false;
            snprintf(id, size, "%.*s", (int)length, url);
            url += length;
            pattern += strcspn(pattern, "}") + 1;
        } else if (*pattern++ != *url++) {
            return false;
        }
    }
    return *url == 0;
}

void sdw_route_find(struct request *request, const char *method, const char *url)
{
    const char *wanted = strcmp(method, "HEAD") == 0 ? "GET" : method;
    for (int i = 0; i < sdw_route_count; i++) {
        const struct route *route = &sdw_routes[i];
        if (!matches(route->pattern, url, request->id, sizeof request->id))
            continue;
        if (strcmp(route->method, wanted) == 0) {
            request->route = route;
            return;
        }
        size_t length = strlen(request->allow);
        snprintf(request->allow + length, sizeof request->allow - length, "%s%s",
                 length ? ", " : "", route->method);
    }
    if (request->allow[0])
        sdw_fail(&request->err, SDW_METHOD, "%.16s is not possible on %.200s; %s is", method, url,
                 request->allow);
    else
        sdw_fail(&request->err, SDW_NOT_FOUND,
                 "there is no route %.200s; GET /openapi.json lists them", url);
}
