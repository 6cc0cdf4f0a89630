/* pull.c: the commands about the models on this machine: `pull M`, `models`, `rm M`. */
#include "hub/cache.h"
#include "worker/command.h"
#include "worker/download.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static atomic_bool interrupted;

static void interrupt(int number)
{
    (void)number;
    atomic_store(&interrupted, true);
}

/* Reads the arguments, of which the first is *model when the command takes one. False: the exit
 * status is in *result. */
static bool begin(const char **model, enum sdw_command command, int argc, char **argv,
                  const char *backend, int *result)
{
    struct sdw_options options;
    struct sdw_error err;
    bool named = model && argc > 1 && strncmp(argv[1], "--", 2) != 0;
    if (named)
        *model = argv[1];
    if (sdw_options_read(&options, command, argc - named, argv + named, NULL, NULL, &err)) {
        *result = sdw_command_fail(backend, &err);
        return false;
    }
    bool informed = sdw_command_informed(&options, command, backend);
    sdw_options_free(&options);
    *result = 0;
    if (!informed && model && !named) {
        sdw_fail(&err, SDW_USAGE, "%s needs a model: a known name (sd-v1-5) or owner/name",
                 argv[0]);
        *result = sdw_command_fail(backend, &err);
    }
    return !informed && *result == 0;
}

int sdw_command_pull(int argc, char **argv, const char *backend)
{
    const char *model = NULL;
    char path[SDW_MODEL_PATH_MAX];
    struct sdw_error err;
    int result;
    if (!begin(&model, SDW_COMMAND_PULL, argc, argv, backend, &result))
        return result;
    struct sigaction action = {.sa_handler = interrupt};
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    struct sdw_download download = {.bar = isatty(STDERR_FILENO)};
    struct sdw_hub_progress progress = {sdw_download_show, &download, &interrupted};
    enum sdw_status status = sdw_hub_pull(path, model, &progress, &err);
    sdw_download_end(&download);
    if (status)
        return sdw_command_fail(backend, &err);
    printf("%s\n", path);
    return 0;
}

static void print_model(void *context, const struct sdw_cached_model *model)
{
    printf("%8.2f GB  %s%s\n", (double)model->bytes / 1e9, model->repository,
           model->complete ? "" : "  (not whole: `pull` goes on with it)");
    ++*(int *)context;
}

int sdw_command_models(int argc, char **argv, const char *backend)
{
    struct sdw_error err;
    int result, models = 0;
    if (!begin(NULL, SDW_COMMAND_MODELS, argc, argv, backend, &result))
        return result;
    if (sdw_cache_list(print_model, &models, &err))
        return sdw_command_fail(backend, &err);
    if (!models) {
        char cache[SDW_MODEL_PATH_MAX];
        sdw_cache_folder(cache);
        printf("no models in %s; `pull M` downloads one\n", cache);
    }
    return 0;
}

int sdw_command_rm(int argc, char **argv, const char *backend)
{
    const char *model = NULL;
    struct sdw_error err;
    int64_t bytes;
    int result;
    if (!begin(&model, SDW_COMMAND_RM, argc, argv, backend, &result))
        return result;
    if (sdw_cache_remove(model, &bytes, &err))
        return sdw_command_fail(backend, &err);
    printf("removed %s: %.2f GB are free again\n", model, (double)bytes / 1e9);
    return 0;
}
