/* jobs.c: the routes of /v1/jobs, but for the stream. */
#include "http/internal.h"

#include "base/log.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>

#define RETRY_UNKNOWN_S 5 /* Retry-After before anything was measured */
#define RETRY_MAX_S     3600

/* {"errors":[{"field","constraint","message","value"}...]}; an absent value is left out. */
static enum MHD_Result answer_faults(struct request *request, const struct sdw_faults *faults)
{
    struct sdw_text text;
    struct sdw_json json;
    sdw_answer_begin(&json, &text);
    sdw_json_open(&json, "errors", '[');
    for (int i = 0; i < faults->count; i++) {
        const struct sdw_fault *fault = &faults->fault[i];
        sdw_json_open(&json, NULL, '{');
        sdw_json_string(&json, "field", fault->field);
        sdw_json_string(&json, "constraint", fault->constraint);
        sdw_json_string(&json, "message", fault->message);
        if (fault->value[0])
            sdw_json_raw(&json, "value", fault->value);
        sdw_json_close(&json, '}');
    }
    sdw_json_close(&json, ']');
    return sdw_answer_json(request, 400, &json);
}

/* JSON, or what curl -d says when nobody told it better; a missing type is taken for JSON. */
static bool acceptable_type(const char *type)
{
    static const char *const types[] = {"application/json", "application/x-www-form-urlencoded"};
    if (!type)
        return true;
    size_t length = strcspn(type, "; \t");
    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++)
        if (length == strlen(types[i]) && strncasecmp(type, types[i], length) == 0)
            return true;
    return false;
}

static int retry_seconds(const struct request *request)
{
    struct sdw_jobs_counts counts;
    sdw_jobs_count(request->server->options.jobs, &counts);
    if (counts.wait_s < 0)
        return RETRY_UNKNOWN_S;
    double wait_s = ceil(counts.wait_s);
    return wait_s < 1 ? 1 : wait_s > RETRY_MAX_S ? RETRY_MAX_S : (int)wait_s;
}

static enum MHD_Result answer_accepted(struct request *request, const char *id, uint64_t seed,
                                       const struct sdw_faults *faults)
{
    struct sdw_text text;
    struct sdw_json json;
    char url[sizeof "/v1/jobs//stream" + SDW_JOB_ID_MAX];
    snprintf(url, sizeof url, "/v1/jobs/%s/stream", id);
    sdw_answer_begin(&json, &text);
    sdw_json_string(&json, "job_id", id);
    sdw_json_string(&json, "sse_url", url);
    sdw_json_unsigned(&json, "seed", seed);
    if (faults->unknown) {
        sdw_json_open(&json, "unknown_keys", '[');
        for (int i = 0; i < faults->unknown; i++)
            sdw_json_string(&json, NULL, faults->unknown_key[i]);
        sdw_json_close(&json, ']');
    }
    return sdw_answer_json(request, 200, &json);
}

static enum MHD_Result submit(struct request *request, const struct sdw_params_defaults *defaults,
                              struct sdw_faults *faults)
{
    struct sdw_params params;
    struct sdw_error err = {0};
    const char *body = request->body.data ? request->body.data : "";
    if (sdw_params_parse(&params, body, request->body.length, defaults, faults, &err))
        return faults->count ? answer_faults(request, faults) : sdw_answer_error(request, &err);
    sdw_params_complete(&params, defaults);
    if (sdw_params_fit(&params, defaults, faults, &err)) {
        sdw_params_free(&params);
        return faults->count ? answer_faults(request, faults) : sdw_answer_error(request, &err);
    }
    char id[SDW_JOB_ID_MAX];
    uint64_t seed = params.seed;
    const char *key = sdw_request_header(request, "Idempotency-Key");
    if (sdw_jobs_submit(request->server->options.jobs, id, &params, faults, key, &err)) {
        sdw_params_free(&params);
        return err.status == SDW_BUSY      ? sdw_answer_retry(request, &err, retry_seconds(request))
               : err.status == SDW_STORAGE ? sdw_answer_retry(request, &err, RETRY_UNKNOWN_S)
                                           : sdw_answer_error(request, &err);
    }
    sdw_log_info("job %s: accepted", id);
    return answer_accepted(request, id, seed, faults);
}

/* A client that got no answer asks again with the same Idempotency-Key, and gets the job that it
 * has. Nobody else submits in between: handlers run on one thread. */
static enum MHD_Result answer_again(struct request *request, struct sdw_job *job)
{
    static const struct sdw_faults none;
    struct sdw_job_status status;
    sdw_job_status(job, &status);
    enum MHD_Result result = answer_accepted(request, status.id, sdw_job_params(job)->seed, &none);
    sdw_job_release(job);
    return result;
}

enum MHD_Result sdw_handle_submit(struct request *request)
{
    struct sdw_server_state state;
    const char *type = sdw_request_header(request, "Content-Type");
    if (!acceptable_type(type))
        sdw_fail(&request->err, SDW_MEDIA_TYPE,
                 "the body must be JSON (Content-Type: application/json), not %.80s", type);
    const char *key = sdw_request_header(request, "Idempotency-Key");
    if (key && (!*key || strlen(key) >= SDW_JOB_KEY_MAX))
        sdw_fail(&request->err, SDW_INVALID, "Idempotency-Key must have 1 to %d bytes",
                 SDW_JOB_KEY_MAX - 1);
    if (request->err.status)
        return sdw_answer_error(request, &request->err);
    struct sdw_job *known = key ? sdw_jobs_find_key(request->server->options.jobs, key) : NULL;
    if (known)
        return answer_again(request, known);
    sdw_server_state(request, &state);
    if (!state.ready || state.stopping) {
        sdw_fail(&request->err, SDW_UNAVAILABLE, "the worker is not ready: %s",
                 state.stopping ? "it is stopping" : state.reason);
        return sdw_answer_retry(request, &request->err, RETRY_UNKNOWN_S);
    }
    struct sdw_faults *faults = calloc(1, sizeof *faults);
    if (!faults)
        return MHD_NO;
    struct sdw_params_defaults defaults = *state.defaults;
    defaults.prompt_bytes_max = request->server->options.prompt_bytes_max;
    enum MHD_Result result = submit(request, &defaults, faults);
    free(faults);
    return result;
}

static void put_time(struct sdw_json *json, const char *key, int64_t unix_ms)
{
    char text[40];
    time_t seconds = (time_t)(unix_ms / 1000);
    struct tm date;
    if (unix_ms == 0) {
        sdw_json_null(json, key);
        return;
    }
    gmtime_r(&seconds, &date);
    size_t length = strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%S", &date);
    snprintf(text + length, sizeof text - length, ".%03dZ", (int)(unix_ms % 1000));
    sdw_json_string(json, key, text);
}

static void put_timings(struct sdw_json *json, const struct sdw_job_status *status)
{
    sdw_json_open(json, "timings_ms", '{');
    sdw_json_real(json, "elapsed", status->elapsed_s * 1e3, 1);
    if (status->state == SDW_JOB_COMPLETED) {
        sdw_json_real(json, "text", status->text_s * 1e3, 1);
        sdw_json_real(json, "unet", status->unet_s * 1e3, 1);
        sdw_json_real(json, "vae", status->vae_s * 1e3, 1);
        sdw_json_real(json, "png", status->png_s * 1e3, 1);
    }
    sdw_json_close(json, '}');
}

/* The members of one job. */
static void put_job(struct sdw_json *json, struct sdw_job *job)
{
    struct sdw_job_status status;
    const struct sdw_params *params = sdw_job_params(job);
    sdw_job_status(job, &status);
    sdw_json_string(json, "job_id", status.id);
    sdw_json_string(json, "state", sdw_job_state_name(status.state));
    if (status.position)
        sdw_json_integer(json, "position", status.position);
    else
        sdw_json_null(json, "position");
    sdw_json_integer(json, "step", status.step);
    sdw_json_integer(json, "total", status.total);
    if (status.eta_s < 0)
        sdw_json_null(json, "eta_ms");
    else
        sdw_json_real(json, "eta_ms", status.eta_s * 1e3, 0);
    sdw_json_unsigned(json, "seed", params->seed);
    put_time(json, "created_at", status.created_ms);
    put_time(json, "started_at", status.started_ms);
    put_time(json, "ended_at", status.ended_ms);
    put_timings(json, &status);
    sdw_json_string(json, "error", status.error[0] ? status.error : NULL);
    sdw_json_raw(json, "params", sdw_job_request(job));
    const char *report = sdw_job_report(job);
    if (report)
        sdw_json_raw(json, "prompts", report);
    sdw_json_open(json, "unknown_keys", '[');
    for (int i = 0; i < sdw_job_warnings(job); i++)
        sdw_json_string(json, NULL, sdw_job_warning(job, i));
    sdw_json_close(json, ']');
}

static enum MHD_Result answer_unknown(struct request *request)
{
    sdw_fail(&request->err, SDW_NOT_FOUND, "there is no job %s", request->id);
    return sdw_answer_error(request, &request->err);
}

enum MHD_Result sdw_handle_job(struct request *request)
{
    struct sdw_job *job = sdw_jobs_find(request->server->options.jobs, request->id);
    if (!job)
        return answer_unknown(request);
    struct sdw_text text;
    struct sdw_json json;
    sdw_answer_begin(&json, &text);
    put_job(&json, job);
    sdw_job_release(job);
    return sdw_answer_json(request, 200, &json);
}

/* A whole number of the query in min..max, or `fallback` when it is absent or no such number. */
static int query_integer(const struct request *request, const char *name, int fallback, int min,
                         int max)
{
    const char *text = sdw_request_query(request, name);
    char *end;
    if (!text)
        return fallback;
    long value = strtol(text, &end, 10);
    return end == text || *end || value < min ? fallback : value > max ? max : (int)value;
}

enum MHD_Result sdw_handle_list(struct request *request)
{
    struct sdw_job *list[SDW_HTTP_PAGE_MAX];
    int offset = query_integer(request, "offset", 0, 0, 1000000), total;
    int limit = query_integer(request, "limit", 20, 1, SDW_HTTP_PAGE_MAX);
    int count = sdw_jobs_list(request->server->options.jobs, list, offset, limit, &total);
    struct sdw_text text;
    struct sdw_json json;
    sdw_answer_begin(&json, &text);
    sdw_json_open(&json, "jobs", '[');
    for (int i = 0; i < count; i++) {
        sdw_json_open(&json, NULL, '{');
        put_job(&json, list[i]);
        sdw_json_close(&json, '}');
        sdw_job_release(list[i]);
    }
    sdw_json_close(&json, ']');
    sdw_json_integer(&json, "total", total);
    sdw_json_integer(&json, "offset", offset);
    sdw_json_integer(&json, "limit", limit);
    return sdw_answer_json(request, 200, &json);
}

static void release_job(void *job)
{
    sdw_job_release(job);
}

enum MHD_Result sdw_handle_image(struct request *request)
{
    struct sdw_job *job = sdw_jobs_find(request->server->options.jobs, request->id);
    if (!job)
        return answer_unknown(request);
    size_t length;
    int index = query_integer(request, "index", 0, 0, SDW_PARAMS_IMAGES_MAX - 1);
    const void *png = sdw_job_image(job, index, &length);
    if (!png) {
        struct sdw_job_status status;
        sdw_job_status(job, &status);
        sdw_job_release(job);
        sdw_fail(&request->err, SDW_NOT_FOUND, "job %s has no image %d: it is %s", request->id,
                 index, sdw_job_state_name(status.state));
        return sdw_answer_error(request, &request->err);
    }
    struct MHD_Response *response = MHD_create_response_from_buffer_with_free_callback_cls(
        length, (void *)(uintptr_t)png, release_job, job);
    if (!response) {
        sdw_job_release(job);
        return MHD_NO;
    }
    char name[64];
    snprintf(name, sizeof name, "inline; filename=\"%.41s.png\"", request->id);
    MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_DISPOSITION, name);
    return sdw_answer(request, 200, response, "image/png");
}

enum MHD_Result sdw_handle_cancel(struct request *request)
{
    if (sdw_jobs_cancel(request->server->options.jobs, request->id, &request->err))
        return sdw_answer_error(request, &request->err);
    sdw_log_info("job %s: to be cancelled", request->id);
    struct sdw_text text;
    struct sdw_json json;
    sdw_answer_begin(&json, &text);
    sdw_json_string(&json, "job_id", request->id);
    sdw_json_string(&json, "status", "cancelled");
    return sdw_answer_json(request, 200, &json);
}
