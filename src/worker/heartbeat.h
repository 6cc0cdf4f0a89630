/* heartbeat.h: tells a queen how this worker does.
 *
 * A thread of its own posts the worker object to {queen_url}/v1/worker-heartbeat: at once, at each
 * change of status, and every 30 s. Only a 2xx whose body is JSON with "status":"ok" counts; a
 * failure is tried again after 0, 2, 4, 8 and 16 s and from then on at every interval, is logged
 * once, and disturbs nobody else. */
#ifndef SDW_WORKER_HEARTBEAT_H
#define SDW_WORKER_HEARTBEAT_H

#include "base/status.h"

#include <stddef.h>
#include <stdint.h>

#define SDW_HEARTBEAT_DETAIL_BYTES_MAX 256
#define SDW_HEARTBEAT_INTERVAL_S       30
#define SDW_HEARTBEAT_TIMEOUT_S        5           /* of one post */
#define SDW_HEARTBEAT_ANSWER_BYTES_MAX (64u << 10) /* of a queen's answer */

struct sdw_heartbeat;

/* Texts live as long as the heartbeat. */
struct sdw_heartbeat_options {
    const char *queen_url;    /* NULL: no heartbeats */
    const char *callback_url; /* posted to once when the status becomes "ready"; NULL: not */
    const char *worker_id, *model_id, *device, *version;
    int port;
    /* Writes what the worker is busy with ("downloading ...", at most size bytes) or "" into text,
     * which goes out as the worker's "detail"; called from the heartbeat's thread. NULL: nothing.
     */
    void (*detail)(void *context, char *text, size_t size);
    void *detail_context;
    double timeout_s; /* of one post; 0: SDW_HEARTBEAT_TIMEOUT_S */
    double second_s; /* how long a second of the schedule is; 0: one second. Tests are in a hurry */
};

/* Posts "starting" from its thread. With neither URL *out is NULL, which all calls allow. */
enum sdw_status sdw_heartbeat_open(struct sdw_heartbeat **out,
                                   const struct sdw_heartbeat_options *options,
                                   struct sdw_error *err);

/* "starting", "ready", "busy", "stopping" or "stopped": a literal; after
 * "stopping" only "stopped" counts. Returns at once. */
void sdw_heartbeat_status(struct sdw_heartbeat *heartbeat, const char *status);

/* Posts since the start that the queen has acknowledged, and that she has not. */
void sdw_heartbeat_count(struct sdw_heartbeat *heartbeat, uint64_t *heard, uint64_t *failed);

/* Posts a status that was not yet sent, once and for at most timeout_s, and frees. */
void sdw_heartbeat_close(struct sdw_heartbeat *heartbeat, double timeout_s);

#endif
