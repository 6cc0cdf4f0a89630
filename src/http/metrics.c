/* metrics.c: counters as Prometheus reads them (text format 0.0.4). */
#include "http/internal.h"

#include <stdio.h>
#include <sys/resource.h>

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
    put_stages(&text, &counts);
    put_one(&text, "sdw_kept_bytes", "gauge", "Images and events of ended jobs.",
            (double)counts.kept_bytes);
    put_one(&text, "sdw_streams", "gauge", "Readers of event streams.", streams);
    put_one(&text, "process_resident_memory_peak_bytes", "gauge", "Most memory ever in use.",
            (double)usage.ru_maxrss * 1024);
    put_http(&text, server);
    struct MHD_Response *response =
        MHD_create_response_from_buffer(text.length, text.data, MHD_RESPMEM_MUST_FREE);
    if (!response)
        sdw_text_free(&text);
    return sdw_answer(request, 200, response, "text/plain; version=0.0.4; charset=utf-8");
}
