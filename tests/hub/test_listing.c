/* test_listing.c: which names and numbers of a hub's listing are believed; checksums by known
 * values; which texts are repositories. */
#include "hub/cache.h"
#include "hub/listing.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#define SHA         "0123456789abcdef0123456789abcdef01234567"
#define HEAD        "{\"sha\":\"" SHA "\",\"siblings\":["
#define SMALL(name) "{\"rfilename\":\"" name "\",\"size\":1,\"blobId\":\"" SHA "\"}"
#define REST                                                                                                                                                         \
    SMALL("scheduler/scheduler_config.json")                                                                                                                         \
    "," SMALL("tokenizer/vocab.json") "," SMALL("tokenizer/merges.txt") "," SMALL("vae/config.json") "," SMALL("vae/diffusion_pytorch_model.safetensors") "," SMALL( \
        "text_encoder/config.json") "," SMALL("text_encoder/model.safetensors") "," SMALL("unet/config.json")

static const struct {
    const char *json;
    enum sdw_status status;
    const char *words; /* of the sentence, or the last chosen file */
} cases[] = {
    {HEAD REST
     "," SMALL("model_index.json") "," SMALL("unet/diffusion_pytorch_model.safetensors") "]}",
     SDW_OK, "text_encoder/model.safetensors"},
    {HEAD REST "," SMALL("model_index.json") "]}", SDW_MODEL, "safetensors for its unet"},
    {HEAD REST "]}", SDW_MODEL, "model_index.json"},
    {HEAD "]}", SDW_MODEL, "model_index.json"},
    {HEAD SMALL("pytorch_model.bin") "," SMALL("vocab.json") "," SMALL("merges.txt") "]}", SDW_OK,
     "merges.txt"},
    {HEAD SMALL("vocab.json") "]}", SDW_MODEL, "model_index.json"},
    {HEAD SMALL("/etc/passwd") "]}", SDW_FORMAT, "inside"},
    {HEAD SMALL("unet/../../x") "]}", SDW_FORMAT, "inside"},
    {HEAD SMALL("unet//x") "]}", SDW_FORMAT, "inside"},
    {HEAD SMALL("unet\\\\x") "]}", SDW_FORMAT, "inside"},
    {HEAD SMALL("a\\nb") "]}", SDW_FORMAT, "inside"},
    {HEAD SMALL("") "]}", SDW_FORMAT, "inside"},
    {HEAD "7]}", SDW_FORMAT, "inside"},
    {HEAD "{\"rfilename\":\"model_index.json\",\"size\":-1,\"blobId\":\"" SHA "\"}]}", SDW_FORMAT,
     "sound"},
    {HEAD "{\"rfilename\":\"model_index.json\",\"size\":1e3,\"blobId\":\"" SHA "\"}]}", SDW_FORMAT,
     "sound"},
    {HEAD "{\"rfilename\":\"model_index.json\",\"size\":9007199254740993,\"blobId\":\"" SHA "\"}]}",
     SDW_FORMAT, "sound"},
    {HEAD "{\"rfilename\":\"model_index.json\",\"size\":1,\"blobId\":\"../../x\"}]}", SDW_FORMAT,
     "sound"},
    {HEAD "{\"rfilename\":\"model_index.json\",\"size\":1,\"lfs\":{\"size\":1,\"sha256\":\"" SHA
          "\"}}]}",
     SDW_FORMAT, "sound"},
    {"{\"sha\":\"../../../etc\",\"siblings\":[]}", SDW_FORMAT, "no listing"},
    {"[]", SDW_FORMAT, "no listing"},
    {"", SDW_FORMAT, "no listing"},
};

static void test_cases(void **state)
{
    (void)state;
    static struct sdw_listing listing;
    struct sdw_error err;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        err.message[0] = 0;
        enum sdw_status status =
            sdw_listing_parse(&listing, cases[i].json, strlen(cases[i].json), "tiny/model", &err);
        const char *said = status ? err.message : listing.file[listing.count - 1].name;
        if (status != cases[i].status || !strstr(said, cases[i].words))
            fail_msg("case %zu: status %d, \"%s\"", i, status, said);
    }
}

/* As `git hash-object` and `sha256sum` print them. */
static void test_digests(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        bool sha256;
        const char *hex;
    } known[] = {
        {"", false, "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391"},
        {"hello world\n", false, "3b18e512dba79e4c8300dd08aeb37f8e728b8dad"},
        {"abc", true, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"},
    };
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++) {
        char hex[SDW_DIGEST_HEX_MAX];
        struct sdw_digest digest;
        sdw_digest_init(&digest, known[i].sha256, (int64_t)strlen(known[i].text));
        for (const char *c = known[i].text; *c; c++)
            sdw_digest_update(&digest, c, 1);
        sdw_digest_final(&digest, hex);
        assert_string_equal(hex, known[i].hex);
    }
}

static void test_repositories(void **state)
{
    (void)state;
    assert_true(sdw_repository_valid("stabilityai/stable-diffusion-xl-base-1.0"));
    static const char *const bad[] = {"",     "a",     "a/",     "/a",   "a/b/c", "../a", "a/..",
                                      "a/.b", "a b/c", "a/b?x=", "a/b#", "a/b\n", "a/%2e"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        assert_false(sdw_repository_valid(bad[i]));
    assert_string_equal(sdw_repository_of("SDXL"), "stabilityai/stable-diffusion-xl-base-1.0");
    assert_null(sdw_repository_of("no-such-name"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_cases), cmocka_unit_test(test_digests),
                                       cmocka_unit_test(test_repositories)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
