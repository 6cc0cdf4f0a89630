/* state_dir.c: see state_dir.h. The worker's id tells its folder, so a hive that starts a worker
 * again with the same arguments gives it its jobs back, and two workers never share a folder
 * unless they share their name. */
#include "worker/state_dir.h"

#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char *home(void)
{
    const char *path = getenv("HOME");
    if (path && *path)
        return path;
    struct passwd *entry = getpwuid(getuid());
    return entry ? entry->pw_dir : NULL;
}

/* A worker's id may hold anything; a folder's name may not leave its parent. */
static void put_name(char *path, size_t room, const char *worker_id)
{
    size_t at = strlen(path);
    snprintf(path + at, room - at, "/%s", worker_id);
    for (char *c = path + at + 1; *c; c++)
        if (*c == '/')
            *c = '_';
    if (path[at + 1] == '.')
        path[at + 1] = '_';
}

enum sdw_status sdw_state_dir(char *path, const struct sdw_options *options, const char *worker_id,
                              struct sdw_error *err)
{
    const char *given = options->state_dir, *base = getenv("XDG_STATE_HOME"), *person = home();
    *path = 0;
    if (given && strlen(given) >= SDW_STATE_DIR_MAX)
        return sdw_fail(err, SDW_USAGE, "--state-dir must have fewer than %d bytes",
                        SDW_STATE_DIR_MAX);
    if (given) {
        strcpy(path, strcmp(given, ":memory:") == 0 ? "" : given);
        return SDW_OK;
    }
    if (options->port == 0 && !options->worker_id)
        return SDW_OK;
    if (base && *base == '/' && strlen(base) < SDW_STATE_DIR_MAX / 2)
        snprintf(path, SDW_STATE_DIR_MAX, "%s/sd-worker", base);
    else if (person && strlen(person) < SDW_STATE_DIR_MAX / 2)
        snprintf(path, SDW_STATE_DIR_MAX, "%s/.local/state/sd-worker", person);
    else
        return sdw_fail(err, SDW_USAGE,
                        "there is no home folder to keep jobs in: name one with --state-dir, or "
                        "keep them in memory with --state-dir :memory:");
    put_name(path, SDW_STATE_DIR_MAX, worker_id);
    return SDW_OK;
}
