/* test_download.c: every way in which a download goes on, and every way in which it ends. After
 * each failure the cache must hold no model, and the next call must succeed. */
#include "base/log.h"
#include "hub/cache.h"
#include "hub/download.h"
#include "stand_in.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#define MODEL "tiny/model"

static char cache[64], path[SDW_MODEL_PATH_MAX];
static struct stand_in hub;
static struct sdw_error err;

static int setup(void **state)
{
    (void)state;
    strcpy(cache, "/tmp/sdw-hub-XXXXXX");
    assert_non_null(mkdtemp(cache));
    stand_in_start(&hub);
    setenv("HF_HUB_CACHE", cache, 1);
    setenv("NO_PROXY", "*", 1);
    unsetenv("HF_TOKEN");
    unsetenv("HF_HUB_OFFLINE");
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    int64_t bytes;
    stand_in_stop(&hub);
    sdw_cache_remove(MODEL, &bytes, NULL);
    return rmdir(cache); /* nothing else was left behind */
}

static int64_t size_of(const char *file)
{
    char name[SDW_MODEL_PATH_MAX + 128];
    struct stat info;
    snprintf(name, sizeof name, "%s/%s", path, file);
    return stat(name, &info) ? -1 : info.st_size;
}

static void assert_pulled(void)
{
    char located[SDW_MODEL_PATH_MAX];
    if (sdw_hub_pull(path, MODEL, NULL, &err))
        fail_msg("%s", err.message);
    assert_int_equal(sdw_model_locate(located, MODEL, &err), SDW_OK);
    assert_string_equal(located, path);
    assert_int_equal(size_of(STAND_IN_WEIGHTS), STAND_IN_BIG_BYTES);
    assert_int_equal(size_of("tokenizer/merges.txt"), 0);
    assert_int_equal(size_of("vae/diffusion_pytorch_model-00002-of-00002.safetensors"), 8000);
    assert_int_equal(size_of("README.md"), -1);
    assert_int_equal(size_of("unet/diffusion_pytorch_model.safetensors"), -1);
    assert_string_equal(hub.unwanted, "");
}

static void assert_refused(enum sdw_status status, const char *words)
{
    char located[SDW_MODEL_PATH_MAX];
    assert_int_equal(sdw_hub_pull(path, MODEL, NULL, &err), status);
    assert_int_equal(err.status, status);
    if (!strstr(err.message, words))
        fail_msg("\"%s\" does not say \"%s\"", err.message, words);
    assert_int_equal(sdw_model_locate(located, MODEL, &err), SDW_NOT_FOUND);
}

struct seen {
    int calls, files_total, files_done;
    int64_t bytes_done, bytes_total;
};

static void see(void *context, const struct sdw_hub_state *state)
{
    struct seen *seen = context;
    assert_true(state->bytes_done <= state->bytes_total);
    *seen = (struct seen){seen->calls + 1, state->files_total, state->files_done, state->bytes_done,
                          state->bytes_total};
}

static void test_pull(void **state)
{
    (void)state;
    struct seen seen = {0};
    struct sdw_hub_progress progress = {.tell = see, .context = &seen};
    assert_int_equal(sdw_hub_pull(path, MODEL, &progress, &err), SDW_OK);
    assert_true(seen.calls > 0);
    assert_int_equal(seen.files_done, 12);
    assert_int_equal(seen.files_total, 12);
    assert_int_equal(seen.bytes_done, seen.bytes_total);
    assert_pulled();
    assert_int_equal(hub.requests,
                     1 + 12 - 1 + 4 + 1); /* no request for an empty file; 4 redirects */
    assert_int_equal(hub.tokens, 0);
}

static void test_token(void **state)
{
    (void)state;
    setenv("HF_TOKEN", "hf_secret", 1);
    assert_pulled();
    assert_int_equal(hub.tokens, 12);
    assert_int_equal(hub.tokens_elsewhere, 0);
    setenv("HF_TOKEN", "two\nlines", 1);
    assert_int_equal(sdw_hub_pull(path, MODEL, NULL, &err), SDW_INVALID);
}

/* Twice broken within one call: each try goes on where the one before it ended. */
static void test_broken(void **state)
{
    (void)state;
    stand_in_misbehave(&hub, STAND_IN_WEIGHTS, FAULT_BREAK, 2, 0, 0);
    assert_pulled();
    assert_true(hub.ranges >= 2);
}

/* Broken for good; the next call goes on. */
static void test_resumed(void **state)
{
    (void)state;
    stand_in_misbehave(&hub, STAND_IN_WEIGHTS, FAULT_CODE, 1, 403, 0);
    assert_refused(SDW_FORBIDDEN, "403");
    struct rlimit limit, whole;
    getrlimit(RLIMIT_FSIZE, &whole);
    limit = (struct rlimit){STAND_IN_BIG_BYTES / 2, whole.rlim_max};
    setrlimit(RLIMIT_FSIZE, &limit);
    assert_refused(SDW_IO, "make room");
    setrlimit(RLIMIT_FSIZE, &whole);
    assert_int_equal(hub.ranges, 0);
    assert_pulled();
    assert_int_equal(hub.ranges, 1);
}

/* What lies in the partial file is not what it should be: found out, and loaded afresh. */
static void test_spoilt_partial(void **state)
{
    (void)state;
    stand_in_misbehave(&hub, STAND_IN_WEIGHTS, FAULT_CODE, 1, 403, 0);
    assert_refused(SDW_FORBIDDEN, "licence");
    char command[256];
    snprintf(command, sizeof command,
             "for f in %s/models--tiny--model/blobs/*.incomplete; do printf spoilt >$f; done",
             cache);
    assert_int_equal(system(command), 0);
    assert_pulled();
}

static void test_range_ignored(void **state)
{
    (void)state;
    struct rlimit limit, whole;
    getrlimit(RLIMIT_FSIZE, &whole);
    limit = (struct rlimit){STAND_IN_BIG_BYTES / 2, whole.rlim_max};
    setrlimit(RLIMIT_FSIZE, &limit);
    assert_refused(SDW_IO, "stopped after");
    setrlimit(RLIMIT_FSIZE, &whole);
    stand_in_misbehave(&hub, STAND_IN_WEIGHTS, FAULT_WHOLE, 1, 0, 0);
    assert_pulled();
}

static void test_wrong_once(void **state)
{
    (void)state;
    stand_in_misbehave(&hub, STAND_IN_WEIGHTS, FAULT_WRONG, 1, 0, 0);
    assert_pulled();
}

static void test_wrong_always(void **state)
{
    (void)state;
    stand_in_misbehave(&hub, STAND_IN_WEIGHTS, FAULT_WRONG, 2, 0, 0);
    assert_refused(SDW_FORMAT, "wrong checksum");
    assert_pulled();
}

static void test_wrong_small(void **state)
{
    (void)state;
    stand_in_misbehave(&hub, "unet/config.json", FAULT_WRONG, 2, 0, 0);
    assert_refused(SDW_FORMAT, "unet/config.json");
    assert_pulled();
}

static void test_endless(void **state)
{
    (void)state;
    stand_in_misbehave(&hub, STAND_IN_WEIGHTS, FAULT_ENDLESS, 2, 0, 0);
    assert_refused(SDW_FORMAT, "too many bytes");
    assert_pulled();
}

static void test_codes(void **state)
{
    (void)state;
    stand_in_misbehave(&hub, "revision/main", FAULT_CODE, 1, 401, 0);
    assert_refused(SDW_UNAUTHORIZED, "HF_TOKEN");
    stand_in_misbehave(&hub, "unet/config.json", FAULT_CODE, 1, 401, 0);
    assert_refused(SDW_UNAUTHORIZED, "licence");
    int64_t bytes;
    assert_int_equal(sdw_cache_remove(MODEL, &bytes, &err), SDW_OK);
    stand_in_misbehave(&hub, "revision/main", FAULT_CODE, 1, 404, 0);
    assert_refused(SDW_NOT_FOUND, "404");
    stand_in_misbehave(&hub, "vocab.json", FAULT_CODE, 1, 404, 0);
    assert_refused(SDW_NOT_FOUND, "vocab.json");
    stand_in_misbehave(&hub, "revision/main", FAULT_CODE, 1, 429,
                       3600); /* more than anyone waits */
    assert_refused(SDW_UNAVAILABLE, "429");
    assert_pulled();
}

static void test_waits(void **state)
{
    (void)state;
    stand_in_misbehave(&hub, "revision/main", FAULT_CODE, 1, 429, 1);
    assert_pulled();
    assert_int_equal(hub.times, 0);
}

static void test_waits_for_file(void **state)
{
    (void)state;
    stand_in_misbehave(&hub, "vae/config.json", FAULT_CODE, 1, 429, 1);
    assert_pulled();
    assert_int_equal(hub.times, 0);
}

static void test_server_error(void **state)
{
    (void)state;
    stand_in_misbehave(&hub, "config.json", FAULT_CODE, 2, 500, 0);
    assert_pulled();
    assert_int_equal(hub.times, 0);
}

static void test_offline(void **state)
{
    (void)state;
    setenv("HF_HUB_OFFLINE", "1", 1);
    assert_refused(SDW_UNAVAILABLE, "HF_HUB_OFFLINE");
    unsetenv("HF_HUB_OFFLINE");
    setenv("HF_ENDPOINT", "http://127.0.0.1:1", 1);
    assert_refused(SDW_UNAVAILABLE, "offline");
    setenv("HF_ENDPOINT", "file:///etc", 1);
    assert_refused(SDW_INVALID, "HF_ENDPOINT");
}

static void stop(void *context, const struct sdw_hub_state *state)
{
    (void)state;
    atomic_store((atomic_bool *)context, true);
}

static void test_cancel(void **state)
{
    (void)state;
    atomic_bool cancel = false;
    struct sdw_hub_progress progress = {stop, &cancel, &cancel};
    assert_int_equal(sdw_hub_pull(path, MODEL, &progress, &err), SDW_CANCELLED);
    assert_pulled();
}

static void test_odd_listings(void **state)
{
    (void)state;
    static char large[(4 << 20) + 2];
    static const struct {
        const char *text, *words;
    } odd[] = {
        {"{\"sha\":\"" STAND_IN_COMMIT "\",\"siblings\":[{\"rfilename\":\"../../.profile\"}]}",
         "inside"},
        {"<html>", "no listing"},
    };
    for (size_t i = 0; i < sizeof odd / sizeof odd[0]; i++) {
        stand_in_list(&hub, odd[i].text, strlen(odd[i].text));
        assert_refused(SDW_FORMAT, odd[i].words);
    }
    memset(large, ' ', sizeof large);
    stand_in_list(&hub, large, sizeof large);
    assert_refused(SDW_TOO_LARGE, "4194304");
}

/* More than any disk holds is refused with both numbers before a byte of it is asked for. */
static void test_no_space(void **state)
{
    (void)state;
    static const char *const names[] = {
        "model_index.json",         "scheduler/scheduler_config.json",
        "tokenizer/vocab.json",     "tokenizer/merges.txt",
        "unet/config.json",         "unet/diffusion_pytorch_model.safetensors",
        "vae/config.json",          "vae/diffusion_pytorch_model.safetensors",
        "text_encoder/config.json", "text_encoder/model.safetensors"};
    char text[4096];
    size_t n = (size_t)sprintf(text, "{\"sha\":\"" STAND_IN_COMMIT "\",\"siblings\":[");
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        n += (size_t)sprintf(
            text + n,
            "%s{\"rfilename\":\"%s\",\"size\":1000000000000000,\"blobId\":\"" STAND_IN_COMMIT "\"}",
            i ? "," : "", names[i]);
    n += (size_t)sprintf(text + n, "]}");
    stand_in_list(&hub, text, n);
    assert_refused(SDW_IO, "needs 10000000.07 GB more");
    assert_int_equal(hub.requests, 1);
    stand_in_list(&hub, NULL, 0);
    assert_pulled();
}

static void count(void *context, const struct sdw_cached_model *model)
{
    assert_string_equal(model->repository, MODEL);
    assert_true(model->complete);
    assert_true(model->bytes > STAND_IN_BIG_BYTES);
    ++*(int *)context;
}

static void test_list_and_remove(void **state)
{
    (void)state;
    int models = 0;
    int64_t bytes = 0;
    assert_int_equal(sdw_cache_list(count, &models, &err), SDW_OK);
    assert_int_equal(models, 0);
    assert_pulled();
    assert_int_equal(sdw_cache_list(count, &models, &err), SDW_OK);
    assert_int_equal(models, 1);
    assert_int_equal(sdw_cache_remove(MODEL, &bytes, &err), SDW_OK);
    assert_true(bytes > STAND_IN_BIG_BYTES);
    assert_int_equal(sdw_cache_remove(MODEL, &bytes, &err), SDW_NOT_FOUND);
    assert_int_equal(sdw_cache_remove("../..", &bytes, &err), SDW_INVALID);
    assert_int_equal(sdw_model_locate(path, MODEL, &err), SDW_NOT_FOUND);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    signal(SIGXFSZ, SIG_IGN); /* write() then says EFBIG */
    sdw_log_level_set(SDW_LOG_ERROR);
    const struct CMUnitTest tests[] = {
        TEST(test_pull),           TEST(test_token),          TEST(test_broken),
        TEST(test_resumed),        TEST(test_spoilt_partial), TEST(test_range_ignored),
        TEST(test_wrong_once),     TEST(test_wrong_always),   TEST(test_wrong_small),
        TEST(test_endless),        TEST(test_codes),          TEST(test_waits),
        TEST(test_waits_for_file), TEST(test_server_error),   TEST(test_offline),
        TEST(test_cancel),         TEST(test_odd_listings),   TEST(test_list_and_remove),
        TEST(test_no_space),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
