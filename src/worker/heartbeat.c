/* heartbeat.c: see heartbeat.h. The queen may be down, slow or rude: whatever she does costs this
 * thread a few seconds and a bounded answer. */
#include "worker/heartbeat.h"

#include "base/clock.h"
#include "base/json.h"
#include "base/log.h"

#include <curl/curl.h>
#include <jansson.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const double retry_after_s[] = {0, 2, 4, 8, 16};
#define RETRIES ((int)(sizeof retry_after_s / sizeof retry_after_s[0]))

struct sdw_heartbeat {
    struct sdw_heartbeat_options options;
    char url[2048];
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    const char *status; /* this and the next three are under the lock */
    bool pending;       /* the status was not yet posted */
    bool closing, over;
    atomic_ullong heard, failed; /* posts */

    /* The thread's own. */
    CURL *curl;
    CURLM *multi;
    int failures;  /* in a row */
    bool unheard;  /* the log says that nobody listens */
    bool called;   /* the callback was posted to */
    double next_s; /* when to post again, monotonic */
};

static void put_worker(struct sdw_json *json, const struct sdw_heartbeat_options *options,
                       const char *status)
{
    char timestamp[SDW_TIMESTAMP_MAX], detail[SDW_HEARTBEAT_DETAIL_BYTES_MAX] = "";
    sdw_clock_timestamp(timestamp);
    if (options->detail)
        options->detail(options->detail_context, detail, sizeof detail);
    sdw_json_open(json, NULL, '{');
    sdw_json_open(json, "worker", '{');
    sdw_json_string(json, "id", options->worker_id);
    sdw_json_string(json, "model_id", options->model_id);
    sdw_json_string(json, "device", options->device);
    sdw_json_integer(json, "port", options->port);
    sdw_json_string(json, "status", status);
    if (*detail)
        sdw_json_string(json, "detail", detail);
    sdw_json_string(json, "implementation", "sd-worker");
    sdw_json_string(json, "version", options->version);
    sdw_json_close(json, '}');
    sdw_json_string(json, "timestamp", timestamp);
    sdw_json_close(json, '}');
}

static size_t take_answer(char *bytes, size_t one, size_t count, void *answer)
{
    return sdw_text_append(answer, bytes, one * count, NULL) ? 0 : one * count;
}

static bool is_over(struct sdw_heartbeat *heartbeat)
{
    pthread_mutex_lock(&heartbeat->lock);
    bool over = heartbeat->over;
    pthread_mutex_unlock(&heartbeat->lock);
    return over;
}

/* Lets the transfer run to its end, or until sdw_heartbeat_close has waited long enough: it wakes
 * the poll, where curl_easy_perform would sleep for a second. */
static CURLcode transfer(struct sdw_heartbeat *heartbeat)
{
    CURLcode code = CURLE_ABORTED_BY_CALLBACK;
    int running = 1, left;
    if (curl_multi_add_handle(heartbeat->multi, heartbeat->curl) != CURLM_OK)
        return CURLE_OUT_OF_MEMORY;
    while (running && !is_over(heartbeat) &&
           curl_multi_perform(heartbeat->multi, &running) == CURLM_OK)
        if (running)
            curl_multi_poll(heartbeat->multi, NULL, 0, 1000, NULL);
    CURLMsg *message = curl_multi_info_read(heartbeat->multi, &left);
    if (message && message->msg == CURLMSG_DONE)
        code = message->data.result;
    curl_multi_remove_handle(heartbeat->multi, heartbeat->curl);
    return code;
}

static bool says_ok(const struct sdw_text *answer)
{
    json_t *json = answer->length ? json_loadb(answer->data, answer->length, 0, NULL) : NULL;
    const char *status = json_string_value(json_object_get(json, "status"));
    bool ok = status && strcmp(status, "ok") == 0;
    json_decref(json);
    return ok;
}

/* One post. SDW_OK for any 2xx; *answer gets the body. */
static enum sdw_status post(struct sdw_heartbeat *heartbeat, const char *url, const char *status,
                            struct sdw_text *answer, struct sdw_error *err)
{
    const struct sdw_heartbeat_options *options = &heartbeat->options;
    struct sdw_text body;
    struct sdw_json json;
    char reason[CURL_ERROR_SIZE] = "";
    long http = 0;
    CURL *curl = heartbeat->curl;
    struct curl_slist *headers = curl_slist_append(NULL, "Content-Type: application/json");
    sdw_text_init(&body, 64u << 10);
    sdw_json_init(&json, &body);
    put_worker(&json, options, status);

    curl_easy_reset(curl);
    curl_easy_setopt(curl, CURLOPT_URL, url);
    curl_easy_setopt(curl, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(curl, CURLOPT_USERAGENT, "sd-worker");
    curl_easy_setopt(curl, CURLOPT_HTTPHEADER, headers);
    curl_easy_setopt(curl, CURLOPT_POSTFIELDS, body.data);
    curl_easy_setopt(curl, CURLOPT_POSTFIELDSIZE, (long)body.length);
    curl_easy_setopt(curl, CURLOPT_TIMEOUT_MS, (long)(options->timeout_s * 1e3));
    curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, take_answer);
    curl_easy_setopt(curl, CURLOPT_WRITEDATA, answer);
    curl_easy_setopt(curl, CURLOPT_QUICK_EXIT, 1L); /* does not wait for a resolver */
    curl_easy_setopt(curl, CURLOPT_ERRORBUFFER, reason);
    CURLcode code = json.status ? CURLE_OUT_OF_MEMORY : transfer(heartbeat);
    curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &http);
    curl_slist_free_all(headers);
    sdw_text_free(&body);
    if (code != CURLE_OK)
        return sdw_fail(err, SDW_IO, "%s", reason[0] ? reason : curl_easy_strerror(code));
    if (http < 200 || http > 299)
        return sdw_fail(err, SDW_IO, "it answers HTTP %ld", http);
    return SDW_OK;
}

static void note_success(struct sdw_heartbeat *heartbeat)
{
    if (heartbeat->unheard)
        sdw_log_info("heartbeat: %s listens again", heartbeat->options.queen_url);
    heartbeat->unheard = false;
    heartbeat->failures = 0;
    atomic_fetch_add(&heartbeat->heard, 1);
    heartbeat->next_s =
        sdw_clock_seconds() + SDW_HEARTBEAT_INTERVAL_S * heartbeat->options.second_s;
}

static void note_failure(struct sdw_heartbeat *heartbeat, const struct sdw_error *err)
{
    if (!heartbeat->unheard)
        sdw_log_warn("heartbeat: %s does not acknowledge: %s; trying again until it does",
                     heartbeat->options.queen_url, err->message);
    heartbeat->unheard = true;
    double wait_s = heartbeat->failures < RETRIES ? retry_after_s[heartbeat->failures]
                                                  : SDW_HEARTBEAT_INTERVAL_S;
    heartbeat->failures++;
    atomic_fetch_add(&heartbeat->failed, 1);
    heartbeat->next_s = sdw_clock_seconds() + wait_s * heartbeat->options.second_s;
}

static void beat(struct sdw_heartbeat *heartbeat, const char *status)
{
    struct sdw_text answer;
    struct sdw_error err = {0};
    sdw_text_init(&answer, SDW_HEARTBEAT_ANSWER_BYTES_MAX);
    enum sdw_status failed = post(heartbeat, heartbeat->url, status, &answer, &err);
    if (!failed && !says_ok(&answer))
        failed = sdw_fail(&err, SDW_IO, "its answer is not JSON with \"status\":\"ok\"");
    if (!failed)
        note_success(heartbeat);
    else if (!is_over(heartbeat)) /* else it was given up, which is not her fault */
        note_failure(heartbeat, &err);
    sdw_text_free(&answer);
}

static void call_back(struct sdw_heartbeat *heartbeat, const char *status)
{
    struct sdw_text answer;
    struct sdw_error err = {0};
    heartbeat->called = true;
    sdw_text_init(&answer, SDW_HEARTBEAT_ANSWER_BYTES_MAX);
    if (post(heartbeat, heartbeat->options.callback_url, status, &answer, &err))
        sdw_log_warn("callback: %s: %s", heartbeat->options.callback_url, err.message);
    sdw_text_free(&answer);
}

/* Waits until there is something to post. With the lock held. */
static void wait_for_cause(struct sdw_heartbeat *heartbeat)
{
    while (!heartbeat->pending && !heartbeat->closing) {
        double next_s = heartbeat->next_s;
        struct timespec until = {.tv_sec = (time_t)next_s};
        until.tv_nsec = (long)((next_s - (double)until.tv_sec) * 1e9);
        if (!heartbeat->options.queen_url)
            pthread_cond_wait(&heartbeat->changed, &heartbeat->lock);
        else if (next_s <= sdw_clock_seconds() ||
                 pthread_cond_timedwait(&heartbeat->changed, &heartbeat->lock, &until) != 0)
            return;
    }
}

static void *work(void *context)
{
    struct sdw_heartbeat *heartbeat = context;
    pthread_mutex_lock(&heartbeat->lock);
    for (;;) {
        wait_for_cause(heartbeat);
        if ((heartbeat->closing && !heartbeat->pending) || heartbeat->over)
            break;
        const char *status = heartbeat->status;
        heartbeat->pending = false;
        pthread_mutex_unlock(&heartbeat->lock);
        if (heartbeat->options.queen_url)
            beat(heartbeat, status);
        if (heartbeat->options.callback_url && !heartbeat->called && strcmp(status, "ready") == 0)
            call_back(heartbeat, status);
        pthread_mutex_lock(&heartbeat->lock);
    }
    heartbeat->over = true;
    pthread_cond_broadcast(&heartbeat->changed);
    pthread_mutex_unlock(&heartbeat->lock);
    return NULL;
}

static enum sdw_status check_url(const char *option, const char *url, struct sdw_error *err)
{
    if (!url || strncmp(url, "http://", 7) == 0 || strncmp(url, "https://", 8) == 0)
        return SDW_OK;
    return sdw_fail(err, SDW_USAGE, "%s must begin with http:// or https://, got \"%.200s\"",
                    option, url);
}

enum sdw_status sdw_heartbeat_open(struct sdw_heartbeat **out,
                                   const struct sdw_heartbeat_options *options,
                                   struct sdw_error *err)
{
    *out = NULL;
    enum sdw_status status = check_url("--queen-url", options->queen_url, err);
    if (!status)
        status = check_url("--callback-url", options->callback_url, err);
    if (status || (!options->queen_url && !options->callback_url))
        return status;
    curl_global_init(CURL_GLOBAL_DEFAULT);
    struct sdw_heartbeat *heartbeat = calloc(1, sizeof *heartbeat);
    CURL *curl = curl_easy_init();
    CURLM *multi = curl_multi_init();
    if (!heartbeat || !curl || !multi) {
        free(heartbeat);
        curl_easy_cleanup(curl);
        curl_multi_cleanup(multi);
        return sdw_fail(err, SDW_MEMORY, "no memory for the heartbeat");
    }
    heartbeat->options = *options;
    heartbeat->curl = curl;
    heartbeat->multi = multi;
    heartbeat->status = "starting";
    heartbeat->pending = true;
    if (heartbeat->options.second_s <= 0)
        heartbeat->options.second_s = 1;
    if (heartbeat->options.timeout_s <= 0)
        heartbeat->options.timeout_s = SDW_HEARTBEAT_TIMEOUT_S;
    if (options->queen_url) {
        size_t length = strlen(options->queen_url);
        while (length > 0 && options->queen_url[length - 1] == '/')
            length--;
        snprintf(heartbeat->url, sizeof heartbeat->url, "%.*s/v1/worker-heartbeat", (int)length,
                 options->queen_url);
    }
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_mutex_init(&heartbeat->lock, NULL);
    pthread_cond_init(&heartbeat->changed, &attributes);
    pthread_condattr_destroy(&attributes);
    if (pthread_create(&heartbeat->thread, NULL, work, heartbeat) != 0) {
        curl_easy_cleanup(curl);
        curl_multi_cleanup(multi);
        free(heartbeat);
        return sdw_fail(err, SDW_MEMORY, "the system gives no thread for the heartbeat");
    }
    *out = heartbeat;
    return SDW_OK;
}

void sdw_heartbeat_status(struct sdw_heartbeat *heartbeat, const char *status)
{
    if (!heartbeat)
        return;
    pthread_mutex_lock(&heartbeat->lock);
    /* A job that ends while the worker stops does not make it ready again. */
    bool late = strcmp(heartbeat->status, "stopping") == 0 && strcmp(status, "stopped") != 0;
    if (!late && strcmp(heartbeat->status, status) != 0) {
        heartbeat->status = status;
        heartbeat->pending = true;
        pthread_cond_broadcast(&heartbeat->changed);
    }
    pthread_mutex_unlock(&heartbeat->lock);
}

void sdw_heartbeat_count(struct sdw_heartbeat *heartbeat, uint64_t *heard, uint64_t *failed)
{
    *heard = heartbeat ? atomic_load(&heartbeat->heard) : 0;
    *failed = heartbeat ? atomic_load(&heartbeat->failed) : 0;
}

void sdw_heartbeat_close(struct sdw_heartbeat *heartbeat, double timeout_s)
{
    if (!heartbeat)
        return;
    double end_s = sdw_clock_seconds() + timeout_s;
    struct timespec until = {.tv_sec = (time_t)end_s};
    until.tv_nsec = (long)((end_s - (double)until.tv_sec) * 1e9);
    pthread_mutex_lock(&heartbeat->lock);
    heartbeat->closing = true;
    pthread_cond_broadcast(&heartbeat->changed);
    while (!heartbeat->over &&
           pthread_cond_timedwait(&heartbeat->changed, &heartbeat->lock, &until) == 0)
        continue;
    heartbeat->over = true; /* what is still under way is given up */
    pthread_mutex_unlock(&heartbeat->lock);
    curl_multi_wakeup(heartbeat->multi);
    pthread_join(heartbeat->thread, NULL);
    curl_easy_cleanup(heartbeat->curl);
    curl_multi_cleanup(heartbeat->multi);
    pthread_cond_destroy(&heartbeat->changed);
    pthread_mutex_destroy(&heartbeat->lock);
    free(heartbeat);
}
