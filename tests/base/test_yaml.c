/* test_yaml.c: documents and what is told of them. */
#include "base/text.h"
#include "base/yaml.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#define BYTES_MAX 4096

static char path[] = "/tmp/sdw-yaml-XXXXXX";

/* A line for each value: "path=text", or "path:" for what holds others. */
static enum sdw_status note(void *context, const struct sdw_yaml_value *value,
                            struct sdw_error *err)
{
    if (value->text && strcmp(value->text, "stop") == 0)
        return sdw_fail(err, SDW_MODEL, "stopped at line %zu", value->line);
    return sdw_text_printf(context, err, value->text ? "%s=%s\n" : "%s:\n", value->path,
                           value->text);
}

static enum sdw_status read_document(struct sdw_text *told, const char *document, size_t length,
                                     struct sdw_error *err)
{
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(document, 1, length, file), length);
    fclose(file);
    sdw_text_init(told, 8 * BYTES_MAX);
    return sdw_yaml_read(path, BYTES_MAX, note, told, err);
}

static void documents(void **state)
{
    (void)state;
    static const struct {
        const char *document, *told;
    } cases[] = {
        {"a: 1\nb: two words\n", "a=1\nb=two words\n"},
        {"model:\n  params:\n    mult: [1, 2]\n    heads: 8\nafter: yes\n",
         "model:\nmodel.params:\nmodel.params.mult:\nmodel.params.mult.0=1\nmodel.params.mult.1=2\n"
         "model.params.heads=8\nafter=yes\n"},
        {"- a", NULL},
        {"{\"a\": {\"b\": [{\"c\": null}, []]}}", "a:\na.b:\na.b.0:\na.b.0.c=null\na.b.1:\n"},
        {"a: '' # nothing\n", "a=\n"},
        {"a: 1\n---\nb: 2\n", "a=1\n"}, /* one document */
        {"", ""},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct sdw_text told;
        struct sdw_error err = {0};
        enum sdw_status status =
            read_document(&told, cases[i].document, strlen(cases[i].document), &err);
        if (!cases[i].told)
            assert_int_equal(status, SDW_FORMAT);
        else if (status)
            fail_msg("%s: %s", cases[i].document, err.message);
        else
            assert_string_equal(told.data ? told.data : "", cases[i].told);
        sdw_text_free(&told);
    }
}

static void refused(void **state)
{
    (void)state;
    char deep[64], longer[300 + 4], large[BYTES_MAX + 1];
    memset(deep, '[', sizeof deep);
    memcpy(deep, "a: ", 3);
    memset(longer, 'k', sizeof longer);
    memcpy(longer + sizeof longer - 4, ": 1\n", 4);
    memset(large, '#', sizeof large);
    const struct {
        const char *document;
        size_t length;
        enum sdw_status status;
        const char *sentence;
    } cases[] = {
        {"a: &x 1\nb: *x\n", 0, SDW_FORMAT, " line 2: an alias (*name) is not read here"},
        {"? [a]\n: 1\n", 0, SDW_FORMAT, " line 1: a key must be a plain value"},
        {"plain\n", 0, SDW_FORMAT, " line 1: expected \"key: value\" lines"},
        {"a: 'unclosed\n", 0, SDW_FORMAT, " line 2: found unexpected end of stream"},
        {"a: 1\nb: stop\nc: 'unclosed", 0, SDW_MODEL, "stopped at line 2"},
        {deep, sizeof deep, SDW_FORMAT, " line 1: nested too deeply"},
        {longer, sizeof longer, SDW_FORMAT, " line 1: keys nested here are too long"},
        {large, sizeof large, SDW_TOO_LARGE, "4096"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct sdw_text told;
        struct sdw_error err = {0};
        size_t length = cases[i].length ? cases[i].length : strlen(cases[i].document);
        assert_int_equal(read_document(&told, cases[i].document, length, &err), cases[i].status);
        if (!strstr(err.message, cases[i].sentence))
            fail_msg("%.40s gave: %s", cases[i].document, err.message);
        sdw_text_free(&told);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(documents), cmocka_unit_test(refused)};
    close(mkstemp(path));
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    unlink(path);
    return failed;
}
