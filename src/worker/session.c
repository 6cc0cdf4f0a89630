/* session.c: see session.h. */
#include "worker/session.h"

#include "backend/registry.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/pool.h"
#include "hub/cache.h"
#include "worker/download.h"
#include "worker/vocabulary.h"

#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* The model in the repository: beside the caller, or where this program was built. */
static const char *demo_model(void)
{
    static const char beside[] = "models/demo";
    return access(beside, F_OK) == 0 ? beside : SDW_DEMO_MODEL;
}

static enum sdw_dtype dtype_named(const char *name)
{
    for (int i = 0; name && i < SDW_DTYPE_COUNT; i++)
        if (strcmp(sdw_dtype_name((enum sdw_dtype)i), name) == 0)
            return (enum sdw_dtype)i;
    return SDW_DTYPE_COUNT; /* the device's best */
}

enum sdw_status sdw_session_open_device(struct sdw_session *session,
                                        const struct sdw_options *options, const char *backend,
                                        struct sdw_error *err)
{
    *session = (struct sdw_session){0};
    sdw_pool_threads_set((int)options->threads);
    if (options->verbose)
        sdw_log_level_set(SDW_LOG_DEBUG);
    struct sdw_device_options wanted = {
        .index = (int)options->device, .dtype = dtype_named(options->dtype), .isa = options->isa};
    enum sdw_status status = sdw_device_open(&session->dev, backend, &wanted, err);
    if (status == SDW_DEVICE && options->fallback && strcmp(backend, "cpu") != 0) {
        sdw_log_warn("%s; running on the CPU, as --fallback cpu asks", err->message);
        wanted.index = 0;
        status = sdw_device_open(&session->dev, "cpu", &wanted, err);
    }
    if (!status)
        sdw_log_info("device %s: %s, %s", session->dev->id, session->dev->description,
                     sdw_dtype_name(session->dev->compute));
    return status;
}

static bool is_file(const char *path)
{
    struct stat info;
    return stat(path, &info) == 0 && S_ISREG(info.st_mode);
}

/* What people call a checkpoint: its name without folder and ending. */
static void file_stem(char *stem, size_t size, const char *path)
{
    const char *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path,
               *dot = strrchr(name, '.');
    snprintf(stem, size, "%.*s", dot > name ? (int)(dot - name) : (int)strlen(name), name);
}

void sdw_session_model_id(char *id, size_t size, const struct sdw_options *options)
{
    const char *model = options->model        ? options->model
                        : options->model_path ? options->model_path
                                              : "demo";
    const struct sdw_catalogue_row *row = sdw_catalogue_find(model);
    if (row)
        snprintf(id, size, "%.*s", (int)strcspn(row->aliases, " "), row->aliases);
    else if (is_file(model))
        file_stem(id, size, model);
    else
        snprintf(id, size, "%s", model);
}

/* Where the model lies, after a download when that is what it takes. */
static enum sdw_status find_model(char *folder, const char *model,
                                  const struct sdw_hub_progress *progress, struct sdw_error *err)
{
    enum sdw_status status = sdw_model_locate(folder, model, err);
    if (status != SDW_NOT_FOUND || !sdw_repository_of(model))
        return status;
    struct sdw_download download = {.bar = isatty(STDERR_FILENO)};
    struct sdw_hub_progress shown = {.tell = sdw_download_show, .context = &download};
    status = sdw_hub_pull(folder, model, progress ? progress : &shown, err);
    sdw_download_end(&download);
    return status;
}

enum sdw_status sdw_session_load(struct sdw_session *session, const struct sdw_options *options,
                                 const struct sdw_hub_progress *progress, struct sdw_error *err)
{
    char *path = session->path;
    double start = sdw_clock_seconds();
    const char *model = options->model_path ? options->model_path : options->model;
    enum sdw_status status = find_model(path, model ? model : demo_model(), progress, err);
    if (status)
        return status;
    sdw_session_model_id(session->model_id, sizeof session->model_id, options);
    const struct sdw_catalogue_row *row =
        options->model ? sdw_catalogue_find(options->model) : NULL;
    struct sdw_engine_options wanted = {
        .source = {.path = path, .vae = options->vae, .prediction_type = options->prediction_type},
        .model_id = session->model_id,
        .steps = row ? row->steps : 0,
        .guidance_scale = row ? row->guidance_scale : -1};
    char tokenizer[SDW_MODEL_PATH_MAX];
    if (options->tokenizer)
        status = sdw_vocabulary_in(tokenizer, options->tokenizer, err);
    else if (is_file(path))
        status = sdw_vocabulary_find(tokenizer, path, err);
    if (status)
        return status;
    if (options->tokenizer || is_file(path))
        wanted.tokenizer = tokenizer;
    status = sdw_engine_open(&session->engine, session->dev, &wanted, err);
    session->load_s = sdw_clock_seconds() - start;
    return status;
}

void sdw_session_close(struct sdw_session *session)
{
    sdw_engine_close(session->engine);
    sdw_device_close(session->dev);
    *session = (struct sdw_session){0};
}
