/* Configurations from outside: the real ones are read, broken ones are refused by a sentence, and
 * whatever is accepted, however odd, is a model that can be traced without a single assertion. */
#include "backend/trace/trace.h"
#include "model/trace.h"

#include <jansson.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

static const char *const files[] = {
    "model_index.json", "scheduler/scheduler_config.json", "unet/config.json",
    "vae/config.json",  "text_encoder/config.json",        "text_encoder_2/config.json",
};
#define FILES (sizeof files / sizeof files[0])

static char folder[] = "/tmp/sdw-test-config-XXXXXX";

static int make_folder(void **state)
{
    (void)state;
    static const char *const inner[] = {"scheduler", "unet", "vae", "text_encoder",
                                        "text_encoder_2"};
    if (!mkdtemp(folder))
        return -1;
    for (size_t i = 0; i < sizeof inner / sizeof inner[0]; i++) {
        char path[128];
        snprintf(path, sizeof path, "%s/%s", folder, inner[i]);
        if (mkdir(path, 0700) != 0)
            return -1;
    }
    return 0;
}

static int remove_folder(void **state)
{
    (void)state;
    char path[128];
    for (size_t i = 0; i < FILES; i++) {
        snprintf(path, sizeof path, "%s/%s", folder, files[i]);
        unlink(path);
        *strrchr(path, '/') = '\0';
        rmdir(path); /* succeeds with the last file of each folder */
    }
    rmdir(folder);
    return 0;
}

static json_t *load(const char *model, const char *file)
{
    char path[256];
    snprintf(path, sizeof path, "tests/model/geometry/%s/%s", model, file);
    return json_load_file(path, 0, NULL);
}

static void save(const char *file, const json_t *root)
{
    char path[256];
    snprintf(path, sizeof path, "%s/%s", folder, file);
    unlink(path);
    if (root)
        assert_int_equal(json_dump_file(root, path, JSON_ENCODE_ANY), 0);
}

/* The folder becomes a copy of a model's configuration. */
static void copy_model(const char *model)
{
    for (size_t i = 0; i < FILES; i++) {
        json_t *root = load(model, files[i]);
        save(files[i], root);
        json_decref(root);
    }
}

static struct sdw_model_config config;
static struct sdw_error err;

static enum sdw_status read_it(void)
{
    err = (struct sdw_error){0};
    return sdw_model_config_read(&config, folder, &err);
}

/* The folder's configuration with one field of one file replaced by a JSON text. */
static void replace(const char *model, const char *file, const char *key, const char *value)
{
    json_t *root = load(model, file);
    assert_non_null(root);
    assert_int_equal(json_object_set_new(root, key, json_loads(value, JSON_DECODE_ANY, NULL)), 0);
    save(file, root);
    json_decref(root);
}

static void assert_refused(const char *model, const char *file, const char *key, const char *value,
                           const char *sentence)
{
    copy_model(model);
    replace(model, file, key, value);
    if (read_it() == SDW_OK)
        fail_msg("%s: %s = %s was accepted", file, key, value);
    if (!strstr(err.message, sentence))
        fail_msg("%s: %s = %s: \"%s\" does not say \"%s\"", file, key, value, err.message,
                 sentence);
}

static void reads_sd15(void **state)
{
    (void)state;
    copy_model("sd15");
    if (read_it() != SDW_OK)
        fail_msg("%s", err.message);
    assert_int_equal(config.texts, 1);
    assert_int_equal(config.text[0].act, SDW_ACT_QUICK_GELU);
    assert_int_equal(config.unet.levels, 4);
    assert_int_equal(config.unet.level[2].heads, 8);
    assert_true(config.unet.level[2].down_attention && !config.unet.level[3].down_attention);
    assert_int_equal(config.unet.time_width, 1280);
    assert_int_equal(config.vae.factor, 8);
    assert_true(config.vae.scaling_factor == 0.18215f);
    assert_int_equal(config.width, 512);
    assert_string_equal(config.prediction_type, "epsilon");
    assert_true(config.hidden_skip == 0 && config.hidden_norm);
}

static void reads_sdxl(void **state)
{
    (void)state;
    copy_model("sdxl");
    if (read_it() != SDW_OK)
        fail_msg("%s", err.message);
    assert_int_equal(config.texts, 2);
    assert_int_equal(config.text[1].projection, 1280);
    assert_string_equal(config.tokenizer[1], "tokenizer_2");
    assert_int_equal(config.unet.level[2].depth, 10);
    assert_int_equal(config.unet.pooled_width, 1280);
    assert_int_equal(config.unet.time_ids, 6);
    assert_true(config.hidden_skip == 1 && !config.hidden_norm && config.zeros_when_empty);
}

static void names_what_is_wrong(void **state)
{
    (void)state;
    assert_refused("sd15", files[2], "attention_head_dim", "0",
                   "unet/config.json: attention_head_dim is 0, expected a whole number from 1 to");
    assert_refused("sd15", files[2], "attention_head_dim", "7",
                   "block_out_channels 320 is not divisible by attention_head_dim 7");
    assert_refused("sd15", files[2], "norm_num_groups", "33", "not divisible by norm_num_groups");
    assert_refused("sd15", files[2], "block_out_channels", "[320]", "down_block_types");
    assert_refused("sd15", files[2], "block_out_channels", "[320,640,1280,100000]", "100000");
    assert_refused("sd15", files[2], "class_embed_type", "\"timestep\"", "class_embed_type");
    assert_refused("sd15", files[2], "cross_attention_dim", "1024", "cross_attention_dim is 1024");
    assert_refused("sd15", files[2], "in_channels", "7", "7 channels in");
    assert_refused("sd15", files[3], "latent_channels", "16", "16 latent channels");
    assert_refused("sd15", files[4], "hidden_act", "\"relu\"", "relu");
    assert_refused("sd15", files[4], "num_hidden_layers", "65", "num_hidden_layers is 65");
    assert_refused("sd15", files[0], "unet", "null", "StableDiffusionPipeline");
    assert_refused("sdxl", files[5], "max_position_embeddings", "5", "77 and 5 tokens");
    assert_refused("sdxl", files[2], "projection_class_embeddings_input_dim", "2817", "2817");
}

static void refuses_what_is_no_configuration(void **state)
{
    (void)state;
    static const char *const contents[] = {"",
                                           "{",
                                           "[]",
                                           "\"x\"",
                                           "{\"_class_name\": \"\\u0000\"}",
                                           "{\"a\":{\"a\":{\"a\":[[[[[[[[[["};
    for (size_t i = 0; i < sizeof contents / sizeof contents[0]; i++) {
        copy_model("sd15");
        char path[256];
        snprintf(path, sizeof path, "%s/unet/config.json", folder);
        FILE *file = fopen(path, "w");
        assert_non_null(file);
        fputs(contents[i], file);
        fclose(file);
        assert_int_not_equal(read_it(), SDW_OK);
        assert_non_null(strstr(err.message, "unet/config.json"));
    }
    copy_model("sd15");
    save("vae/config.json", NULL);
    assert_int_not_equal(read_it(), SDW_OK);
    assert_non_null(strstr(err.message, "vae/config.json"));
}

static void trace_accepted(const char *file, const char *key, const char *value)
{
    struct sdw_device *dev = NULL;
    struct sdw_device_options options = {.dtype = SDW_BF16};
    struct sdw_model_report report;
    assert_int_equal(sdw_backend_trace.open(&dev, &options, &err), SDW_OK);
    int factor = config.vae.factor;
    if (sdw_model_trace(&report, dev, &config, 3 * factor, 2 * factor, 2, 7, &err) != SDW_OK)
        fail_msg("%s: %s = %s: %s", file, key, value, err.message);
    sdw_device_close(dev);
}

/* Every field of every file, replaced by every value. */
static void survives_any_value(void **state)
{
    (void)state;
    static const char *const values[] = {
        "null",
        "true",
        "false",
        "-1",
        "0",
        "1",
        "2",
        "3",
        "5",
        "64",
        "8192",
        "8193",
        "1.5",
        "1e300",
        "2147483648",
        "-9223372036854775808",
        "\"\"",
        "\"x\"",
        "[]",
        "[1]",
        "[2,2,2,2]",
        "[64,64,64]",
        "[64,64,64,64]",
        "[[1]]",
        "[null]",
        "{}",
        "[8192,8192,8192,8192]",
        "[1,1,1,1,1,1,1,1,1]",
        "\"text_time\"",
        "\"UNetMidBlock2D\"",
    };
    static const char *const models[] = {"sd15", "sdxl"};
    int accepted = 0, refused = 0;
    for (size_t m = 0; m < 2; m++) {
        for (size_t f = 0; f < FILES; f++) {
            copy_model(models[m]);
            json_t *original = load(models[m], files[f]);
            const char *key;
            json_t *ignored;
            json_object_foreach(original, key, ignored)
            {
                for (size_t v = 0; v < sizeof values / sizeof values[0]; v++) {
                    replace(models[m], files[f], key, values[v]);
                    if (read_it() == SDW_OK) {
                        trace_accepted(files[f], key, values[v]);
                        accepted++;
                    } else {
                        assert_true(err.message[0] != '\0');
                        refused++;
                    }
                }
            }
            json_decref(original);
        }
    }
    printf("%d accepted and traced, %d refused\n", accepted, refused);
    assert_true(accepted > 100 && refused > 100);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_sd15),          cmocka_unit_test(reads_sdxl),
        cmocka_unit_test(names_what_is_wrong), cmocka_unit_test(refuses_what_is_no_configuration),
        cmocka_unit_test(survives_any_value),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
