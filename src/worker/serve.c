/* serve.c: the worker itself: bind first, load after, run jobs until a signal, be gone within two
 * seconds.
 *
 * Threads: this one loads the model and then waits; the server answers on its own from the first
 * moment; jobs run on theirs; one more waits for signals, so that nothing is ever done inside a
 * signal handler. */
#include "base/log.h"
#include "http/server.h"
#include "hub/catalogue.h"
#include "image/decode.h"
#include "sample/sampler.h"
#include "worker/access.h"
#include "worker/command.h"
#include "worker/download.h"
#include "worker/heartbeat.h"
#include "worker/sandbox.h"
#include "worker/service.h"
#include "worker/session.h"
#include "worker/state_dir.h"

#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define STOP_JOBS_S    1.0 /* for the running job to reach its next step */
#define STOP_STREAMS_S 0.4 /* for the last events to leave */
#define STOP_QUEEN_S   0.3 /* for the queen to hear that it is over */
#define SAMPLERS_MAX   64
#define MODELS_MAX     64

enum phase { LOADING, READY, STOPPING };

struct serve {
    const struct sdw_options *options;
    const char *backend;
    char worker_id[128], model_id[256], maker[1024], state_dir[SDW_STATE_DIR_MAX];
    struct sdw_session session;
    struct sdw_jobs *jobs;
    struct sdw_server *server;
    struct sdw_heartbeat *heartbeat;
    struct sdw_access access;
    struct sdw_server_model models[MODELS_MAX];
    struct sdw_server_sampler samplers[SAMPLERS_MAX];
    pthread_mutex_t lock;
    pthread_cond_t changed;
    enum phase phase;                    /* this and the next four are under the lock */
    char loading[SDW_DOWNLOAD_LINE_MAX]; /* what the loading is about */
    double loaded;                       /* 0..1, negative while unknown */
    struct sdw_hub_state hub;            /* of a download; no bytes when there is none */
    struct sdw_download download;
};

static void set_phase(struct serve *serve, enum phase phase)
{
    pthread_mutex_lock(&serve->lock);
    if (serve->phase != STOPPING)
        serve->phase = phase;
    pthread_cond_broadcast(&serve->changed);
    pthread_mutex_unlock(&serve->lock);
}

/* False once the GPU is lost: the jobs that wait do so until the worker is started anew. */
static bool able(void *context)
{
    const struct serve *serve = context;
    return !atomic_load(&serve->session.dev->lost);
}

static void tell_lost(const struct serve *serve, char *text, size_t size)
{
    snprintf(text, size, "%s is lost to this process: restart it; its jobs wait",
             serve->session.dev->id);
}

static void tell_state(void *context, struct sdw_server_state *state)
{
    struct serve *serve = context;
    pthread_mutex_lock(&serve->lock);
    *state = (struct sdw_server_state){
        .ready = serve->phase == READY, .stopping = serve->phase == STOPPING, .progress = -1};
    if (serve->phase == READY)
        state->defaults = sdw_engine_defaults(serve->session.engine);
    else
        snprintf(state->reason, sizeof state->reason, "%s",
                 serve->phase == LOADING ? serve->loading : "worker stopping");
    if (!able(serve)) {
        state->ready = false;
        tell_lost(serve, state->reason, sizeof state->reason);
    }
    if (serve->phase == LOADING) {
        state->progress = serve->loaded;
        state->bytes_done = (uint64_t)serve->hub.bytes_done;
        state->bytes_total = (uint64_t)serve->hub.bytes_total;
        state->rate_bytes_s = serve->hub.bytes_s;
        state->left_s = serve->hub.left_s;
    }
    sdw_heartbeat_count(serve->heartbeat, &state->heartbeats_heard, &state->heartbeats_failed);
    pthread_mutex_unlock(&serve->lock);
}

/* For the heartbeat: what the loading is about, or why there are no more jobs. */
static void tell_detail(void *context, char *text, size_t size)
{
    struct serve *serve = context;
    pthread_mutex_lock(&serve->lock);
    snprintf(text, size, "%s", serve->phase == LOADING ? serve->loading : "");
    if (!able(serve))
        tell_lost(serve, text, size);
    pthread_mutex_unlock(&serve->lock);
}

static void tell_download(void *context, const struct sdw_hub_state *state)
{
    struct serve *serve = context;
    pthread_mutex_lock(&serve->lock);
    sdw_download_line(serve->loading, state);
    serve->hub = *state;
    serve->loaded =
        state->bytes_total ? (double)state->bytes_done / (double)state->bytes_total : -1;
    if (state->files_done == state->files_total) { /* what follows is reading, of unknown length */
        strcpy(serve->loading, "model loading");
        serve->loaded = -1;
        serve->hub = (struct sdw_hub_state){0};
    }
    pthread_mutex_unlock(&serve->lock);
    sdw_download_show(&serve->download, state);
}

static void tell_busy(void *context, bool busy)
{
    struct serve *serve = context;
    sdw_heartbeat_status(serve->heartbeat, busy ? "busy" : able(serve) ? "ready" : "stopping");
}

static void ask_to_stop(void *context)
{
    (void)context;
    kill(getpid(), SIGTERM);
}

/* What every thread blocks and one waits for. */
static void watched_signals(sigset_t *set)
{
    sigemptyset(set);
    sigaddset(set, SIGINT);
    sigaddset(set, SIGTERM);
    sigaddset(set, SIGHUP);
}

/* Waits for signals; the second one quits at once, and so does the first while there is nothing to
 * lose. */
static void *watch_signals(void *context)
{
    struct serve *serve = context;
    sigset_t set;
    int number, count = 0;
    watched_signals(&set);
    while (sigwait(&set, &number) == 0) {
        struct sdw_error err;
        if (number == SIGHUP) { /* log rotation */
            if (serve->options->log_file && sdw_log_open(serve->options->log_file, &err))
                sdw_log_error("%s", err.message);
            continue;
        }
        pthread_mutex_lock(&serve->lock);
        enum phase phase = serve->phase;
        pthread_mutex_unlock(&serve->lock);
        sdw_log_info("%s: stopping", number == SIGINT ? "SIGINT" : "SIGTERM");
        if (phase == LOADING)
            _exit(0);
        if (++count == 2)
            _exit(1);
        set_phase(serve, STOPPING);
    }
    return NULL;
}

static enum sdw_status start_signals(struct serve *serve, struct sdw_error *err)
{
    sigset_t set;
    pthread_t thread;
    watched_signals(&set);
    pthread_sigmask(SIG_BLOCK, &set, NULL); /* inherited by every thread made from here on */
    signal(SIGPIPE, SIG_IGN);
    if (pthread_create(&thread, NULL, watch_signals, serve) != 0)
        return sdw_fail(err, SDW_MEMORY, "cannot start the thread for signals");
    pthread_detach(thread);
    return SDW_OK;
}

static void fill_tables(struct serve *serve, struct sdw_server_options *options)
{
    for (int i = 0; i < sdw_catalogue_count && i < MODELS_MAX; i++) {
        const struct sdw_catalogue_row *row = &sdw_catalogue[i];
        char *id =
            strndup(row->aliases, strcspn(row->aliases, " ")); /* lives as long as the server */
        serve->models[options->model_count++] = (struct sdw_server_model){
            id, row->aliases, row->repository, row->size, row->steps, row->guidance_scale};
    }
    for (int i = 0; i < sdw_samplers_count() && i < SAMPLERS_MAX; i++) {
        const struct sdw_sampler_info *info = sdw_samplers_at(i);
        serve->samplers[options->sampler_count++] =
            (struct sdw_server_sampler){info->name, info->title, info->help};
    }
    options->models = serve->models;
    options->samplers = serve->samplers;
    options->schedules = sdw_schedule_names;
}

static enum sdw_status open_jobs(struct serve *serve, struct sdw_error *err)
{
    const struct sdw_options *options = serve->options;
    sdw_session_model_id(serve->model_id, sizeof serve->model_id, options);
    if (options->worker_id)
        snprintf(serve->worker_id, sizeof serve->worker_id, "%s", options->worker_id);
    else
        snprintf(serve->worker_id, sizeof serve->worker_id, "worker-%s-%ld", serve->backend,
                 options->port);
    char *dir = serve->state_dir;
    enum sdw_status status = sdw_state_dir(dir, options, serve->worker_id, err);
    if (status)
        return status;
    snprintf(serve->maker, sizeof serve->maker, "%s %s %s %s %s %s", serve->model_id,
             options->model_path ? options->model_path : "", options->dtype ? options->dtype : "",
             options->isa ? options->isa : "", serve->session.dev->id, SDW_VERSION);
    struct sdw_jobs_options queue = {.state_dir = *dir ? dir : NULL,
                                     .queue_max = (int)options->queue_max,
                                     .kept_max = (int)options->keep_jobs,
                                     .kept_bytes_max = options->keep_bytes,
                                     .kept_s = options->keep_age_s,
                                     .maker = serve->maker,
                                     .save_every_s = (double)options->save_every_ms / 1e3,
                                     .busy = tell_busy,
                                     .able = able,
                                     .context = serve};
    if (!*dir)
        sdw_log_info("jobs are kept in memory and end with this process");
    return sdw_jobs_open(&serve->jobs, &queue, err);
}

static enum sdw_status start_server(struct serve *serve, struct sdw_error *err)
{
    const struct sdw_options *options = serve->options;
    struct sdw_server_options server = {.bind_addr = options->bind_addr,
                                        .port = (int)options->port,
                                        .body_bytes_max = (size_t)options->body_bytes_max,
                                        .connections_max = (int)options->connections_max,
                                        .connections_per_address =
                                            (int)options->connections_per_address,
                                        .idle_s = (int)options->idle_s,
                                        .header_s = (int)options->header_s,
                                        .header_bytes_max = (size_t)options->header_bytes_max,
                                        .readers_per_job_max = (int)options->readers_per_job_max,
                                        .prompt_bytes_max = (int)options->prompt_bytes_max,
                                        .jobs = serve->jobs,
                                        .context = serve,
                                        .state = tell_state,
                                        .shutdown = ask_to_stop,
                                        .worker_id = serve->worker_id,
                                        .model_id = serve->model_id,
                                        .device = serve->session.dev->id,
                                        .version = SDW_VERSION};
    fill_tables(serve, &server);
    sdw_access_fill(&server, &serve->access);
    enum sdw_status status = sdw_server_open(&serve->server, &server, err);
    if (status)
        return status;
    bool any = strcmp(options->bind_addr, "0.0.0.0") == 0,
         v6 = strchr(options->bind_addr, ':') != NULL;
    sdw_log_info("listening on http%s://%s%s%s:%d", server.tls_cert ? "s" : "", v6 ? "[" : "",
                 any ? "127.0.0.1" : options->bind_addr, v6 ? "]" : "",
                 sdw_server_port(serve->server));
    if ((any || strcmp(options->bind_addr, "::") == 0) && !server.api_keys)
        sdw_log_warn(
            "anybody who reaches this machine can use this worker: set --api-key, or --bind-addr 127.0.0.1");
    return SDW_OK;
}

static enum sdw_status start_heartbeat(struct serve *serve, struct sdw_error *err)
{
    struct sdw_heartbeat_options options = {.queen_url = serve->options->queen_url,
                                            .callback_url = serve->options->callback_url,
                                            .worker_id = serve->worker_id,
                                            .model_id = serve->model_id,
                                            .device = serve->session.dev->id,
                                            .version = SDW_VERSION,
                                            .detail = tell_detail,
                                            .detail_context = serve,
                                            .port = sdw_server_port(serve->server)};
    struct sdw_heartbeat *heartbeat;
    enum sdw_status status = sdw_heartbeat_open(&heartbeat, &options, err);
    if (status)
        return status;
    pthread_mutex_lock(&serve->lock); /* the server is answering already */
    serve->heartbeat = heartbeat;
    pthread_mutex_unlock(&serve->lock);
    return SDW_OK;
}

static bool sandbox_is(const struct serve *serve, const char *word)
{
    return strcmp(serve->options->sandbox, word) == 0;
}

/* A GPU's driver opens devices and libraries, and starts programs, whenever it likes. */
static bool sandbox_fits(const struct serve *serve)
{
    return strncmp(serve->session.dev->id, "cpu", 3) == 0;
}

/* Who requires the sandbox hears before the model is loaded that there will be none. */
static enum sdw_status check_sandbox(const struct serve *serve, struct sdw_error *err)
{
    if (!sandbox_is(serve, "require"))
        return SDW_OK;
    if (!sandbox_fits(serve))
        return sdw_fail(err, SDW_USAGE,
                        "--sandbox require is for the CPU: the driver of %s would not work in it",
                        serve->session.dev->id);
    return sdw_sandbox_check(err);
}

static enum sdw_status enter_sandbox(const struct serve *serve, struct sdw_error *err)
{
    const struct sdw_options *options = serve->options;
    struct sdw_error why;
    struct sdw_sandbox sandbox = {.model = serve->session.path,
                                  .vae = options->vae,
                                  .state_dir = serve->state_dir[0] ? serve->state_dir : NULL,
                                  .log_file = options->log_file,
                                  .calls = options->queen_url || options->callback_url};
    if (sandbox_is(serve, "off"))
        return SDW_OK;
    if (!sandbox_fits(serve))
        sdw_log_info("no sandbox: it is for the CPU, not for %s", serve->session.dev->id);
    else if (sdw_sandbox_enter(&sandbox, &why) == SDW_OK)
        sdw_log_info("sandbox: no files but those of model, state and log%s (Landlock), no "
                     "programs, tracing or mounts (seccomp)",
                     sandbox.calls ? "" : ", no connections to others");
    else if (sandbox_is(serve, "require"))
        return sdw_fail(err, why.status, "%s", why.message);
    else
        sdw_log_warn("%s", why.message);
    return SDW_OK;
}

static enum sdw_status run(struct serve *serve, struct sdw_error *err)
{
    enum sdw_status status =
        sdw_session_open_device(&serve->session, serve->options, serve->backend, err);
    if (!status)
        status = check_sandbox(serve, err);
    if (!status)
        status = open_jobs(serve, err);
    if (!status)
        status = start_server(serve, err);
    if (!status)
        status = start_heartbeat(serve, err);
    struct sdw_hub_progress progress = {.tell = tell_download, .context = serve};
    if (!status)
        status = sdw_session_load(&serve->session, serve->options, &progress, err);
    if (!status)
        status = enter_sandbox(serve, err);
    if (status)
        return status;
    struct sdw_runner runner = sdw_engine_runner(serve->session.engine);
    status = sdw_jobs_start(serve->jobs, &runner, err);
    if (status)
        return status;
    sdw_heartbeat_status(serve->heartbeat, "ready"); /* before a first job can make it busy */
    set_phase(serve, READY);
    sdw_service_notify("READY=1");
    sdw_log_info("ready: %s on %s", serve->model_id, serve->session.dev->description);

    pthread_mutex_lock(&serve->lock);
    while (serve->phase != STOPPING)
        pthread_cond_wait(&serve->changed, &serve->lock);
    pthread_mutex_unlock(&serve->lock);
    sdw_service_notify("STOPPING=1");
    sdw_heartbeat_status(serve->heartbeat, "stopping");
    bool ended = sdw_jobs_stop(serve->jobs, STOP_JOBS_S);
    sdw_server_close(serve->server, STOP_STREAMS_S);
    serve->server = NULL;
    sdw_heartbeat_status(serve->heartbeat, "stopped");
    sdw_heartbeat_close(serve->heartbeat, STOP_QUEEN_S);
    serve->heartbeat = NULL;
    if (!ended) {
        sdw_log_info("stopped in the middle of a step");
        _exit(0); /* the step would take longer than a hive waits; nothing of it is worth saving */
    }
    return SDW_OK;
}

static enum sdw_status serve_all(const struct sdw_options *options, const char *backend,
                                 struct sdw_error *err)
{
    struct serve serve = {.options = options,
                          .loading = "model loading",
                          .loaded = -1,
                          .backend = backend,
                          .lock = PTHREAD_MUTEX_INITIALIZER,
                          .changed = PTHREAD_COND_INITIALIZER};
    sdw_image_pixels_limit_set(options->image_pixels_max);
    sdw_log_json_set(strcmp(options->log_format, "json") == 0);
    enum sdw_status status = options->log_file ? sdw_log_open(options->log_file, err) : SDW_OK;
    if (!status)
        status = sdw_access_read(&serve.access, options, err);
    if (!status)
        status = start_signals(&serve, err);
    if (!status)
        status = run(&serve, err);
    sdw_heartbeat_close(serve.heartbeat, STOP_QUEEN_S);
    sdw_server_close(serve.server, 0);
    sdw_jobs_close(serve.jobs);
    sdw_session_close(&serve.session);
    sdw_access_free(&serve.access);
    for (int i = 0; i < MODELS_MAX; i++)
        free((char *)serve.models[i].id);
    if (!status)
        sdw_log_info("stopped");
    return status;
}

int sdw_command_serve(int argc, char **argv, const char *backend)
{
    struct sdw_options options;
    struct sdw_error err;
    enum sdw_status status =
        sdw_options_read(&options, SDW_COMMAND_SERVE, argc, argv, NULL, NULL, &err);
    if (!status && !sdw_command_informed(&options, SDW_COMMAND_SERVE, backend))
        status = serve_all(&options, backend, &err);
    sdw_options_free(&options);
    return status ? sdw_command_fail(backend, &err) : 0;
}
