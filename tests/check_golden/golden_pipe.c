/* golden_pipe.c: whole runs against diffusers: latents after every step and the image.
 *
 * Prompts are encoded by the model itself where its tokenizer is there; the repository's copy of
 * the tiny models has no vocabulary, so there the case's embeddings are given, and its name says
 * so. A batch is run image by image. Inputs and masks travel as PNG, as a request brings them. */
#include "golden.h"

#include "image/png.h"
#include "pipeline/canvas.h"

#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define LATENTS_TOLERANCE 1e-4
#define IMAGE_TOLERANCE   3e-4
#define EQUAL_SHARE       0.995 /* of the 8-bit values; none is off by more than one level */

/* What is kept from case to case: the engine of one model, and the schedules by name. */
struct pipes {
    struct golden *g;
    json_t *schedules;
    struct sdw_engine *engine;
    char model[64];
    bool encodes; /* the engine has tokenizers and text encoders */
};

struct one {
    struct pipes *pipes;
    const struct sdw_weights *file;
    int row, batch; /* which image of the batch */
    double latents_error;
};

static bool open_model(struct pipes *p, const char *model, const char *name)
{
    struct sdw_error err;
    char folder[4096], vocabulary[4200];
    if (p->engine && strcmp(p->model, model) == 0)
        return true;
    sdw_engine_close(p->engine);
    p->engine = NULL;
    snprintf(folder, sizeof folder, "%s/%s", p->g->models, model);
    snprintf(vocabulary, sizeof vocabulary, "%s/tokenizer/vocab.json", folder);
    if (access(folder, F_OK) != 0) {
        golden_skip(p->g, name, "no model %s", folder);
        return false;
    }
    p->encodes = access(vocabulary, F_OK) == 0;
    struct sdw_engine_options options = {.source = {.path = folder},
                                         .model_id = model,
                                         .guidance_scale = -1,
                                         .embeds_only = !p->encodes};
    if (sdw_engine_open(&p->engine, p->g->dev, &options, &err)) {
        golden_fail(p->g, name, "%s", err.message);
        return false;
    }
    snprintf(p->model, sizeof p->model, "%s", model);
    return true;
}

/* The class and configuration of sched/schedulers.json under "NAME/...". */
static bool find_schedule(struct pipes *p, const char *name, struct sdw_schedule_config *schedule)
{
    size_t i;
    json_t *test;
    json_array_foreach(p->schedules, i, test)
    {
        const char *other = json_string_value(json_object_get(test, "case"));
        size_t length = strlen(name);
        if (!other || strncmp(other, name, length) != 0 || other[length] != '/')
            continue;
        json_t *config = json_deep_copy(json_object_get(test, "config"));
        json_object_set(config, "_class_name", json_object_get(test, "class"));
        char *text = json_dumps(config, 0);
        sdw_schedule_config_init(schedule);
        bool ok =
            text && sdw_schedule_config_parse(schedule, text, strlen(text), name, NULL) == SDW_OK;
        free(text);
        json_decref(config);
        return ok;
    }
    return false;
}

/* Keeps the largest error of the latents after any evaluation, relative to their largest value
 * then. */
static void watch(void *context, int evaluation, const float *latents, int64_t count)
{
    struct one *one = context;
    int64_t all = 0;
    float *want = golden_floats(one->file, &all, "latents");
    int64_t at = ((int64_t)evaluation * one->batch + one->row) * count;
    double error =
        want && at + count <= all ? golden_relative_error(latents, want + at, count) : NAN;
    if (!(error <= one->latents_error))
        one->latents_error = error;
    free(want);
}

static void compare_image(struct golden *g, const char *name, const float *pixels,
                          const float *want, int64_t count)
{
    double error = 0;
    int64_t different = 0;
    int worst = 0;
    for (int64_t i = 0; i < count; i++) {
        int level = abs((int)lrintf(pixels[i] * 255) - (int)lrintf(want[i] * 255));
        error = fmax(error, fabs((double)pixels[i] - want[i]));
        different += level > 0;
        worst = level > worst ? level : worst;
    }
    char label[256];
    snprintf(label, sizeof label, "%s/image", name);
    if (g->tolerance_factor == 0) {
        golden_report_psnr(g, label, pixels, want, count, 1);
        return;
    }
    golden_report(g, label, error, IMAGE_TOLERANCE * g->tolerance_factor);
    snprintf(label, sizeof label, "%s/image_u8", name);
    golden_report(g, label, worst > 1 ? 1 : (double)different / (double)count, 1 - EQUAL_SHARE);
}

static const char *text_of(const json_t *args, const char *key, int row)
{
    const json_t *value = json_object_get(args, key);
    return json_string_value(json_is_array(value) ? json_array_get(value, (size_t)row) : value);
}

/* The case's input or mask as the file of a request; empty when it has none. */
static struct sdw_params_image input_file(const struct one *one, const char *name, int channels)
{
    struct sdw_array array;
    struct sdw_text png;
    sdw_text_init(&png, SDW_PNG_BYTES_MAX);
    if (!sdw_weights_find(one->file, name, &array))
        return (struct sdw_params_image){0};
    struct sdw_image image = {(int)array.dim[1], (int)array.dim[0], channels,
                              (uint8_t *)array.data};
    sdw_png_encode(&png, &image, NULL, 0, NULL);
    return (struct sdw_params_image){(uint8_t *)png.data, png.length, image.width, image.height};
}

/* The size is that of the input where the arguments name none. */
static int side_of(const json_t *args, const char *key, int input)
{
    int side = (int)json_integer_value(json_object_get(args, key));
    return side ? side : input;
}

static void run_image(struct one *one, const char *name, const json_t *test,
                      const struct sdw_schedule_config *schedule)
{
    struct golden *g = one->pipes->g;
    const json_t *args = json_object_get(test, "args");
    struct sdw_params params = {
        .prompt_syntax = (char *)"plain", /* as diffusers reads it */
        .prompt = (char *)text_of(args, "prompt", one->row),
        .negative_prompt = (char *)text_of(args, "negative_prompt", one->row),
        .steps = (int)json_integer_value(json_object_get(args, "num_inference_steps")),
        .guidance_scale = json_number_value(json_object_get(args, "guidance_scale")),
        .clip_skip = (int)json_integer_value(json_object_get(args, "clip_skip")),
        .seed = (uint64_t)json_integer_value(
            json_array_get(json_object_get(test, "seed"), (size_t)one->row)),
    };
    params.init_image = input_file(one, "image_in", 3);
    params.mask_image = input_file(one, "mask_in", 1);
    params.width = side_of(args, "width", params.init_image.width);
    params.height = side_of(args, "height", params.init_image.height);
    params.strength = json_number_value(json_object_get(args, "strength"));
    params.guidance_rescale = json_number_value(json_object_get(args, "guidance_rescale"));
    if (strstr(name, "inpaintlegacy"))
        params.inpaint_method = (char *)"legacy";
    int64_t embeds_count = 0, pooled_count = 0;
    float *embeds = golden_floats(one->file, &embeds_count, "embeds");
    float *pooled = golden_floats(one->file, &pooled_count, "pooled");
    float *time_ids = golden_floats(one->file, NULL, "time_ids");
    const struct sdw_unet_config *unet = &sdw_engine_config(one->pipes->engine)->unet;
    int rows = params.guidance_scale > 1 && unet->time_cond_width == 0 ? 2 : 1;
    struct sdw_generate_options options = {
        .schedule = schedule, .latents = watch, .latents_context = one};
    bool given = !one->pipes->encodes || json_object_get(args, "prompt_2");
    if (given && embeds && one->batch == 1) {
        options.embeds = embeds;
        options.pooled = pooled;
        options.time_ids = time_ids;
        options.embeds_tokens = (int)(embeds_count / rows / unet->context_width);
    }
    char label[200];
    snprintf(label, sizeof label, "%s%s", name, options.embeds ? " (embeds given)" : "");
    struct sdw_error err;
    struct sdw_result result = {0};
    struct sdw_canvas canvas = {0};
    float *pixels, *image = golden_floats(one->file, NULL, "image");
    one->latents_error = 0;
    if (given && !options.embeds) {
        golden_skip(g, label, "needs the tokenizer of its model");
    } else if (sdw_generate(&pixels, &canvas, one->pipes->engine, &params, &options, NULL, &result,
                            &err)) {
        golden_fail(g, label, "%s", err.message);
    } else {
        int64_t count = (int64_t)params.width * params.height * 3;
        char part[256];
        snprintf(part, sizeof part, "%s/latents", label);
        if (g->tolerance_factor > 0)
            golden_report(g, part, one->latents_error, LATENTS_TOLERANCE * g->tolerance_factor);
        compare_image(g, label, pixels, image + one->row * count, count);
        free(pixels);
    }
    sdw_result_free(&result);
    sdw_canvas_free(&canvas);
    free(params.init_image.bytes);
    free(params.mask_image.bytes);
    free(image);
    free(embeds);
    free(pooled);
    free(time_ids);
}

static void run_case(struct pipes *p, const json_t *test)
{
    const char *id = json_string_value(json_object_get(test, "case"));
    const char *scheduler = json_string_value(json_object_get(test, "scheduler_case"));
    const char *model = json_string_value(json_object_get(test, "model"));
    char name[160], path[200];
    snprintf(name, sizeof name, "pipe/%s", id ? id : "?");
    if (!golden_wanted(p->g, name))
        return;
    struct sdw_schedule_config schedule;
    if (!scheduler || !find_schedule(p, scheduler, &schedule) ||
        !sdw_samplers_of_config(&schedule)) {
        golden_skip(p->g, name, "no sampler for the schedule %s", scheduler ? scheduler : "?");
        return;
    }
    snprintf(path, sizeof path, "pipe/%s.safetensors", id);
    struct sdw_weights *file = golden_open(p->g, path);
    if (!file) {
        golden_skip(p->g, name, "no %s", path);
        return;
    }
    struct one one = {
        .pipes = p, .file = file, .batch = (int)json_array_size(json_object_get(test, "seed"))};
    if (model && open_model(p, model, name))
        for (; one.row < one.batch; one.row++) {
            if (one.batch > 1)
                snprintf(name, sizeof name, "pipe/%s/%d", id, one.row);
            run_image(&one, name, test, &schedule);
        }
    sdw_weights_close(file);
}

void golden_pipe(struct golden *g)
{
    char path[4096];
    struct pipes pipes = {.g = g};
    snprintf(path, sizeof path, "%s/sched/schedulers.json", g->dir);
    pipes.schedules = json_load_file(path, 0, NULL);
    snprintf(path, sizeof path, "%s/pipe/cases.json", g->dir);
    json_t *cases = json_load_file(path, 0, NULL), *test;
    size_t i;
    if (!json_is_array(cases) || !json_is_array(pipes.schedules))
        golden_skip(g, "pipe", "no %s or no schedules beside it", path);
    json_array_foreach(cases, i, test) run_case(&pipes, test);
    json_decref(cases);
    json_decref(pipes.schedules);
    sdw_engine_close(pipes.engine);
}
