/* session.h: a device and a loaded model, as the options ask for them: what serve, generate and
 * bench begin with. */
#ifndef SDW_WORKER_SESSION_H
#define SDW_WORKER_SESSION_H

#include "hub/download.h"
#include "pipeline/engine.h"
#include "worker/options.h"

struct sdw_session {
    struct sdw_device *dev;
    struct sdw_engine *engine;
    char path[SDW_MODEL_PATH_MAX]; /* of the model, once it was found */
    char model_id[256];            /* as people call it: the alias, the repository, or the folder */
    double load_s;
};

/* Opens the device alone: it is what can be told before the model is there. With --fallback cpu a
 * missing accelerator becomes the CPU, with a warning in the log. */
enum sdw_status sdw_session_open_device(struct sdw_session *session,
                                        const struct sdw_options *options, const char *backend,
                                        struct sdw_error *err);

/* Finds and loads the model: --model-path, else --model, else the demo model. One of the hub's that
 * is not on this machine is downloaded; `progress` hears of it, and NULL shows it on the terminal
 * or in the log. */
enum sdw_status sdw_session_load(struct sdw_session *session, const struct sdw_options *options,
                                 const struct sdw_hub_progress *progress, struct sdw_error *err);
void sdw_session_close(struct sdw_session *session);

/* The model's name as options give it, before it is loaded. */
void sdw_session_model_id(char *id, size_t size, const struct sdw_options *options);

#endif
