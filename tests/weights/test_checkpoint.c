/* test_checkpoint.c: the tiny models of tests/golden as single files. The tests' own
 * converter (make_model/original.h) gives every tensor of the manifest its original name; what is
 * read back through sdw_checkpoint_part must be the manifest again, numbers and shapes. */
#include "base/text.h"
#include "original.h"
#include "weights/checkpoint.h"

#include <inttypes.h>
#include <jansson.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#define MODELS           "tests/golden/models/"
#define FILE_BYTES_MAX   (64u << 20)
#define HEADER_BYTES_MAX (4u << 20)

struct model {
    const char *name;
    struct original_geometry geometry;
    bool open_clip[2]; /* of the text encoders */
    const char *text_prefix[2];
};

static const struct model models[] = {
    {"tiny-sd15", {2, {false, true, true, true}, 4}, {false}, {"cond_stage_model.transformer."}},
    {"tiny-sd15-inpaint",
     {2, {false, true, true, true}, 4},
     {false},
     {"cond_stage_model.transformer."}},
    {"tiny-sd21", {2, {false, true, true, true}, 4}, {true}, {"cond_stage_model.model."}},
    {"tiny-sdxl",
     {2, {true, true, false}, 4},
     {false, true},
     {"conditioner.embedders.0.transformer.", "conditioner.embedders.1.model."}},
};

/* ---- the file ---- */

struct file {
    struct sdw_text header, data;
};

/* Number i of a tensor: bytes that follow from its name. */
static unsigned char byte_of(const char *name, int64_t i)
{
    uint32_t hash = 2166136261u;
    for (const char *c = name; *c; c++)
        hash = (hash ^ (unsigned char)*c) * 16777619u;
    return (unsigned char)((hash + (uint32_t)i) * 2654435761u >> 24);
}

static int64_t count_of(const json_t *shape)
{
    int64_t count = 1;
    for (size_t i = 0; i < json_array_size(shape); i++)
        count *= json_integer_value(json_array_get(shape, i));
    return count;
}

/* Two bytes a number, U8 pairs as F16: what they are does not matter here. `turned`: by columns. */
static void put_data(struct file *file, const char *name, const json_t *shape, bool turned)
{
    int64_t rows = json_integer_value(json_array_get(shape, 0)), columns = count_of(shape) / rows;
    for (int64_t i = 0; i < rows * columns; i++) {
        int64_t at = turned ? i % rows * columns + i / rows : i;
        unsigned char number[2] = {byte_of(name, 2 * at), byte_of(name, 2 * at + 1)};
        assert_int_equal(sdw_text_append(&file->data, number, 2, NULL), SDW_OK);
    }
}

static void put_entry(struct file *file, const char *prefix, const char *name, const json_t *shape,
                      int64_t first_dim, size_t begin)
{
    char dims[128];
    size_t n = (size_t)snprintf(dims, sizeof dims, "%" PRId64, first_dim);
    for (size_t i = 1; i < json_array_size(shape); i++)
        n += (size_t)snprintf(dims + n, sizeof dims - n, ",%" PRId64,
                              (int64_t)json_integer_value(json_array_get(shape, i)));
    assert_int_equal(
        sdw_text_printf(&file->header, NULL,
                        "%s\"%s%s\":{\"dtype\":\"F16\",\"shape\":[%s],\"data_offsets\":[%zu,%zu]}",
                        file->header.length > 1 ? "," : "", prefix, name, dims, begin,
                        file->data.length),
        SDW_OK);
}

/* One tensor of the manifest, or queries, keys and values of one layer at once. */
static void put_tensor(struct file *file, const struct model *model, const char *component,
                       const char *name, const json_t *shape)
{
    char to[ORIGINAL_NAME_MAX], third[ORIGINAL_NAME_MAX];
    size_t begin = file->data.length;
    int text = strcmp(component, "text_encoder_2") == 0;
    if (strcmp(component, "unet") == 0 || strcmp(component, "vae") == 0) {
        bool unet = component[0] == 'u';
        (unet ? original_unet : original_vae)(to, name, &model->geometry);
        put_data(file, name, shape, false);
        put_entry(file, unet ? "model.diffusion_model." : "first_stage_model.", to, shape,
                  json_integer_value(json_array_get(shape, 0)), begin);
        return;
    }
    if (!model->open_clip[text]) {
        put_data(file, name, shape, false);
        put_entry(file, model->text_prefix[text], name, shape,
                  json_integer_value(json_array_get(shape, 0)), begin);
        return;
    }
    if (strstr(name, "self_attn.k_proj") || strstr(name, "self_attn.v_proj"))
        return; /* with q_proj */
    original_open_clip(to, name);
    int64_t rows = json_integer_value(json_array_get(shape, 0));
    bool turned = strcmp(to, "text_projection") == 0;
    put_data(file, name, shape, turned);
    const char *q = strstr(name, "q_proj");
    for (int i = 1; q && i < 3; i++) {
        snprintf(third, sizeof third, "%.*s%c%s", (int)(q - name), name, "qkv"[i], q + 1);
        put_data(file, third, shape, false);
    }
    json_t *columns = json_pack("[I,I]", (json_int_t)0, (json_int_t)rows);
    put_entry(file, model->text_prefix[text], to, turned ? columns : shape,
              turned ? json_integer_value(json_array_get(shape, 1))
              : q    ? 3 * rows
                     : rows,
              begin);
    json_decref(columns);
}

static void write_file(const struct file *file, const char *path)
{
    FILE *out = fopen(path, "wb");
    uint64_t length = file->header.length;
    assert_non_null(out);
    assert_int_equal(fwrite(&length, 8, 1, out), 1);
    assert_int_equal(fwrite(file->header.data, 1, length, out), length);
    assert_int_equal(fwrite(file->data.data, 1, file->data.length, out), file->data.length);
    assert_int_equal(fclose(out), 0);
}

/* ---- the test ---- */

static void check_component(const struct sdw_weights *file, const char *component, json_t *tensors)
{
    struct sdw_weights *part;
    struct sdw_error err = {0};
    if (sdw_checkpoint_part(&part, file, component, &err) != SDW_OK)
        fail_msg("%s", err.message);
    assert_int_equal(sdw_weights_count(part), json_object_size(tensors));
    const char *name;
    json_t *value;
    json_object_foreach(tensors, name, value)
    {
        char now[ORIGINAL_NAME_MAX];
        struct sdw_array array;
        const json_t *shape = json_array_get(value, 1);
        original_modern(now, name);
        if (!sdw_weights_find(part, now, &array))
            fail_msg("%s: no %s", component, now);
        assert_int_equal(array.rank, json_array_size(shape));
        for (int i = 0; i < array.rank; i++)
            assert_int_equal(array.dim[i], json_integer_value(json_array_get(shape, (size_t)i)));
        for (int64_t i = 0; i < 2 * sdw_array_count(&array); i++)
            if (((const unsigned char *)array.data)[i] != byte_of(now, i))
                fail_msg("%s: other numbers in %s", component, now);
        sdw_weights_forget(part, &array);
    }
    sdw_weights_close(part);
}

static void check_model(const struct model *model, json_t *components)
{
    struct file file;
    const char *component, *name;
    json_t *entry, *value;
    char path[] = "/tmp/sdw-checkpoint-XXXXXX";
    struct sdw_weights *weights;
    sdw_text_init(&file.header, HEADER_BYTES_MAX);
    sdw_text_init(&file.data, FILE_BYTES_MAX);
    assert_int_equal(sdw_text_printf(&file.header, NULL, "{"), SDW_OK);
    json_object_foreach(components, component, entry)
    {
        json_object_foreach(json_object_get(entry, "tensors"), name, value)
        {
            char now[ORIGINAL_NAME_MAX];
            original_modern(now, name);
            put_tensor(&file, model, component, now, json_array_get(value, 1));
        }
    }
    assert_int_equal(sdw_text_printf(&file.header, NULL, "}"), SDW_OK);
    close(mkstemp(path));
    write_file(&file, path);
    assert_int_equal(sdw_weights_open(&weights, path, NULL), SDW_OK);
    assert_true(sdw_checkpoint_is(weights));
    json_object_foreach(components, component, entry)
        check_component(weights, component, json_object_get(entry, "tensors"));
    sdw_weights_close(weights);
    unlink(path);
    sdw_text_free(&file.header);
    sdw_text_free(&file.data);
}

static void test_models(void **state)
{
    (void)state;
    json_t *manifest = json_load_file(MODELS "manifest.json", 0, NULL);
    for (size_t i = 0; i < sizeof models / sizeof models[0]; i++) {
        json_t *components = json_object_get(json_object_get(manifest, "models"), models[i].name);
        assert_true(json_object_size(components) >= 3);
        check_model(&models[i], components);
    }
    json_decref(manifest);
}

static void test_absent(void **state)
{
    (void)state;
    struct sdw_weights *weights, *part;
    struct sdw_error err = {0};
    assert_int_equal(sdw_weights_open(&weights, "tests/data/pickle/bare.pt", NULL), SDW_OK);
    assert_false(sdw_checkpoint_is(weights));
    assert_int_equal(sdw_checkpoint_part(&part, weights, "unet", &err), SDW_NOT_FOUND);
    assert_non_null(strstr(err.message, "bare.pt holds no unet"));
    sdw_weights_close(weights);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_models),
        cmocka_unit_test(test_absent),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
