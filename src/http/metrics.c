/* metrics.c: counters as Prometheus reads them (text format 0.0.4). */
#include "http/internal.h"

#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#define METRICS_BYTES_MAX (64u << 10)

static void put_jobs(struct sdw_text *text, const struct sdw_jobs_counts *counts)
{
    sdw_text_printf(text, NULL,
                    "# HELP sdw_jobs Jobs that have not ended, by state.\n"
                    "# TYPE sdw_jobs gauge\n"
                    "sdw_jobs{state=\"queued\"} %d\nsdw_jobs{state=\"running\"} %d\n"
                    "# HELP sdw_jobs_ended_total Jobs that have ended, by state.\n"
                    "# TYPE sdw_jobs_ended_total counter\n",
                    counts->queued, counts->running);
    for (int i = SDW_JOB_COMPLETED; i < SDW_JOB_STATE_COUNT; i++)
        sdw_text_printf(text, NULL, "sdw_jobs_ended_total{state=\"%s\"} %llu\n",
                        sdw_job_state_name(i), (unsigned long long)counts->ended[i]);
}

static void put_one(struct sdw_text *text, const char *name, const char *type, const char *help,
                    double value)
{
    sdw_text_printf(text, NULL, "# HELP %s %s\n# TYPE %s %s\n%s %.17g\n", name, help, name, type,
                    name, value);
}

static void put_stages(struct sdw_text *text, const struct sdw_jobs_counts *counts)
{
    const struct {
        const char *stage;
        double seconds;
    } stages[] = {{"text", counts->text_s},
                  {"unet", counts->steps_s},
                  {"vae", counts->vae_s},
                  {"png", counts->png_s}};
    sdw_text_printf(text, NULL,
                    "# HELP sdw_stage_seconds_total Time of completed jobs, by stage.\n"
                    "# TYPE sdw_stage_seconds_total counter\n");
    for (size_t i = 0; i < sizeof stages / sizeof stages[0]; i++)
        sdw_text_printf(text, NULL, "sdw_stage_seconds_total{stage=\"%s\"} %.6f\n", stages[i].stage,
                        stages[i].seconds);
}

/* labels: "" or "stage=\"vae\",". */
static void put_histogram(struct sdw_text *text, const char *name, const char *labels,
                          const struct sdw_histogram *histogram)
{
    uint64_t count = 0;
    int length = (int)strlen(labels);
    for (int i = 0; i < SDW_HISTOGRAM_BUCKETS; i++) {
        count += histogram->count[i];
        sdw_text_printf(text, NULL, "%s_bucket{%sle=\"%g\"} %llu\n", name, labels,
                        sdw_histogram_bounds_s[i], (unsigned long long)count);
    }
    count += histogram->count[SDW_HISTOGRAM_BUCKETS];
    sdw_text_printf(text, NULL, "%s_bucket{%sle=\"+Inf\"} %llu\n", name, labels,
                    (unsigned long long)count);
    const char *open = length ? "{" : "", *close = length ? "}" : "";
    int inner = length ? length - 1 : 0; /* without the comma */
    sdw_text_printf(text, NULL, "%s_sum%s%.*s%s %.6f\n%s_count%s%.*s%s %llu\n", name, open, inner,
                    labels, close, histogram->sum_s, name, open, inner, labels, close,
                    (unsigned long long)count);
}

static void put_histograms(struct sdw_text *text, const struct sdw_jobs_counts *counts)
{
    sdw_text_printf(text, NULL,
                    "# HELP sdw_step_seconds Denoising steps, but for the first of a run.\n"
                    "# TYPE sdw_step_seconds histogram\n");
    put_histogram(text, "sdw_step_seconds", "", &counts->step);
    sdw_text_printf(text, NULL,
                    "# HELP sdw_stage_seconds Stages of completed jobs beside the steps.\n"
                    "# TYPE sdw_stage_seconds histogram\n");
    put_histogram(text, "sdw_stage_seconds", "stage=\"text\",", &counts->text);
    put_histogram(text, "sdw_stage_seconds", "stage=\"vae\",", &counts->vae);
    put_histogram(text, "sdw_stage_seconds", "stage=\"png\",", &counts->png);
}

/* A label's value: backslash, quote and line feed are escaped. */
static void put_label(struct sdw_text *text, const char *name, const char *value)
{
    sdw_text_printf(text, NULL, "%s=\"", name);
    for (; *value; value++)
        if (*value == '\n')
            sdw_text_printf(text, NULL, "\\n");
        else
            sdw_text_printf(text, NULL, *value == '"' || *value == '\\' ? "\\%c" : "%c", *value);
    sdw_text_printf(text, NULL, "\"");
}

static void put_info(struct sdw_text *text, const struct sdw_server_options *options)
{
    sdw_text_printf(text, NULL,
                    "# HELP sdw_info What this worker is.\n# TYPE sdw_info gauge\nsdw_info{");
    put_label(text, "worker", options->worker_id);
    sdw_text_printf(text, NULL, ",");
    put_label(text, "model", options->model_id);
    sdw_text_printf(text, NULL, ",");
    put_label(text, "device", options->device);
    sdw_text_printf(text, NULL, ",");
    put_label(text, "version", options->version);
    sdw_text_printf(text, NULL, "} 1\n");
}

static void put_heartbeats(struct sdw_text *text, const struct sdw_server_state *state)
{
    sdw_text_printf(text, NULL,
                    "# HELP sdw_heartbeats_total Heartbeats by whether the queen heard them.\n"
                    "# TYPE sdw_heartbeats_total counter\n"
                    "sdw_heartbeats_total{result=\"heard\"} %llu\n"
                    "sdw_heartbeats_total{result=\"failed\"} %llu\n",
                    (unsigned long long)state->heartbeats_heard,
                    (unsigned long long)state->heartbeats_failed);
}

/* 0 where the system does not say. */
static double resident_bytes(void)
{
    unsigned long pages = 0;
    FILE *file = fopen("/proc/self/statm", "r");
    if (file && fscanf(file, "%*u %lu", &pages) != 1)
        pages = 0;
    if (file)
        fclose(file);
    return (double)pages * (double)sysconf(_SC_PAGESIZE);
}

static void put_http(struct sdw_text *text, const struct sdw_server *server)
{
    sdw_text_printf(text, NULL,
                    "# HELP sdw_http_answers_total Answers by route and class of status.\n"
                    "# TYPE sdw_http_answers_total counter\n");
    for (int i = 0; i <= ROUTES_MAX; i++)
        for (int class = 2; class < 6; class ++)
            if (server->answered[i][class])
                sdw_text_printf(
                    text, NULL,
                    "sdw_http_answers_total{method=\"%s\",route=\"%s\",status=\"%dxx\"} %llu\n",
                    i < sdw_route_count ? sdw_routes[i].method : "",
                    i < sdw_route_count ? sdw_routes[i].pattern : "none", class,
                    (unsigned long long)server->answered[i][class]);
}

enum MHD_Result sdw_handle_metrics(struct request *request)
{
    struct sdw_server *server = request->server;
    struct sdw_server_state state;
    struct sdw_jobs_counts counts;
    struct sdw_text text;
    struct rusage usage;
    sdw_server_state(request, &state);
    sdw_jobs_count(server->options.jobs, &counts);
    getrusage(RUSAGE_SELF, &usage);
    pthread_mutex_lock(&server->lock);
    int streams = server->stream_count;
    pthread_mutex_unlock(&server->lock);

    sdw_text_init(&text, METRICS_BYTES_MAX);
    put_jobs(&text, &counts);
    put_one(&text, "sdw_ready", "gauge", "1 when jobs are taken.", state.ready && !state.stopping);
    put_one(&text, "sdw_queue_max", "gauge", "Jobs that may wait.", counts.queue_max);
    put_one(&text, "sdw_jobs_unsaved", "gauge",
            "Ended jobs that the disk did not take so far; the queue waits for them.",
            counts.unsaved);
    put_one(&text, "sdw_jobs_refused_total", "counter", "Jobs refused because the queue was full.",
            (double)counts.refused);
    put_one(&text, "sdw_steps_total", "counter", "Denoising steps of completed jobs.",
            (double)counts.steps);
    put_one(&text, "sdw_images_total", "counter", "Images of completed jobs.",
            (double)counts.images);
    put_info(&text, &server->options);
    put_stages(&text, &counts);
    put_histograms(&text, &counts);
    put_heartbeats(&text, &state);
    put_one(&text, "sdw_kept_bytes", "gauge", "Images and events of ended jobs.",
            (double)counts.kept_bytes);
    put_one(&text, "sdw_streams", "gauge", "Readers of event streams.", streams);
    put_one(&text, "process_resident_memory_bytes", "gauge", "Memory in use.", resident_bytes());
    put_one(&text, "process_resident_memory_peak_bytes", "gauge", "Most memory ever in use.",
            (double)usage.ru_maxrss * 1024);
    put_http(&text, server);
    struct MHD_Response *response =
        MHD_create_response_from_buffer(text.length, text.data, MHD_RESPMEM_MUST_FREE);
    if (!response)
        sdw_text_free(&text);
    return sdw_answer(request, 200, response, "text/plain; version=0.0.4; charset=utf-8");
}
