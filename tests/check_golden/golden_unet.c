/* golden_unet.c: UNet evaluations, unet/MODEL.safetensors. A case is whatever has a NAME.sample. */
#include "golden.h"

#include "model/files.h"
#include "model/unet.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TOLERANCE 5e-5 /* of the largest magnitude */

struct inputs {
    float *sample, *timestep, *hidden, *pooled, *time_ids, *out;
    int64_t timestep_count, hidden_count, pooled_count, time_ids_count, out_count;
    int n, h, w;
};

static void free_inputs(struct inputs *in)
{
    free(in->sample);
    free(in->timestep);
    free(in->hidden);
    free(in->pooled);
    free(in->time_ids);
    free(in->out);
}

/* False when a tensor is missing or does not fit the model. */
static bool read_inputs(struct inputs *in, const struct sdw_weights *file, const char *name,
                        const struct sdw_unet_config *config)
{
    char full[256];
    snprintf(full, sizeof full, "%s.sample", name);
    struct sdw_array sample;
    *in = (struct inputs){0};
    if (!sdw_weights_find(file, full, &sample) || sample.rank != 4 ||
        sample.dim[1] != config->in_channels || sdw_array_count(&sample) < 1)
        return false;
    in->n = (int)sample.dim[0];
    in->h = (int)sample.dim[2];
    in->w = (int)sample.dim[3];
    in->sample = golden_floats(file, NULL, "%s.sample", name);
    in->timestep = golden_floats(file, &in->timestep_count, "%s.timestep", name);
    in->hidden = golden_floats(file, &in->hidden_count, "%s.context", name);
    in->pooled = golden_floats(file, &in->pooled_count, "%s.text_embeds", name);
    in->time_ids = golden_floats(file, &in->time_ids_count, "%s.time_ids", name);
    in->out = golden_floats(file, &in->out_count, "%s.out", name);
    int64_t row = (int64_t)in->n * config->context_width;
    return in->sample && in->timestep && in->timestep_count == in->n && in->hidden &&
           in->hidden_count >= row && in->hidden_count % row == 0 && in->out &&
           in->out_count == (int64_t)in->n * config->out_channels * in->h * in->w &&
           in->pooled_count == (int64_t)in->n * config->pooled_width &&
           in->time_ids_count == (int64_t)in->n * config->time_ids;
}

static void check_case(struct golden *g, const char *label, struct sdw_unet *unet,
                       const struct sdw_unet_config *config, const struct inputs *in)
{
    struct sdw_unet_conditions conditions = {
        .n = in->n,
        .tokens = (int)(in->hidden_count / in->n / config->context_width),
        .hidden = in->hidden,
        .pooled = in->pooled,
        .time_ids = in->time_ids,
    };
    struct sdw_unet_context *context = NULL;
    struct sdw_error err = {0};
    float *got = malloc((size_t)in->out_count * sizeof *got);
    if (!got || sdw_unet_context_new(&context, unet, &conditions, &err) != SDW_OK ||
        sdw_unet_forward(unet, got, in->sample, in->timestep, in->h, in->w, context, &err) !=
            SDW_OK)
        golden_fail(g, label, "%s", err.message);
    else
        golden_compare(g, label, got, in->out, in->out_count, TOLERANCE);
    sdw_unet_context_free(context);
    free(got);
}

static void check_cases(struct golden *g, const char *stem, const struct sdw_weights *file,
                        struct sdw_unet *unet, const struct sdw_unet_config *config)
{
    for (int i = 0; i < sdw_weights_count(file); i++) {
        char name[128], label[256];
        snprintf(name, sizeof name, "%s", sdw_weights_name(file, i));
        char *dot = strstr(name, ".sample");
        if (!dot || strcmp(dot, ".sample") != 0)
            continue;
        *dot = '\0';
        snprintf(label, sizeof label, "unet/%s/%s", stem, name);
        if (!golden_wanted(g, label))
            continue;
        struct inputs in;
        if (read_inputs(&in, file, name, config))
            check_case(g, label, unet, config, &in);
        else
            golden_fail(g, label, "inputs are missing or do not fit the model's config.json");
        free_inputs(&in);
    }
}

static void check_file(struct golden *g, const char *stem, const struct sdw_weights *file)
{
    struct sdw_model_config model;
    if (!golden_model(g, stem, &model))
        return;
    struct sdw_weights *weights = NULL;
    struct sdw_unet *unet = NULL;
    struct sdw_error err = {0};
    if (sdw_model_weights_open(&weights, model.path, "unet", &err) != SDW_OK ||
        sdw_unet_open(&unet, g->dev, weights, &model.unet, &err) != SDW_OK)
        golden_fail(g, stem, "%s", err.message);
    else if (model.unet.time_cond_width > 0)
        golden_skip(g, stem, "the files have no guidance scale for an LCM model");
    else
        check_cases(g, stem, file, unet, &model.unet);
    sdw_unet_close(unet);
    sdw_weights_close(weights);
}

void golden_unet(struct golden *g)
{
    golden_each_file(g, "unet", check_file);
}
