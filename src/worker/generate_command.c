/* generate_command.c: the `generate` command: one image without a server, with a progress bar on a
 * terminal. */
#include "base/clock.h"
#include "image/png.h"
#include "worker/command.h"
#include "worker/request.h"
#include "worker/session.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define BAR_WIDTH 30

static atomic_bool interrupted;

static void on_signal(int number)
{
    (void)number;
    atomic_store(&interrupted, true);
}

struct bar {
    bool terminal;
    double start;
};

static void show_step(void *context, int step, int total)
{
    const struct bar *bar = context;
    double seconds = sdw_clock_seconds() - bar->start;
    if (!bar->terminal) {
        fprintf(stderr, "step %d of %d, %.2f s\n", step, total, seconds);
        return;
    }
    int filled = step * BAR_WIDTH / total;
    fprintf(stderr, "\r[");
    for (int i = 0; i < BAR_WIDTH; i++)
        fputc(i < filled ? '#' : '.', stderr);
    fprintf(stderr, "] %d/%d, %.1f s, %.1f s left ", step, total, seconds,
            seconds / step * (total - step));
    if (step == total)
        fputc('\n', stderr);
}

/* Opens the output before any work is done: a path that cannot be written is known at once. */
static enum sdw_status open_output(int *fd, bool *created, const char *path, struct sdw_error *err)
{
    *created = access(path, F_OK) != 0;
    *fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
    return *fd < 0 ? sdw_fail_errno(err, "cannot write %s", path) : SDW_OK;
}

static enum sdw_status write_output(int fd, const char *path, const char *png, size_t length,
                                    struct sdw_error *err)
{
    for (size_t at = 0; at < length;) {
        ssize_t n = write(fd, png + at, length - at);
        if (n < 0 && errno != EINTR)
            return sdw_fail_errno(err, "cannot write %s", path);
        at += n > 0 ? (size_t)n : 0;
    }
    if (ftruncate(fd, (off_t)length) < 0 || fsync(fd) < 0)
        return errno == EINVAL
                   ? SDW_OK
                   : sdw_fail_errno(err, "cannot write %s", path); /* a pipe cannot be cut */
    return SDW_OK;
}

/* Images after the first: PATH "cat.png" makes "cat-2.png" of the second. */
static enum sdw_status write_another(const char *path, int number, const char *png, size_t length,
                                     struct sdw_error *err)
{
    char name[PATH_MAX];
    const char *slash = strrchr(path, '/'), *dot = strrchr(path, '.');
    int stem = (int)(dot && dot > path && (!slash || dot > slash + 1) ? dot - path
                                                                      : (ssize_t)strlen(path));
    snprintf(name, sizeof name, "%.*s-%d%s", stem, path, number, path + stem);
    int fd = open(name, O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
    if (fd < 0)
        return sdw_fail_errno(err, "cannot write %s", name);
    enum sdw_status status = write_output(fd, name, png, length, err);
    close(fd);
    return status;
}

static enum sdw_status write_images(int fd, const char *path, const struct sdw_text *png,
                                    struct sdw_error *err)
{
    size_t length = sdw_png_length(png->data, png->length);
    enum sdw_status status = write_output(fd, path, png->data, length, err);
    int number = 2;
    for (size_t at = length; at < png->length && !status; at += length) {
        length = sdw_png_length(png->data + at, png->length - at);
        status = write_another(path, number++, png->data + at, length, err);
    }
    return status;
}

static enum sdw_status draw(struct sdw_session *session, struct sdw_params *params,
                            struct sdw_faults *faults, int fd, const char *path,
                            struct sdw_error *err)
{
    const struct sdw_params_defaults *defaults = sdw_engine_defaults(session->engine);
    enum sdw_status status = sdw_params_check(params, defaults, faults, err);
    if (status)
        return status;
    sdw_params_complete(params, defaults);
    struct bar bar = {isatty(STDERR_FILENO), sdw_clock_seconds()};
    struct sdw_progress progress = {.step = show_step, .context = &bar, .cancel = &interrupted};
    struct sdw_result result = {0};
    sdw_text_init(&result.png, SDW_PNG_BYTES_MAX);
    struct sdw_runner runner = sdw_engine_runner(session->engine);
    status = runner.run(runner.context, params, &progress, &result, err);
    if (!status)
        status = write_images(fd, path, &result.png, err);
    if (!status)
        printf("%s: %d x %d, seed %" PRIu64 ", %.2f s (text %.2f, unet %.2f, vae %.2f)\n", path,
               result.width, result.height, result.seed, sdw_clock_seconds() - bar.start,
               result.text_s, result.unet_s, result.vae_s);
    sdw_result_free(&result);
    return status;
}

static enum sdw_status generate(const struct sdw_options *options, struct sdw_request *request,
                                const char *backend, struct sdw_error *err)
{
    if (!request->params.prompt)
        return sdw_fail(err, SDW_USAGE, "--prompt is required; --help lists the options");
    int fd;
    bool created;
    struct sdw_session session;
    enum sdw_status status = open_output(&fd, &created, options->out, err);
    if (status)
        return status;
    status = sdw_session_open_device(&session, options, backend, err);
    if (!status)
        status = sdw_session_load(&session, options, NULL, err);
    if (!status)
        status = draw(&session, &request->params, &request->faults, fd, options->out, err);
    sdw_session_close(&session);
    close(fd);
    if (status && created)
        unlink(options->out);
    return status;
}

int sdw_command_generate(int argc, char **argv, const char *backend)
{
    struct sdw_options options;
    struct sdw_error err;
    struct sdw_request *request = calloc(1, sizeof *request);
    if (!request)
        return 1;
    signal(SIGINT, on_signal);
    signal(SIGTERM, on_signal);
    enum sdw_status status = sdw_options_read(&options, SDW_COMMAND_GENERATE, argc, argv,
                                              sdw_request_take, request, &err);
    if (!status && sdw_command_informed(&options, SDW_COMMAND_GENERATE, backend)) {
        if (options.help)
            sdw_request_print();
    } else if (!status) {
        status = generate(&options, request, backend, &err);
    }
    sdw_params_free(&request->params);
    free(request);
    sdw_options_free(&options);
    return status ? sdw_command_fail(backend, &err) : 0;
}
