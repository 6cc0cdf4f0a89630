/* request.h: one address of the hub: how a request is set up, when it is tried again, and what its
 * failure means to a person. */
#ifndef SDW_HUB_REQUEST_H
#define SDW_HUB_REQUEST_H

#include "base/status.h"
#include "base/text.h"
#include "hub/download.h"

#include <curl/curl.h>
#include <stdbool.h>

#define SDW_URL_MAX           1024 /* bytes, the NUL included */
#define SDW_REQUEST_TRIES_MAX 5
#define SDW_REDIRECTS_MAX     5
#define SDW_RETRY_AFTER_MAX_S 120 /* a server that asks for more is not waited for */
#define SDW_TOKEN_MAX         512

struct sdw_hub {
    const char *repository;
    char endpoint[SDW_URL_MAX / 2]; /* without a slash at its end */
    struct curl_slist *headers;     /* with the token, when there is one */
    const struct sdw_hub_progress *progress;
};

/* Reads the environment. */
enum sdw_status sdw_hub_init(struct sdw_hub *hub, const char *repository,
                             const struct sdw_hub_progress *progress, struct sdw_error *err);
void sdw_hub_free(struct sdw_hub *hub);
bool sdw_hub_cancelled(const struct sdw_hub *hub);

/* A handle for GET `url`: redirects bounded and to http(s) only, the token for this host alone,
 * time limits. NULL without memory. */
CURL *sdw_request_new(const struct sdw_hub *hub, const char *url);

/* Seconds to wait before trying again after a request ended with `result`; negative when that is
 * pointless, and then the sentence is in *err. `what`: the listing or a file, for the sentence;
 * tries: made so far. */
double sdw_request_again(const struct sdw_hub *hub, CURL *request, CURLcode result, int tries,
                         const char *what, struct sdw_error *err);

/* GET `url` into `body`, tried again as above. */
enum sdw_status sdw_request_text(const struct sdw_hub *hub, struct sdw_text *body, const char *url,
                                 struct sdw_error *err);

#endif
