/* golden_text.c: every output of every text encoder. A file is text/MODEL.COMPONENT.safetensors. */
#include "golden.h"

#include "model/clip_text.h"
#include "model/files.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TOLERANCE 2e-5 /* of the largest magnitude */

struct section {
    struct golden *g;
    const char *stem; /* "tiny-sd15.text_encoder" */
    const struct sdw_weights *file;
    struct sdw_clip_text *text;
    const struct sdw_clip_text_config *config;
    int32_t *ids; /* [n,tokens] */
    int n, tokens;
};

/* Compares one output; those that the file does not have are no cases. */
static void check(const struct section *s, const char *name, struct sdw_clip_text_layer layer,
                  bool pooled)
{
    char label[256];
    snprintf(label, sizeof label, "text/%s/%s", s->stem, name);
    int64_t count = 0;
    float *want = golden_wanted(s->g, label) ? golden_floats(s->file, &count, "%s", name) : NULL;
    if (!want)
        return;
    int width = s->config->width;
    if (pooled && s->config->projection > 0)
        width = s->config->projection;
    int64_t expected = (int64_t)s->n * (pooled ? 1 : s->tokens) * width;
    float *got = malloc((size_t)expected * sizeof *got);
    struct sdw_error err = {0};
    if (count != expected || !got)
        golden_fail(s->g, label, "holds %lld numbers, expected %lld", (long long)count,
                    (long long)expected);
    else if (sdw_clip_text_encode(s->text, pooled ? NULL : got, pooled ? got : NULL, s->ids, s->n,
                                  s->tokens, layer, &err) != SDW_OK)
        golden_fail(s->g, label, "%s", err.message);
    else
        golden_compare(s->g, label, got, want, count, TOLERANCE);
    free(got);
    free(want);
}

static void check_all(struct section *s)
{
    int layers = s->config->layers;
    for (int i = 0; i <= layers; i++) {
        char name[32];
        snprintf(name, sizeof name, "hidden_states.%d", i);
        check(s, name, (struct sdw_clip_text_layer){.skip = layers - i}, false);
    }
    check(s, "last_hidden_state", (struct sdw_clip_text_layer){.skip = 0, .norm = true}, false);
    check(s, "penultimate", (struct sdw_clip_text_layer){.skip = 1}, false);
    check(s, "penultimate_ln", (struct sdw_clip_text_layer){.skip = 1, .norm = true}, false);
    if (s->config->projection > 0)
        check(s, "text_embeds", (struct sdw_clip_text_layer){0}, true);
    else
        check(s, "pooler_output", (struct sdw_clip_text_layer){0}, true);
}

static bool read_ids(struct section *s)
{
    struct sdw_array ids;
    if (!sdw_weights_find(s->file, "input_ids", &ids) || ids.dtype != SDW_I32 || ids.rank != 2 ||
        ids.dim[0] < 1 || ids.dim[1] < 1 || ids.dim[1] > s->config->positions) {
        golden_fail(s->g, s->stem,
                    "input_ids is missing, or is not I32 of n rows of 1 to %d tokens",
                    s->config->positions);
        return false;
    }
    s->n = (int)ids.dim[0];
    s->tokens = (int)ids.dim[1];
    size_t bytes = (size_t)sdw_array_count(&ids) * sizeof *s->ids;
    s->ids = malloc(bytes);
    if (s->ids)
        memcpy(s->ids, ids.data, bytes);
    return s->ids != NULL;
}

static const struct sdw_clip_text_config *find_config(const struct sdw_model_config *model,
                                                      const char *component)
{
    for (int i = 0; i < model->texts; i++)
        if (strcmp(model->text_component[i], component) == 0)
            return &model->text[i];
    return NULL;
}

static void check_file(struct golden *g, const char *stem, const struct sdw_weights *file)
{
    char model_name[256];
    snprintf(model_name, sizeof model_name, "%s", stem);
    char *dot = strrchr(model_name, '.');
    struct sdw_model_config model;
    if (!dot) {
        golden_fail(g, stem, "a file here is named MODEL.COMPONENT.safetensors");
        return;
    }
    *dot = '\0';
    if (!golden_model(g, model_name, &model))
        return;
    struct section s = {.g = g, .stem = stem, .file = file};
    s.config = find_config(&model, dot + 1);
    struct sdw_weights *weights = NULL;
    struct sdw_error err = {0};
    if (!s.config)
        golden_fail(g, stem, "%s has no %s", model_name, dot + 1);
    else if (sdw_model_weights_open(&weights, model.path, dot + 1, &err) != SDW_OK ||
             sdw_clip_text_open(&s.text, g->dev, weights, s.config, &err) != SDW_OK)
        golden_fail(g, stem, "%s", err.message);
    else if (read_ids(&s))
        check_all(&s);
    free(s.ids);
    sdw_clip_text_close(s.text);
    sdw_weights_close(weights);
}

void golden_text(struct golden *g)
{
    golden_each_file(g, "text", check_file);
}
