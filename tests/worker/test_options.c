/* test_options.c: precedence of argument, environment, file and default, and a sentence for every
 * fault. */
#include "hub/catalogue.h"
#include "worker/options.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

static struct sdw_options options;
static struct sdw_error err;

/* Reads a command line of up to seven words. */
static enum sdw_status read_line(const char *a, const char *b, const char *c, const char *d)
{
    char *argv[] = {(char *)"serve", (char *)a, (char *)b, (char *)c, (char *)d, NULL};
    int argc = 1;
    while (argv[argc])
        argc++;
    sdw_options_free(&options);
    return sdw_options_read(&options, SDW_COMMAND_SERVE, argc, argv, NULL, NULL, &err);
}

static const char *write_config(const char *text)
{
    static const char path[] = "/tmp/sdw-test-config.yaml";
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    fputs(text, file);
    fclose(file);
    return path;
}

static void precedence(void **state)
{
    (void)state;
    assert_int_equal(read_line(NULL, NULL, NULL, NULL), SDW_OK);
    assert_int_equal(options.port, 8600);
    assert_string_equal(options.bind_addr, "0.0.0.0");
    const char *path = write_config("port: 8700\nbind_addr: 127.0.0.1\n");
    assert_int_equal(read_line("--config", path, NULL, NULL), SDW_OK);
    assert_int_equal(options.port, 8700);
    assert_string_equal(options.bind_addr, "127.0.0.1");
    setenv("PORT", "8800", 1);
    assert_int_equal(read_line("--config", path, NULL, NULL), SDW_OK);
    assert_int_equal(options.port, 8800);
    assert_int_equal(read_line("--config", path, "--port=8900", NULL), SDW_OK);
    assert_int_equal(options.port, 8900);
    unsetenv("PORT");
    assert_int_equal(
        read_line("--config", write_config("{\"port\": 1, \"flash-attn\": true}"), NULL, NULL),
        SDW_OK);
    assert_int_equal(options.port, 1);
    assert_true(options.flash_attn);
    assert_int_equal(read_line("--config", write_config(""), NULL, NULL), SDW_OK);
}

static void spellings(void **state)
{
    (void)state;
    assert_int_equal(read_line("--sd-version", "v1-5", "--use-f16", NULL), SDW_OK);
    assert_string_equal(options.model, "v1-5");
    assert_string_equal(options.dtype, "f16");
    assert_int_equal(read_line("--cuda-device", "3", NULL, NULL), SDW_OK);
    assert_int_equal(options.device, 3);
    setenv("USE_F16", "false", 1);
    assert_int_equal(read_line("--dtype", "f32", NULL, NULL), SDW_OK);
    assert_string_equal(options.dtype, "f32");
    setenv("USE_F16", "1", 1);
    assert_int_equal(read_line(NULL, NULL, NULL, NULL), SDW_OK);
    assert_string_equal(options.dtype, "f16");
    unsetenv("USE_F16");
}

static void faults(void **state)
{
    (void)state;
    static const struct {
        const char *a, *b, *config, *sentence;
    } cases[] = {
        {"--prot", "1", NULL, "unknown option --prot; --help lists the options"},
        {"--port", NULL, NULL, "--port needs a value; --help lists the options"},
        {"--port", "70000", NULL,
         "--port: port must be a whole number from 0 to 65535, got \"70000\""},
        {"--port", "8x", NULL, "--port: port must be a whole number from 0 to 65535, got \"8x\""},
        {"--dtype", "f64", NULL, "--dtype: dtype must be one of f32|f16|bf16, got \"f64\""},
        {"--model", "", NULL, "--model: model is empty"},
        {"model", NULL, NULL, "unexpected argument \"model\"; --help lists the options"},
        {"--json", "1", NULL, "unknown option --json; --help lists the options"},
        {NULL, NULL, "port: 1\nprot: 2\n",
         "/tmp/sdw-test-config.yaml line 2: unknown key \"prot\"; the keys are the options of --help"},
        {NULL, NULL, "port: [1, 2]\n",
         "/tmp/sdw-test-config.yaml line 1: port must be a plain value"},
        {NULL, NULL, "- port\n", "/tmp/sdw-test-config.yaml line 1: expected \"key: value\" lines"},
        {NULL, NULL, "verbose: maybe\n",
         "/tmp/sdw-test-config.yaml line 1: verbose must be true or false, got \"maybe\""},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        enum sdw_status status =
            cases[i].config ? read_line("--config", write_config(cases[i].config), NULL, NULL)
                            : read_line(cases[i].a, cases[i].b, NULL, NULL);
        assert_int_equal(status, SDW_USAGE);
        assert_string_equal(err.message, cases[i].sentence);
    }
    assert_int_equal(read_line("--config", write_config("port: 'unclosed\n"), NULL, NULL),
                     SDW_USAGE);
    assert_int_equal(read_line("--config", "/nonexistent.yaml", NULL, NULL), SDW_USAGE);
    assert_string_equal(err.message,
                        "--config: cannot open /nonexistent.yaml: No such file or directory");
    sdw_options_free(&options);
    unlink("/tmp/sdw-test-config.yaml");
}

static void models_by_name(void **state)
{
    (void)state;
    static const char *const canonical[][2] = {
        {"SD1.5", "sd-v1-5"},
        {"v1.5", "sd-v1-5"},
        {"2.1", "sd-v2-1"},
        {"xl", "sd-xl"},
        {"turbo", "sdxl-turbo"},
        {"V2-Inpaint", "sd-v2-inpaint"},
        {"stabilityai/sd-turbo", "sd-turbo"},
    };
    for (size_t i = 0; i < sizeof canonical / sizeof canonical[0]; i++) {
        const struct sdw_catalogue_row *row = sdw_catalogue_find(canonical[i][0]);
        assert_non_null(row);
        assert_int_equal(strncmp(row->aliases, canonical[i][1], strlen(canonical[i][1])), 0);
    }
    assert_null(sdw_catalogue_find("sd-v1"));
    assert_null(sdw_catalogue_find(""));
}

/* The hub's cache layout, made of empty folders. */
static void models_by_place(void **state)
{
    (void)state;
    char path[SDW_MODEL_PATH_MAX];
    setenv("HF_HUB_CACHE", "/tmp/sdw-test-hub", 1);
    assert_int_equal(sdw_model_locate(path, "sd-turbo", &err), SDW_NOT_FOUND);
    assert_non_null(strstr(err.message, "stabilityai/sd-turbo"));
    assert_non_null(strstr(err.message, "/tmp/sdw-test-hub"));
    assert_int_equal(
        system("mkdir -p /tmp/sdw-test-hub/models--stabilityai--sd-turbo/refs && "
               "echo abc123 > /tmp/sdw-test-hub/models--stabilityai--sd-turbo/refs/main"),
        0);
    assert_int_equal(sdw_model_locate(path, "sd-turbo", &err), SDW_OK);
    assert_string_equal(path, "/tmp/sdw-test-hub/models--stabilityai--sd-turbo/snapshots/abc123");
    assert_int_equal(sdw_model_locate(path, "docs", &err), SDW_OK);
    assert_string_equal(path, "docs");
    assert_int_equal(sdw_model_locate(path, "no-such-model", &err), SDW_NOT_FOUND);
    assert_int_equal(system("rm -r /tmp/sdw-test-hub"), 0);
    unsetenv("HF_HUB_CACHE");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(precedence),      cmocka_unit_test(spellings),
        cmocka_unit_test(faults),          cmocka_unit_test(models_by_name),
        cmocka_unit_test(models_by_place),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
