/* info.c: what the worker is and how it does. */
#include "http/internal.h"

#include "base/clock.h"

#include <string.h>

static void put_timestamp(struct sdw_json *json)
{
    char timestamp[SDW_TIMESTAMP_MAX];
    sdw_clock_timestamp(timestamp);
    sdw_json_string(json, "timestamp", timestamp);
}

static const char *status_word(const struct request *request)
{
    struct sdw_server_state state;
    struct sdw_jobs_counts counts;
    sdw_server_state(request, &state);
    sdw_jobs_count(request->server->options.jobs, &counts);
    return state.stopping   ? "stopping"
           : !state.ready   ? "starting"
           : counts.running ? "busy"
                            : "ready";
}

/* The worker object of the heartbeat. */
static void put_worker(struct sdw_json *json, const struct request *request)
{
    const struct sdw_server_options *options = &request->server->options;
    sdw_json_string(json, "id", options->worker_id);
    sdw_json_string(json, "model_id", options->model_id);
    sdw_json_string(json, "device", options->device);
    sdw_json_integer(json, "port", request->server->port);
    sdw_json_string(json, "status", status_word(request));
    sdw_json_string(json, "implementation", "sd-worker");
    sdw_json_string(json, "version", options->version);
}

static enum MHD_Result answer_page(struct request *request)
{
    struct MHD_Response *response = MHD_create_response_from_buffer(
        sdw_page_length, (void *)(uintptr_t)sdw_page, MHD_RESPMEM_PERSISTENT);
    if (!response)
        return MHD_NO;
    MHD_add_response_header(response, "Content-Security-Policy",
                            "default-src 'none'; style-src 'unsafe-inline'; script-src "
                            "'unsafe-inline'; img-src data: blob: 'self'; connect-src 'self'; "
                            "frame-ancestors 'none'");
    return sdw_answer(request, 200, response, "text/html; charset=utf-8");
}

enum MHD_Result sdw_handle_root(struct request *request)
{
    const char *accept = sdw_request_header(request, "Accept");
    if (accept && strstr(accept, "text/html"))
        return answer_page(request);
    struct sdw_text text;
    struct sdw_json json;
    sdw_answer_begin(&json, &text);
    put_worker(&json, request);
    return sdw_answer_json(request, 200, &json);
}

enum MHD_Result sdw_handle_health(struct request *request)
{
    struct sdw_text text;
    struct sdw_json json;
    sdw_answer_begin(&json, &text);
    sdw_json_string(&json, "status", "healthy");
    put_timestamp(&json);
    return sdw_answer_json(request, 200, &json);
}

enum MHD_Result sdw_handle_ready(struct request *request)
{
    struct sdw_server_state state;
    struct sdw_text text;
    struct sdw_json json;
    sdw_server_state(request, &state);
    bool ready = state.ready && !state.stopping;
    sdw_answer_begin(&json, &text);
    sdw_json_flag(&json, "ready", ready);
    if (!ready)
        sdw_json_string(&json, "reason", state.stopping ? "stopping" : state.reason);
    put_timestamp(&json);
    if (!ready && state.progress >= 0)
        sdw_json_real(&json, "progress", state.progress, 3);
    if (!ready && state.bytes_total) {
        sdw_json_open(&json, "download", '{');
        sdw_json_unsigned(&json, "bytes", state.bytes_done);
        sdw_json_unsigned(&json, "total_bytes", state.bytes_total);
        sdw_json_real(&json, "bytes_per_s", state.rate_bytes_s, 0);
        sdw_json_real(&json, "left_s", state.left_s, 0);
        sdw_json_close(&json, '}');
    }
    return sdw_answer_json(request, ready ? 200 : 503, &json);
}

static void put_defaults(struct sdw_json *json, const struct sdw_params_defaults *defaults)
{
    sdw_json_open(json, "defaults", '{');
    sdw_json_integer(json, "steps", defaults->steps);
    sdw_json_real(json, "guidance_scale", defaults->guidance_scale, 2);
    sdw_json_integer(json, "width", defaults->width);
    sdw_json_integer(json, "height", defaults->height);
    sdw_json_string(json, "sampler", defaults->sampler);
    sdw_json_close(json, '}');
    sdw_json_integer(json, "multiple_of", defaults->multiple);
}

enum MHD_Result sdw_handle_info(struct request *request)
{
    const struct sdw_server_options *options = &request->server->options;
    struct sdw_server_state state;
    struct sdw_jobs_counts counts;
    struct sdw_text text;
    struct sdw_json json;
    sdw_server_state(request, &state);
    sdw_jobs_count(options->jobs, &counts);
    sdw_answer_begin(&json, &text);
    put_worker(&json, request);
    sdw_json_real(&json, "uptime_s",
                  (double)(sdw_clock_unix_ms() - request->server->opened_ms) / 1e3, 0);
    sdw_json_open(&json, "capabilities", '{');
    const struct sdw_param_row *operation = sdw_params_row("operation");
    sdw_json_open(&json, "operations", '[');
    for (int i = 0; i < SDW_PARAM_NAMES_MAX && operation->choices[i]; i++)
        sdw_json_string(&json, NULL, operation->choices[i]);
    sdw_json_close(&json, ']');
    sdw_json_open(&json, "samplers", '[');
    for (int i = 0; i < options->sampler_count; i++)
        sdw_json_string(&json, NULL, options->samplers[i].name);
    sdw_json_close(&json, ']');
    if (state.ready && state.defaults)
        put_defaults(&json, state.defaults);
    sdw_json_integer(&json, "steps_max", SDW_PARAMS_STEPS_MAX);
    sdw_json_integer(&json, "side_min", SDW_PARAMS_SIDE_MIN);
    sdw_json_integer(&json, "side_max", SDW_PARAMS_SIDE_MAX);
    sdw_json_integer(&json, "prompt_bytes_max", options->prompt_bytes_max);
    sdw_json_unsigned(&json, "body_bytes_max", options->body_bytes_max);
    sdw_json_integer(&json, "queue_max", counts.queue_max);
    sdw_json_close(&json, '}');
    sdw_json_open(&json, "jobs", '{');
    sdw_json_integer(&json, "queued", counts.queued);
    sdw_json_integer(&json, "running", counts.running);
    sdw_json_close(&json, '}');
    return sdw_answer_json(request, 200, &json);
}

enum MHD_Result sdw_handle_models(struct request *request)
{
    const struct sdw_server_options *options = &request->server->options;
    struct sdw_text text;
    struct sdw_json json;
    sdw_answer_begin(&json, &text);
    sdw_json_string(&json, "loaded", options->model_id);
    sdw_json_open(&json, "models", '[');
    for (int i = 0; i < options->model_count; i++) {
        const struct sdw_server_model *model = &options->models[i];
        sdw_json_open(&json, NULL, '{');
        sdw_json_string(&json, "id", model->id);
        sdw_json_string(&json, "aliases", model->aliases);
        sdw_json_string(&json, "repository", model->repository);
        sdw_json_integer(&json, "size", model->size);
        sdw_json_integer(&json, "steps", model->steps);
        sdw_json_real(&json, "guidance_scale", model->guidance_scale, 2);
        sdw_json_close(&json, '}');
    }
    sdw_json_close(&json, ']');
    return sdw_answer_json(request, 200, &json);
}

enum MHD_Result sdw_handle_samplers(struct request *request)
{
    const struct sdw_server_options *options = &request->server->options;
    struct sdw_text text;
    struct sdw_json json;
    sdw_answer_begin(&json, &text);
    sdw_json_open(&json, "samplers", '[');
    for (int i = 0; i < options->sampler_count; i++) {
        const struct sdw_server_sampler *sampler = &options->samplers[i];
        sdw_json_open(&json, NULL, '{');
        sdw_json_string(&json, "name", sampler->name);
        sdw_json_string(&json, "title", sampler->title);
        sdw_json_string(&json, "help", sampler->help);
        sdw_json_close(&json, '}');
    }
    sdw_json_close(&json, ']');
    sdw_json_open(&json, "schedules", '[');
    for (const char *const *name = options->schedules; name && *name; name++)
        sdw_json_string(&json, NULL, *name);
    sdw_json_close(&json, ']');
    return sdw_answer_json(request, 200, &json);
}

enum MHD_Result sdw_handle_shutdown(struct request *request)
{
    const struct sdw_server_options *options = &request->server->options;
    if (!options->shutdown) {
        sdw_fail(&request->err, SDW_UNAVAILABLE, "this worker does not stop on request");
        return sdw_answer_error(request, &request->err);
    }
    struct sdw_text text;
    struct sdw_json json;
    sdw_answer_begin(&json, &text);
    sdw_json_string(&json, "status", "stopping");
    enum MHD_Result result = sdw_answer_json(request, 200, &json);
    options->shutdown(options->context);
    return result;
}
