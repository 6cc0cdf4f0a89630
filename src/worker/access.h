/* access.h: who may come in, as the options say it, made ready for the server. */
#ifndef SDW_WORKER_ACCESS_H
#define SDW_WORKER_ACCESS_H

#include "http/server.h"
#include "worker/options.h"

#define SDW_ACCESS_NAMES_MAX      64         /* keys, and origins */
#define SDW_ACCESS_FILE_BYTES_MAX (1u << 20) /* of a file of keys, a certificate, a key */

/* Everything is owned. */
struct sdw_access {
    struct sdw_text keys, origins, cert, key; /* texts that the lists point into */
    const char *key_list[SDW_ACCESS_NAMES_MAX + 1], *origin_list[SDW_ACCESS_NAMES_MAX + 1];
};

/* Reads --api-key (several with commas between), --api-key-file (one a line, # begins a comment),
 * --cors-origin (likewise with commas), --tls-cert and --tls-key. Free it also after a failure. */
enum sdw_status sdw_access_read(struct sdw_access *access, const struct sdw_options *options,
                                struct sdw_error *err);
void sdw_access_free(struct sdw_access *access);

/* Points `server` to what was read. */
void sdw_access_fill(struct sdw_server_options *server, const struct sdw_access *access);

#endif
