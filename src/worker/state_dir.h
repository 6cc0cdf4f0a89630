/* state_dir.h: the folder in which this worker finds its jobs again. */
#ifndef SDW_WORKER_STATE_DIR_H
#define SDW_WORKER_STATE_DIR_H

#include "base/status.h"
#include "worker/options.h"

#define SDW_STATE_DIR_MAX 3072 /* bytes of its path */

/* Into path[SDW_STATE_DIR_MAX]; "" for jobs that live in memory only: when that was asked for
 * (--state-dir :memory:), and for a worker without a name of its own, which are those on a port
 * that was picked for them and without --worker-id. Else --state-dir, or the folder of that name
 * below $XDG_STATE_HOME/sd-worker (~/.local/state/sd-worker). */
enum sdw_status sdw_state_dir(char *path, const struct sdw_options *options, const char *worker_id,
                              struct sdw_error *err);

#endif
