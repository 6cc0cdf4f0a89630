/* request.c: see request.h. */
#include "hub/request.h"

#include "base/clock.h"
#include "base/log.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define CONNECT_S  15L
#define SILENT_S   30L  /* without a byte: the connection is dead */
#define FIRST_S    0.25 /* before the second try; four times as much before each further one */
#define CANCEL_S   0.05 /* how often a wait looks at the cancel flag */
#define HEADER_MAX (SDW_TOKEN_MAX + 32)

static enum sdw_status read_token(struct sdw_hub *hub, struct sdw_error *err)
{
    const char *token = getenv("HF_TOKEN");
    char header[HEADER_MAX];
    if (!token || !*token)
        return SDW_OK;
    if (strlen(token) >= SDW_TOKEN_MAX)
        return sdw_fail(err, SDW_INVALID, "HF_TOKEN has %zu bytes, the limit is %d", strlen(token),
                        SDW_TOKEN_MAX - 1);
    for (const char *c = token; *c; c++)
        if (*c <= ' ' || *c > '~')
            return sdw_fail(err, SDW_INVALID, "HF_TOKEN has a blank or an odd character in it");
    snprintf(header, sizeof header, "Authorization: Bearer %s", token);
    hub->headers = curl_slist_append(NULL, header);
    return hub->headers ? SDW_OK : sdw_fail(err, SDW_MEMORY, "no memory for a request");
}

enum sdw_status sdw_hub_init(struct sdw_hub *hub, const char *repository,
                             const struct sdw_hub_progress *progress, struct sdw_error *err)
{
    const char *endpoint = getenv("HF_ENDPOINT"), *offline = getenv("HF_HUB_OFFLINE");
    *hub = (struct sdw_hub){.repository = repository, .progress = progress};
    if (!endpoint || !*endpoint)
        endpoint = "https://huggingface.co";
    if (offline && *offline && strcmp(offline, "0") != 0)
        return sdw_fail(
            err, SDW_UNAVAILABLE,
            "%s is not whole on this machine, and HF_HUB_OFFLINE forbids to download it",
            repository);
    if (strlen(endpoint) >= sizeof hub->endpoint ||
        (strncmp(endpoint, "https://", 8) != 0 && strncmp(endpoint, "http://", 7) != 0))
        return sdw_fail(err, SDW_INVALID,
                        "HF_ENDPOINT must be an http or https address, got \"%.200s\"", endpoint);
    snprintf(hub->endpoint, sizeof hub->endpoint, "%s", endpoint);
    for (size_t n = strlen(hub->endpoint); n > 0 && hub->endpoint[n - 1] == '/'; n--)
        hub->endpoint[n - 1] = 0;
    if (curl_global_init(CURL_GLOBAL_DEFAULT))
        return sdw_fail(err, SDW_INTERNAL, "libcurl does not start");
    return read_token(hub, err);
}

void sdw_hub_free(struct sdw_hub *hub)
{
    curl_slist_free_all(hub->headers);
    hub->headers = NULL;
}

bool sdw_hub_cancelled(const struct sdw_hub *hub)
{
    return hub->progress && hub->progress->cancel && atomic_load(hub->progress->cancel);
}

CURL *sdw_request_new(const struct sdw_hub *hub, const char *url)
{
    CURL *request = curl_easy_init();
    if (!request)
        return NULL;
    curl_easy_setopt(request, CURLOPT_URL, url);
    curl_easy_setopt(request, CURLOPT_USERAGENT, "sd-worker/" SDW_VERSION);
    /* libcurl leaves a header called Authorization out when a redirect leads to another host. */
    curl_easy_setopt(request, CURLOPT_HTTPHEADER, hub->headers);
    curl_easy_setopt(request, CURLOPT_UNRESTRICTED_AUTH, 0L);
    curl_easy_setopt(request, CURLOPT_FAILONERROR, 1L); /* no bodies of errors */
    curl_easy_setopt(request, CURLOPT_FOLLOWLOCATION, 1L);
    curl_easy_setopt(request, CURLOPT_MAXREDIRS, (long)SDW_REDIRECTS_MAX);
#if LIBCURL_VERSION_NUM >= 0x075500
    curl_easy_setopt(request, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(request, CURLOPT_REDIR_PROTOCOLS_STR, "http,https");
#else
    curl_easy_setopt(request, CURLOPT_PROTOCOLS, (long)(CURLPROTO_HTTP | CURLPROTO_HTTPS));
    curl_easy_setopt(request, CURLOPT_REDIR_PROTOCOLS, (long)(CURLPROTO_HTTP | CURLPROTO_HTTPS));
#endif
    curl_easy_setopt(request, CURLOPT_CONNECTTIMEOUT, CONNECT_S);
    curl_easy_setopt(request, CURLOPT_LOW_SPEED_LIMIT, 1L);
    curl_easy_setopt(request, CURLOPT_LOW_SPEED_TIME, SILENT_S);
    curl_easy_setopt(request, CURLOPT_NOSIGNAL, 1L);
    return request;
}

/* The sentence for an answer that will not change by asking again. */
static void refused(const struct sdw_hub *hub, long code, const char *what, struct sdw_error *err)
{
    const char *repository = hub->repository;
    if (code == 401)
        sdw_fail(
            err, SDW_UNAUTHORIZED,
            "the hub answers 401 for %s of %s: the model is gated, private or not there; accept "
            "its licence at %s/%s and set HF_TOKEN to a token of yours",
            what, repository, hub->endpoint, repository);
    else if (code == 403)
        sdw_fail(err, SDW_FORBIDDEN,
                 "the hub answers 403 for %s of %s: accept the model's licence at %s/%s, and set "
                 "HF_TOKEN to a token that may read gated models",
                 what, repository, hub->endpoint, repository);
    else if (code == 404)
        sdw_fail(err, SDW_NOT_FOUND, "the hub answers 404: %s has no %s of %s", hub->endpoint, what,
                 repository);
    else if (code == 429)
        sdw_fail(
            err, SDW_UNAVAILABLE,
            "the hub answers 429 (too many requests) for %s of %s, again and again; try later, "
            "what has arrived is kept",
            what, repository);
    else
        sdw_fail(err, SDW_UNAVAILABLE, "the hub answers %ld for %s of %s; what has arrived is kept",
                 code, what, repository);
}

static bool is_offline(CURLcode result)
{
    return result == CURLE_COULDNT_RESOLVE_HOST || result == CURLE_COULDNT_CONNECT ||
           result == CURLE_COULDNT_RESOLVE_PROXY;
}

/* What a further try cannot mend. */
static bool is_final(CURLcode result)
{
    return result == CURLE_TOO_MANY_REDIRECTS || result == CURLE_UNSUPPORTED_PROTOCOL ||
           result == CURLE_URL_MALFORMAT || result == CURLE_PEER_FAILED_VERIFICATION ||
           result == CURLE_SSL_CACERT_BADFILE || result == CURLE_OUT_OF_MEMORY;
}

double sdw_request_again(const struct sdw_hub *hub, CURL *request, CURLcode result, int tries,
                         const char *what, struct sdw_error *err)
{
    long code = 0;
    curl_off_t after_s = 0;
    curl_easy_getinfo(request, CURLINFO_RESPONSE_CODE, &code);
    curl_easy_getinfo(request, CURLINFO_RETRY_AFTER, &after_s);
    double wait_s = FIRST_S;
    for (int i = 1; i < tries; i++)
        wait_s *= 4;
    bool again = tries < SDW_REQUEST_TRIES_MAX;
    if (code >= 400) {
        if (after_s > 0)
            wait_s = (double)after_s;
        again = again && (code == 408 || code == 429 || code >= 500) &&
                after_s <= SDW_RETRY_AFTER_MAX_S;
        if (!again)
            refused(hub, code, what, err);
    } else if (is_offline(result)) {
        /* A first request that finds nobody means no network; later ones, a break in it. */
        again = again && tries > 1;
        if (!again)
            sdw_fail(
                err, SDW_UNAVAILABLE,
                "cannot reach the hub at %s for %s of %s (%s): this machine seems to be offline; "
                "what has arrived is kept",
                hub->endpoint, what, hub->repository, curl_easy_strerror(result));
    } else {
        again = again && !is_final(result);
        if (!again)
            sdw_fail(err, SDW_UNAVAILABLE,
                     "%s of %s did not come from %s: %s; what has arrived is kept", what,
                     hub->repository, hub->endpoint, curl_easy_strerror(result));
    }
    if (!again)
        return -1;
    sdw_log_info("hub: %s of %s: %s %ld, again in %.2f s", what, hub->repository,
                 code >= 400 ? "answer" : curl_easy_strerror(result), code, wait_s);
    return wait_s;
}

static size_t append(char *bytes, size_t size, size_t count, void *context)
{
    return sdw_text_append(context, bytes, size * count, NULL) ? 0 : size * count;
}

static int stop_when_cancelled(void *context, curl_off_t a, curl_off_t b, curl_off_t c,
                               curl_off_t d)
{
    (void)a, (void)b, (void)c, (void)d;
    return sdw_hub_cancelled(context);
}

static void wait_for(const struct sdw_hub *hub, double wait_s)
{
    double end = sdw_clock_seconds() + wait_s;
    struct timespec nap = {.tv_nsec = (long)(CANCEL_S * 1e9)};
    while (sdw_clock_seconds() < end && !sdw_hub_cancelled(hub))
        nanosleep(&nap, NULL);
}

enum sdw_status sdw_request_text(const struct sdw_hub *hub, struct sdw_text *body, const char *url,
                                 struct sdw_error *err)
{
    CURL *request = sdw_request_new(hub, url);
    if (!request)
        return sdw_fail(err, SDW_MEMORY, "no memory for a request");
    curl_easy_setopt(request, CURLOPT_WRITEFUNCTION, append);
    curl_easy_setopt(request, CURLOPT_WRITEDATA, body);
    curl_easy_setopt(request, CURLOPT_XFERINFOFUNCTION, stop_when_cancelled);
    curl_easy_setopt(request, CURLOPT_XFERINFODATA, (void *)hub);
    curl_easy_setopt(request, CURLOPT_NOPROGRESS, 0L);
    struct sdw_error sentence = {.status = SDW_IO};
    enum sdw_status status = SDW_OK;
    for (int tries = 1;; tries++) {
        long code = 0;
        sdw_text_free(body);
        CURLcode result = curl_easy_perform(request);
        curl_easy_getinfo(request, CURLINFO_RESPONSE_CODE, &code);
        if (result == CURLE_OK && code == 200)
            break;
        double wait_s = -1;
        if (sdw_hub_cancelled(hub))
            sdw_fail(&sentence, SDW_CANCELLED, "the download of %s was stopped", hub->repository);
        else if (result == CURLE_WRITE_ERROR && code == 200)
            sdw_fail(&sentence, SDW_TOO_LARGE,
                     "the hub's listing of %s has more than %zu bytes, the limit", hub->repository,
                     body->bytes_max);
        else
            wait_s = sdw_request_again(hub, request, result, tries, "the listing", &sentence);
        if (wait_s < 0) {
            status = sdw_fail(err, sentence.status, "%s", sentence.message);
            break;
        }
        wait_for(hub, wait_s);
    }
    curl_easy_cleanup(request);
    return status;
}
