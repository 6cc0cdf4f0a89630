/* sandbox.h: what the process gives up once the model is loaded and the port is bound, so that
 * whoever finds a hole in what reads a stranger's bytes finds little behind it.
 *
 * Landlock: no file but those under the folders named here, no TCP port to bind, and none to
 * connect to unless there is a queen. seccomp: no programs, no tracing, no mounts, no modules.
 * Nothing of it can be taken back. */
#ifndef SDW_WORKER_SANDBOX_H
#define SDW_WORKER_SANDBOX_H

#include "base/status.h"

#include <stdbool.h>

struct sdw_sandbox {
    const char *model, *vae; /* read: a folder or a file each; NULL: none */
    const char *state_dir;   /* read and written; NULL: none */
    const char *log_file;    /* made anew in its folder; NULL: none */
    bool calls;              /* connects to others: to a queen or a callback */
};

/* Whether this kernel lets a process give all of that up; SDW_UNAVAILABLE says what is missing. */
enum sdw_status sdw_sandbox_check(struct sdw_error *err);

/* Gives it up, in every thread that there is and those that will be. A failure says what is not in
 * force; the rest is. */
enum sdw_status sdw_sandbox_enter(const struct sdw_sandbox *sandbox, struct sdw_error *err);

#endif
