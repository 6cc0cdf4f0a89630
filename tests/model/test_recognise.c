/* test_recognise.c: full-size checkpoints, of headers and holes alone, are recognised without a
 * .yaml: the same configuration as their diffusers folder has, and every tensor is found under its
 * name in the shape that the models ask for. */
#include "backend/trace/trace.h"
#include "make_model.h"
#include "model/clip_text.h"
#include "model/source.h"
#include "model/unet.h"
#include "model/vae.h"
#include "original.h"

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

#define V_BIAS                                                                                     \
    "model.diffusion_model.output_blocks.11.1.transformer_blocks.0.norm1.bias" /* see recognise.c  \
                                                                                */

static struct sdw_device *dev;
static char path[64];

static int open_device(void **state)
{
    (void)state;
    struct sdw_device_options options = {.dtype = SDW_F16};
    snprintf(path, sizeof path, "/tmp/sdw-recognise-%d.safetensors", (int)getpid());
    return sdw_backend_trace.open(&dev, &options, NULL) == SDW_OK ? 0 : -1;
}

static int close_device(void **state)
{
    (void)state;
    unlink(path);
    sdw_device_close(dev);
    return 0;
}

static void add_component(struct original_file *file, const struct sdw_model_config *config,
                          const char *component)
{
    struct make_file list = {.model = "", .component = component};
    assert_true(make_file_list(&list, dev, config));
    for (int i = 0; i < list.count; i++) {
        struct sdw_array array = {.dtype = SDW_F16, .rank = list.tensor[i].rank};
        memcpy(array.dim, list.tensor[i].dim, sizeof array.dim);
        assert_true(original_add(file, config, component, list.tensor[i].name, &array));
        free(list.tensor[i].name);
    }
    free(list.tensor);
}

static int64_t bytes_of(const struct original_tensor *tensor)
{
    return 2 * sdw_array_count(&tensor->shape);
}

/* Gives one tensor numbers, +1 and -1 in turn, in place of its hole. */
static void fill_tensor(const struct original_file *file, const char *name)
{
    int64_t at = 0, total = 0, count = 0;
    for (int i = 0; i < file->count; i++) {
        if (strcmp(file->tensor[i].name, name) == 0) {
            at = total;
            count = sdw_array_count(&file->tensor[i].shape);
        }
        total += bytes_of(&file->tensor[i]);
    }
    struct stat info;
    FILE *out = fopen(path, "r+b");
    assert_true(count > 0 && out && stat(path, &info) == 0);
    assert_int_equal(fseek(out, info.st_size - total + at, SEEK_SET), 0);
    for (int64_t i = 0; i < count; i++) {
        uint16_t one = i % 2 ? 0xbc00 : 0x3c00;
        assert_int_equal(fwrite(&one, 2, 1, out), 1);
    }
    assert_int_equal(fclose(out), 0);
}

/* `marker`: a tensor that is there besides, or whose numbers show something; or NULL. */
static void write_checkpoint(const struct sdw_model_config *config, const char *marker)
{
    struct original_file file = {.count = 0};
    add_component(&file, config, "unet");
    add_component(&file, config, "vae");
    for (int i = 0; i < config->texts; i++)
        add_component(&file, config, config->text_component[i]);
    assert_true(original_finish(&file, config));
    bool numbers = marker && strcmp(marker, V_BIAS) == 0;
    if (marker && !numbers)
        original_get(&file, marker)->shape =
            (struct sdw_array){.dtype = SDW_F16, .rank = 1, .dim = {0}};
    assert_true(original_write_safetensors(&file, path));
    if (numbers)
        fill_tensor(&file, marker);
    free(file.tensor);
}

static void same_unet(const struct sdw_unet_config *a, const struct sdw_unet_config *b)
{
    assert_int_equal(a->in_channels, b->in_channels);
    assert_int_equal(a->out_channels, b->out_channels);
    assert_int_equal(a->levels, b->levels);
    for (int i = 0; i < a->levels; i++) {
        assert_int_equal(a->level[i].channels, b->level[i].channels);
        assert_int_equal(a->level[i].layers, b->level[i].layers);
        assert_int_equal(a->level[i].heads, b->level[i].heads);
        if (a->level[i].down_attention || a->level[i].up_attention || i == a->levels - 1)
            assert_int_equal(a->level[i].depth, b->level[i].depth);
        assert_int_equal(a->level[i].down_attention, b->level[i].down_attention);
        assert_int_equal(a->level[i].up_attention, b->level[i].up_attention);
    }
    assert_int_equal(a->mid_block, b->mid_block);
    assert_int_equal(a->groups, b->groups);
    assert_int_equal(a->context_width, b->context_width);
    assert_int_equal(a->time_width, b->time_width);
    assert_int_equal(a->time_cond_width, b->time_cond_width);
    assert_int_equal(a->addition_time_width, b->addition_time_width);
    assert_int_equal(a->time_ids, b->time_ids);
    assert_int_equal(a->pooled_width, b->pooled_width);
}

static void same_text(const struct sdw_clip_text_config *a, const struct sdw_clip_text_config *b)
{
    assert_int_equal(a->vocabulary, b->vocabulary);
    assert_int_equal(a->positions, b->positions);
    assert_int_equal(a->width, b->width);
    assert_int_equal(a->mlp_width, b->mlp_width);
    assert_int_equal(a->heads, b->heads);
    assert_int_equal(a->layers, b->layers);
    assert_int_equal(a->projection, b->projection);
    assert_int_equal(a->act, b->act);
}

static void same_config(const struct sdw_model_config *a, const struct sdw_model_config *b)
{
    same_unet(&a->unet, &b->unet);
    assert_int_equal(a->texts, b->texts);
    for (int i = 0; i < a->texts; i++) {
        same_text(&a->text[i], &b->text[i]);
        assert_string_equal(a->text_component[i], b->text_component[i]);
    }
    assert_int_equal(a->vae.latent_channels, b->vae.latent_channels);
    assert_int_equal(a->vae.levels, b->vae.levels);
    assert_int_equal(a->vae.layers, b->vae.layers);
    assert_int_equal(a->vae.groups, b->vae.groups);
    assert_memory_equal(a->vae.channels, b->vae.channels, sizeof a->vae.channels);
    assert_true(a->vae.scaling_factor == b->vae.scaling_factor);
    assert_string_equal(a->scheduler_class, b->scheduler_class);
    assert_int_equal(a->hidden_skip, b->hidden_skip);
    assert_int_equal(a->hidden_norm, b->hidden_norm);
    assert_int_equal(a->zeros_when_empty, b->zeros_when_empty);
}

/* Asks for all tensors by name and shape, on the device that computes nothing. */
static void load_all(const struct sdw_model_source *source, const struct sdw_model_config *config)
{
    struct sdw_weights *weights = NULL;
    struct sdw_clip_text *text = NULL;
    struct sdw_unet *unet = NULL;
    struct sdw_vae *vae = NULL;
    struct sdw_error err = {0};
    for (int i = 0; i < config->texts; i++) {
        if (sdw_model_source_weights(&weights, source, config->text_component[i], &err) ||
            sdw_clip_text_open(&text, dev, weights, &config->text[i], &err))
            fail_msg("%s", err.message);
        sdw_clip_text_close(text);
        sdw_weights_close(weights);
    }
    if (sdw_model_source_weights(&weights, source, "unet", &err) ||
        sdw_unet_open(&unet, dev, weights, &config->unet, &err))
        fail_msg("%s", err.message);
    sdw_unet_close(unet);
    sdw_weights_close(weights);
    if (sdw_model_source_weights(&weights, source, "vae", &err) ||
        sdw_vae_open(&vae, dev, weights, &config->vae, SDW_VAE_BOTH, &err))
        fail_msg("%s", err.message);
    sdw_vae_close(vae);
    sdw_weights_close(weights);
}

static void full_size(void **state)
{
    (void)state;
    static const struct {
        const char *folder;
        int in_channels, guidance_width; /* the latter of LCM models */
        const char *marker, *prediction;
        int size;
    } cases[] = {
        {"sd15", 4, 0, NULL, "epsilon", 512},
        {"sd15", 9, 0, NULL, "epsilon", 512},
        {"sd15", 4, 256, NULL, "epsilon", 512},
        {"sd15", 4, 0, "v_pred", "v_prediction", 512},
        {"sd21", 4, 0, NULL, "epsilon", 512},
        {"sd21", 4, 0, V_BIAS, "v_prediction", 768},
        {"sd21", 9, 0, V_BIAS, "epsilon", 512}, /* inpainting models predict noise */
        {"sdxl", 4, 0, NULL, "epsilon", 1024},
        {"sdxl", 9, 0, NULL, "epsilon", 1024},
        {"sdxl", 4, 0, "v_pred", "v_prediction", 1024},
        {"sdxl-refiner", 4, 0, NULL, "epsilon", 1024},
    };
    static struct sdw_model_config known, seen;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char folder[256];
        struct sdw_error err = {0};
        struct sdw_model_source *source;
        snprintf(folder, sizeof folder, "tests/model/geometry/%s", cases[i].folder);
        assert_int_equal(sdw_model_config_read(&known, folder, &err), SDW_OK);
        known.unet.in_channels = cases[i].in_channels;
        known.unet.time_cond_width = cases[i].guidance_width;
        write_checkpoint(&known, cases[i].marker);
        struct sdw_model_source_options options = {.path = path};
        if (sdw_model_source_open(&source, &options, &err) ||
            sdw_model_config_from(&seen, source, &err))
            fail_msg("%s: %s", cases[i].folder, err.message);
        same_config(&seen, &known);
        assert_string_equal(seen.prediction_type, cases[i].prediction);
        assert_int_equal(seen.width, cases[i].size);
        assert_int_equal(seen.height, cases[i].size);
        load_all(source, &seen);
        sdw_model_source_close(source);
    }
}

static void zero_terminal_snr(void **state)
{
    (void)state;
    static const char *const said[] = {"\"rescale_betas_zero_snr\": true",
                                       "\"timestep_spacing\": \"trailing\"",
                                       "\"_class_name\": \"EulerDiscreteScheduler\""};
    static struct sdw_model_config known;
    struct sdw_model_source *source;
    struct sdw_model_source_options options = {.path = path, .prediction_type = "v_prediction"};
    struct sdw_text text;
    sdw_text_init(&text, 1 << 16);
    assert_int_equal(sdw_model_config_read(&known, "tests/model/geometry/sd15", NULL), SDW_OK);
    write_checkpoint(&known, "ztsnr");
    assert_int_equal(sdw_model_source_open(&source, &options, NULL), SDW_OK);
    assert_int_equal(sdw_model_source_text(&text, source, "scheduler/scheduler_config.json", NULL),
                     SDW_OK);
    for (size_t i = 0; i < sizeof said / sizeof said[0]; i++)
        if (!strstr(text.data, said[i]))
            fail_msg("%s is not in %s", said[i], text.data);
    assert_non_null(strstr(text.data, "\"prediction_type\": \"v_prediction\""));
    sdw_text_free(&text);
    sdw_model_source_close(source);
}

/* Files that people try, and are told about. */
static void told(void **state)
{
    (void)state;
    static const struct {
        const char *marker, *without, *sentence;
    } cases[] = {
        {"edm_mean", NULL, "edm_mean"},
        {NULL, "cond_stage_model.", "no text encoder that is known"},
        {NULL, "first_stage_model.", "has no VAE in it: --vae FILE brings one"},
        {NULL, "model.diffusion_model.", "is no checkpoint of Stable Diffusion"},
    };
    static struct sdw_model_config known;
    assert_int_equal(sdw_model_config_read(&known, "tests/model/geometry/sd15", NULL), SDW_OK);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct original_file file = {.count = 0};
        struct sdw_error err = {0};
        struct sdw_model_source *source;
        struct sdw_model_source_options options = {.path = path};
        add_component(&file, &known, "unet");
        add_component(&file, &known, "vae");
        add_component(&file, &known, "text_encoder");
        if (cases[i].marker)
            original_get(&file, cases[i].marker)->shape =
                (struct sdw_array){.dtype = SDW_F32, .rank = 1, .dim = {4}};
        for (int t = 0; t < file.count && cases[i].without; t++)
            if (strncmp(file.tensor[t].name, cases[i].without, strlen(cases[i].without)) == 0)
                file.tensor[t--] = file.tensor[--file.count];
        assert_true(original_write_safetensors(&file, path));
        free(file.tensor);
        assert_int_equal(sdw_model_source_open(&source, &options, &err), SDW_MODEL);
        if (!strstr(err.message, cases[i].sentence))
            fail_msg("%s", err.message);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(full_size),
                                       cmocka_unit_test(zero_terminal_snr), cmocka_unit_test(told)};
    return cmocka_run_group_tests(tests, open_device, close_device);
}
