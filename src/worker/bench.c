/* bench.c: the `bench` command: the seconds of each stage of an image, and what it took. */
#include "base/clock.h"
#include "base/pool.h"
#include "worker/bench_limit.h"
#include "worker/command.h"
#include "worker/request.h"
#include "worker/session.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

/* When each step ended. */
struct steps {
    int count;
    double at[SDW_PARAMS_STEPS_MAX];
};

static void note_step(void *context, int step, int total)
{
    struct steps *steps = context;
    (void)step, (void)total;
    if (steps->count < SDW_PARAMS_STEPS_MAX)
        steps->at[steps->count++] = sdw_clock_seconds();
}

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static size_t peak_rss_bytes(void)
{
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
#ifdef __APPLE__
    return (size_t)usage.ru_maxrss;
#else
    return (size_t)usage.ru_maxrss * 1024;
#endif
}

static json_t *report(const struct sdw_session *session, const struct sdw_params *params,
                      const struct sdw_result *result, const struct steps *steps)
{
    double seconds[SDW_PARAMS_STEPS_MAX], sorted[SDW_PARAMS_STEPS_MAX];
    double start = steps->count ? steps->at[steps->count - 1] - result->unet_s : 0;
    json_t *all = json_array();
    for (int i = 0; i < steps->count; i++) {
        seconds[i] = sorted[i] = steps->at[i] - (i ? steps->at[i - 1] : start);
        json_array_append_new(all, json_real(seconds[i]));
    }
    qsort(sorted, (size_t)steps->count, sizeof sorted[0], ascending);
    double median = steps->count ? sorted[steps->count / 2] : 0;
    json_t *object = json_pack(
        "{s:s, s:s, s:s, s:s, s:s, s:i, s:i, s:i, s:i, s:f, s:f, s:f, s:{s:f, s:o}, s:f, s:f, s:I, s:I}",
        "model", session->model_id, "device", session->dev->id, "description",
        session->dev->description, "dtype", sdw_dtype_name(session->dev->compute), "kernels",
        session->dev->kernels, "threads", sdw_pool_threads(), "width", params->width, "height",
        params->height, "steps", params->steps, "guidance_scale", params->guidance_scale, "load_s",
        session->load_s, "text_s", result->text_s, "unet_step_s", "median", median, "all", all,
        "vae_s", result->vae_s, "png_s", result->png_s, "weight_bytes",
        (json_int_t)sdw_engine_weight_bytes(session->engine), "peak_rss_bytes",
        (json_int_t)peak_rss_bytes());
    if (session->dev->ops->memory_peak)
        json_object_set_new(object, "device_peak_bytes",
                            json_integer((json_int_t)session->dev->ops->memory_peak(session->dev)));
    return object;
}

static void print_lines(const json_t *object)
{
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)object, key, value)
    {
        char *text = json_is_string(value)
                         ? strdup(json_string_value(value))
                         : json_dumps(value, JSON_ENCODE_ANY | JSON_REAL_PRECISION(4));
        printf("%-16s %s\n", key, text ? text : "");
        free(text);
    }
}

/* One step of another prompt, unmeasured: what a process does once is done then. */
static enum sdw_status warm_up(struct sdw_session *session, const struct sdw_params *params,
                               struct sdw_error *err)
{
    struct sdw_params other = *params;
    struct sdw_result result = {0};
    struct sdw_runner runner = sdw_engine_runner(session->engine);
    other.prompt = (char *)"warm-up";
    other.steps = 1;
    sdw_text_init(&result.png, SDW_PNG_BYTES_MAX);
    enum sdw_status status = runner.run(runner.context, &other, NULL, &result, err);
    sdw_result_free(&result);
    return status;
}

/* Runs the request and reports on it; with --limit or --ops on its operators, too. */
static enum sdw_status run(struct sdw_session *session, const struct sdw_options *options,
                           const struct sdw_params *params, struct sdw_error *err)
{
    struct steps steps = {0};
    struct sdw_progress progress = {.step = note_step, .context = &steps};
    struct sdw_result result = {0};
    struct sdw_limits limits = {0};
    struct sdw_runner runner = sdw_engine_runner(session->engine);
    struct sdw_profile *profile =
        options->limit || options->ops ? calloc(1, sizeof *profile) : NULL;
    enum sdw_status status = SDW_OK;
    sdw_text_init(&result.png, SDW_PNG_BYTES_MAX);
    if (profile && !session->dev->ops->limits)
        status = sdw_fail(err, SDW_USAGE, "--limit and --ops: %s cannot tell its limits",
                          session->dev->id);
    else if (profile)
        status = warm_up(session, params, err);
    session->dev->profile = profile;
    if (!status)
        status = runner.run(runner.context, params, &progress, &result, err);
    session->dev->profile = NULL;
    json_t *object = status ? NULL : report(session, params, &result, &steps);
    if (object && profile) /* after the report: it reads much memory of its own */
        session->dev->ops->limits(session->dev, &limits);
    json_t *limit =
        object && profile ? sdw_bench_limit(profile, &limits, &result, options->ops) : NULL;
    if (object && options->json) {
        json_object_update(object, limit);
        json_dumpf(object, stdout, JSON_REAL_PRECISION(6));
        putchar('\n');
    } else if (object) {
        print_lines(object);
        if (limit)
            sdw_bench_limit_print(limit);
    }
    json_decref(limit);
    json_decref(object);
    free(profile);
    sdw_result_free(&result);
    return status;
}

static enum sdw_status measure(const struct sdw_options *options, struct sdw_request *request,
                               const char *backend, struct sdw_error *err)
{
    struct sdw_session session;
    struct sdw_params *params = &request->params;
    enum sdw_status status = sdw_session_open_device(&session, options, backend, err);
    if (!status)
        status = sdw_session_load(&session, options, NULL, err);
    if (!status && !params->prompt)
        sdw_params_set(params, "prompt", "a photo of a cat", &request->faults);
    if (!status)
        status =
            sdw_params_check(params, sdw_engine_defaults(session.engine), &request->faults, err);
    if (!status) {
        sdw_params_complete(params, sdw_engine_defaults(session.engine));
        status = run(&session, options, params, err);
    }
    sdw_session_close(&session);
    return status;
}

int sdw_command_bench(int argc, char **argv, const char *backend)
{
    struct sdw_options options;
    struct sdw_error err;
    struct sdw_request *request = calloc(1, sizeof *request);
    if (!request)
        return 1;
    enum sdw_status status =
        sdw_options_read(&options, SDW_COMMAND_BENCH, argc, argv, sdw_request_take, request, &err);
    if (!status && sdw_command_informed(&options, SDW_COMMAND_BENCH, backend)) {
        if (options.help)
            sdw_request_print();
    } else if (!status) {
        status = measure(&options, request, backend, &err);
    }
    sdw_params_free(&request->params);
    free(request);
    sdw_options_free(&options);
    return status ? sdw_command_fail(backend, &err) : 0;
}
