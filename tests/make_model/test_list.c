/* The list of a file's tensors is the models' own; here it meets what diffusers wrote (the tiny
 * models' manifest), and the parameters that the published models are known to have. */
#include "make_model.h"

#include "backend/trace/trace.h"

#include <jansson.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static struct sdw_device *dev;

static int open_device(void **state)
{
    (void)state;
    struct sdw_device_options options = {.dtype = SDW_F16};
    return sdw_backend_trace.open(&dev, &options, NULL) == SDW_OK ? 0 : -1;
}

static int close_device(void **state)
{
    (void)state;
    sdw_device_close(dev);
    return 0;
}

/* The caller frees with free_list. */
static struct make_file list(const char *folder, const char *component)
{
    static struct sdw_model_config config;
    struct make_file file = {.model = folder, .component = component};
    struct sdw_error err = {0};
    if (sdw_model_config_read(&config, folder, &err) != SDW_OK)
        fail_msg("%s", err.message);
    assert_true(make_file_list(&file, dev, &config));
    return file;
}

static void free_list(struct make_file *file)
{
    for (int i = 0; i < file->count; i++)
        free(file->tensor[i].name);
    free(file->tensor);
}

/* SD 1.x's VAE was published with other names for its attention: ".to_q." is ".query.". */
static json_t *entry_of(json_t *tensors, const char *name)
{
    static const char *const old[][2] = {{".to_q.", ".query."},
                                         {".to_k.", ".key."},
                                         {".to_v.", ".value."},
                                         {".to_out.0.", ".proj_attn."}};
    json_t *entry = json_object_get(tensors, name);
    for (int i = 0; i < 4 && !entry; i++) {
        const char *part = strstr(name, old[i][0]);
        char older[256];
        if (!part)
            continue;
        snprintf(older, sizeof older, "%.*s%s%s", (int)(part - name), name, old[i][1],
                 part + strlen(old[i][0]));
        entry = json_object_get(tensors, older);
    }
    return entry;
}

static void same_tensors(const struct make_file *file, json_t *tensors)
{
    for (int i = 0; i < file->count; i++) {
        const struct make_tensor *tensor = &file->tensor[i];
        json_t *shape = json_array_get(entry_of(tensors, tensor->name), 1);
        bool same = json_array_size(shape) == (size_t)tensor->rank;
        for (int d = 0; d < tensor->rank && same; d++)
            same = json_integer_value(json_array_get(shape, (size_t)d)) == tensor->dim[d];
        if (!same)
            fail_msg("%s/%s: %s has another shape, or is not there", file->model, file->component,
                     tensor->name);
    }
    bool ids = json_object_get(tensors, "text_model.embeddings.position_ids") != NULL;
    assert_int_equal(file->count, json_object_size(tensors) - ids); /* no parameters of a model */
}

static void tiny_models_as_diffusers_wrote_them(void **state)
{
    (void)state;
    json_t *manifest = json_load_file("tests/golden/models/manifest.json", 0, NULL), *components;
    const char *model;
    int compared = 0;
    assert_non_null(manifest);
    json_object_foreach(json_object_get(manifest, "models"), model, components)
    {
        const char *component;
        json_t *entry;
        json_object_foreach(components, component, entry)
        {
            char folder[256];
            snprintf(folder, sizeof folder, "tests/golden/models/%s", model);
            struct make_file file = list(folder, component);
            same_tensors(&file, json_object_get(entry, "tensors"));
            free_list(&file);
            compared++;
        }
    }
    assert_int_equal(compared, 13);
    json_decref(manifest);
}

static void full_models_have_their_known_size(void **state)
{
    (void)state;
    static const struct {
        const char *model, *component;
        int64_t parameters;
    } known[] = {
        {"sd15", "unet", 859520964},         {"sd15", "vae", 83653863},
        {"sd15", "text_encoder", 123060480}, {"sd15-inpaint", "unet", 859535364},
        {"sd21", "unet", 865910724},         {"sd21", "text_encoder", 340387840},
        {"sdxl", "unet", 2567463684},        {"sdxl", "text_encoder_2", 694659840},
    };
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++) {
        char folder[256];
        snprintf(folder, sizeof folder, "tests/model/geometry/%s", known[i].model);
        struct make_file file = list(folder, known[i].component);
        if (make_file_parameters(&file) != known[i].parameters)
            fail_msg("%s/%s: %lld parameters", known[i].model, known[i].component,
                     (long long)make_file_parameters(&file));
        free_list(&file);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tiny_models_as_diffusers_wrote_them),
        cmocka_unit_test(full_models_have_their_known_size),
    };
    return cmocka_run_group_tests(tests, open_device, close_device);
}
