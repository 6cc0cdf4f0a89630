/* stand_in.c: see stand_in.h. Large files are answered, as the true hub does, by a redirect to
 * another host: here the same machine under its other name. */
#include "stand_in.h"

#include "hub/digest.h"

#include <assert.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define LISTING_MAX 65536

static const struct {
    const char *name;
    int size;
    int large, wanted;
} files[] = {
    {"README.md", 100, 0, 0},
    {"model_index.json", 400, 0, 1},
    {"scheduler/scheduler_config.json", 300, 0, 1},
    {"tokenizer/vocab.json", 5000, 0, 1},
    {"tokenizer/merges.txt", 0, 0, 1},
    {"text_encoder/config.json", 200, 0, 1},
    {"text_encoder/model.safetensors", 70000, 1, 1},
    {"text_encoder/pytorch_model.bin", 70000, 1, 0},
    {"unet/config.json", 128, 0, 1},
    {STAND_IN_WEIGHTS, STAND_IN_BIG_BYTES, 1, 1},
    {"unet/diffusion_pytorch_model.safetensors", 2 * STAND_IN_BIG_BYTES, 1, 0},
    {"vae/config.json", 55, 0, 1},
    {"vae/diffusion_pytorch_model.safetensors.index.json", 800, 0, 1},
    {"vae/diffusion_pytorch_model-00001-of-00002.safetensors", 9000, 1, 1},
    {"vae/diffusion_pytorch_model-00002-of-00002.safetensors", 8000, 1, 1},
    {"safety_checker/model.safetensors", 60000, 1, 0},
    {"v1-5-pruned.ckpt", 60000, 1, 0},
};
#define FILES (sizeof files / sizeof files[0])

/* The byte at `at` of file number `file`. */
static unsigned char byte_at(size_t file, size_t at)
{
    return (unsigned char)((at * 2654435761u >> 11) + file * 17);
}

static void digest_of(char *hex, size_t file)
{
    struct sdw_digest digest;
    sdw_digest_init(&digest, files[file].large, files[file].size);
    for (int at = 0; at < files[file].size; at++) {
        unsigned char byte = byte_at(file, (size_t)at);
        sdw_digest_update(&digest, &byte, 1);
    }
    sdw_digest_final(&digest, hex);
}

/* Made once: the sums take longer than a download. */
static char listing[LISTING_MAX];
static size_t listing_length;

static size_t write_listing(char *text)
{
    char hex[SDW_DIGEST_HEX_MAX];
    size_t n = (size_t)sprintf(text, "{\"id\":\"tiny/model\",\"sha\":\"%s\",\"siblings\":[",
                               STAND_IN_COMMIT);
    for (size_t i = 0; i < FILES; i++) {
        digest_of(hex, i);
        n += (size_t)sprintf(text + n, "%s{\"rfilename\":\"%s\",\"size\":%d,", i ? "," : "",
                             files[i].name, files[i].size);
        if (files[i].large)
            n += (size_t)sprintf(text + n,
                                 "\"blobId\":\"%s\",\"lfs\":{\"sha256\":\"%s\",\"size\":%d}}",
                                 STAND_IN_COMMIT, hex, files[i].size);
        else
            n += (size_t)sprintf(text + n, "\"blobId\":\"%s\"}", hex);
    }
    return n + (size_t)sprintf(text + n, "]}");
}

struct answer {
    size_t file, from, stop_at, wrong_at;
};

static ssize_t give(void *context, uint64_t at, char *to, size_t room)
{
    const struct answer *answer = context;
    if (at >= answer->stop_at)
        return MHD_CONTENT_READER_END_WITH_ERROR;
    if (room > answer->stop_at - at)
        room = answer->stop_at - (size_t)at;
    for (size_t i = 0; i < room; i++) {
        size_t place = answer->from + (size_t)at + i;
        to[i] = (char)(byte_at(answer->file, place) ^ (place == answer->wrong_at));
    }
    return (ssize_t)room;
}

static enum MHD_Result reply(struct MHD_Connection *connection, unsigned code,
                             struct MHD_Response *response)
{
    enum MHD_Result result = MHD_queue_response(connection, code, response);
    MHD_destroy_response(response);
    return result;
}

static enum MHD_Result reply_text(struct MHD_Connection *connection, unsigned code,
                                  const char *text, size_t length, const char *header,
                                  const char *value)
{
    struct MHD_Response *response =
        MHD_create_response_from_buffer(length, (void *)text, MHD_RESPMEM_MUST_COPY);
    if (header)
        MHD_add_response_header(response, header, value);
    return reply(connection, code, response);
}

static enum MHD_Result reply_file(struct stand_in *hub, struct MHD_Connection *connection,
                                  size_t file, enum fault fault)
{
    size_t size = (size_t)files[file].size, from = 0;
    char value[64];
    const char *range = MHD_lookup_connection_value(connection, MHD_HEADER_KIND, "Range");
    if (range)
        hub->ranges++;
    if (range && fault != FAULT_WHOLE)
        from = strtoul(range + strlen("bytes="), NULL, 10);
    if (from > size)
        return reply_text(connection, 416, "", 0, NULL, NULL);
    struct answer *answer = malloc(sizeof *answer);
    size_t length = size - from + (fault == FAULT_ENDLESS ? 1000 : 0);
    *answer = (struct answer){file, from, fault == FAULT_BREAK ? length / 2 : length,
                              fault == FAULT_WRONG ? size / 2 : SIZE_MAX};
    struct MHD_Response *response =
        MHD_create_response_from_callback(length, 65536, give, answer, free);
    snprintf(value, sizeof value, "bytes %zu-%zu/%zu", from, size - 1, size);
    if (from)
        MHD_add_response_header(response, "Content-Range", value);
    return reply(connection, from ? 206 : 200, response);
}

static bool ends_with(const char *text, const char *end)
{
    size_t n = strlen(text), m = strlen(end);
    return n >= m && strcmp(text + n - m, end) == 0;
}

static enum MHD_Result answer_one(struct stand_in *hub, struct MHD_Connection *connection,
                                  const char *url)
{
    enum fault fault = FAULT_NONE;
    char text[1024];
    bool elsewhere = strncmp(url, "/elsewhere/", 11) == 0;
    hub->requests++;
    if (MHD_lookup_connection_value(connection, MHD_HEADER_KIND, "Authorization"))
        (*(elsewhere ? &hub->tokens_elsewhere : &hub->tokens))++;
    if (hub->where && ends_with(url, hub->where) && hub->times > 0) {
        fault = hub->fault;
        if (fault == FAULT_CODE || elsewhere || !strstr(url, ".safetensors"))
            hub->times--;
    }
    if (fault == FAULT_CODE) {
        snprintf(text, sizeof text, "%d", hub->retry_after_s);
        return reply_text(connection, (unsigned)hub->code, "no", 2,
                          hub->retry_after_s ? "Retry-After" : NULL, text);
    }
    if (strcmp(url, "/api/models/tiny/model/revision/main") == 0) {
        if (hub->listing)
            return reply_text(connection, 200, hub->listing, hub->listing_length, NULL, NULL);
        return reply_text(connection, 200, listing, listing_length, NULL, NULL);
    }
    for (size_t i = 0; i < FILES; i++) {
        char wanted[256];
        snprintf(wanted, sizeof wanted, "/tiny/model/resolve/" STAND_IN_COMMIT "/%s",
                 files[i].name);
        if (!ends_with(url, wanted))
            continue;
        if (!files[i].wanted)
            snprintf(hub->unwanted, sizeof hub->unwanted, "%s", files[i].name);
        snprintf(text, sizeof text, "http://localhost:%d/elsewhere%s", hub->port, url);
        if (files[i].large && !elsewhere)
            return reply_text(connection, 302, "", 0, "Location", text);
        return reply_file(hub, connection, i, fault);
    }
    return reply_text(connection, 404, "no", 2, NULL, NULL);
}

static enum MHD_Result answer(void *context, struct MHD_Connection *connection, const char *url,
                              const char *method, const char *version, const char *data,
                              size_t *data_length, void **state)
{
    (void)method, (void)version, (void)data, (void)data_length, (void)state;
    struct stand_in *hub = context;
    pthread_mutex_lock(&hub->lock);
    enum MHD_Result result = answer_one(hub, connection, url);
    pthread_mutex_unlock(&hub->lock);
    return result;
}

void stand_in_list(struct stand_in *hub, const char *text, size_t length)
{
    pthread_mutex_lock(&hub->lock);
    hub->listing = text;
    hub->listing_length = length;
    pthread_mutex_unlock(&hub->lock);
}

/* On a port of its own, which the hub's client is told. */
static void open_door(struct stand_in *hub)
{
    char endpoint[64];
    hub->daemon = MHD_start_daemon(MHD_USE_INTERNAL_POLLING_THREAD | MHD_USE_THREAD_PER_CONNECTION,
                                   0, NULL, NULL, answer, hub, MHD_OPTION_END);
    assert(hub->daemon);
    hub->port = MHD_get_daemon_info(hub->daemon, MHD_DAEMON_INFO_BIND_PORT)->port;
    snprintf(endpoint, sizeof endpoint, "http://127.0.0.1:%d/", hub->port);
    setenv("HF_ENDPOINT", endpoint, 1);
}

void stand_in_start(struct stand_in *hub)
{
    *hub = (struct stand_in){.lock = PTHREAD_MUTEX_INITIALIZER};
    if (!listing_length)
        listing_length = write_listing(listing);
    open_door(hub);
}

/* A broken download leaves requests behind, in threads and in the port's queue: the next one gets
 * another port, so that none of them takes its fault. */
void stand_in_misbehave(struct stand_in *hub, const char *where, enum fault fault, int times,
                        int code, int retry_after_s)
{
    MHD_stop_daemon(hub->daemon);
    hub->where = where;
    hub->fault = fault;
    hub->code = code;
    hub->retry_after_s = retry_after_s;
    hub->times = times;
    open_door(hub);
}

void stand_in_stop(struct stand_in *hub)
{
    MHD_stop_daemon(hub->daemon);
}
