/* schedule_config.c: scheduler_config.json as a table of fields. */
#include "sample/schedule.h"

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct word {
    const char *text;
    int value;
};

static const struct word beta_schedules[] = {
    {"linear", SDW_BETA_LINEAR},
    {"scaled_linear", SDW_BETA_SCALED_LINEAR},
    {"squaredcos_cap_v2", SDW_BETA_SQUARED_COSINE},
    {NULL, 0},
};
static const struct word predictions[] = {
    {"epsilon", SDW_PREDICTION_EPSILON},
    {"v_prediction", SDW_PREDICTION_V},
    {"sample", SDW_PREDICTION_SAMPLE},
    {NULL, 0},
};
static const struct word spacings[] = {
    {"leading", SDW_SPACING_LEADING},
    {"trailing", SDW_SPACING_TRAILING},
    {"linspace", SDW_SPACING_LINSPACE},
    {NULL, 0},
};
static const struct word algorithms[] = {
    {"dpmsolver", SDW_ALGORITHM_DPMSOLVER},
    {"dpmsolver++", SDW_ALGORITHM_DPMSOLVER_PP},
    {"sde-dpmsolver", SDW_ALGORITHM_SDE_DPMSOLVER},
    {"sde-dpmsolver++", SDW_ALGORITHM_SDE_DPMSOLVER_PP},
    {"deis", SDW_ALGORITHM_UNSET}, /* of a class that has no sampler here: another one's default */
    {NULL, 0},
};
static const struct word solvers[] = {
    {"midpoint", SDW_SOLVER_MIDPOINT},
    {"heun", SDW_SOLVER_HEUN},
    {"bh1", SDW_SOLVER_BH1},
    {"bh2", SDW_SOLVER_BH2},
    {"logrho", SDW_SOLVER_UNSET}, /* likewise */
    {NULL, 0},
};
static const struct word final_sigmas[] = {
    {"zero", SDW_FINAL_SIGMA_ZERO},
    {"sigma_min", SDW_FINAL_SIGMA_MIN},
    {NULL, 0},
};
static const struct word variances[] = {
    {"fixed_small", SDW_VARIANCE_FIXED_SMALL},
    {"fixed_small_log", SDW_VARIANCE_FIXED_SMALL_LOG},
    {"fixed_large", SDW_VARIANCE_FIXED_LARGE},
    {NULL, 0},
};

struct field {
    const char *key;
    size_t offset;
    enum { INTEGER, REAL, SWITCH, WORD } type;
    double min, max; /* of numbers */
    const struct word *words;
};

#define AT(name) #name, offsetof(struct sdw_schedule_config, name)

static const struct field fields[] = {
    {AT(num_train_timesteps), INTEGER, 2, SDW_SCHEDULE_TIMESTEPS_MAX, NULL},
    {AT(beta_start), REAL, 1e-9, 0.999, NULL},
    {AT(beta_end), REAL, 1e-9, 0.999, NULL},
    {AT(beta_schedule), WORD, 0, 0, beta_schedules},
    {AT(prediction_type), WORD, 0, 0, predictions},
    {AT(timestep_spacing), WORD, 0, 0, spacings},
    {AT(steps_offset), INTEGER, 0, SDW_SCHEDULE_TIMESTEPS_MAX, NULL},
    {AT(set_alpha_to_one), SWITCH, 0, 0, NULL},
    {AT(clip_sample), SWITCH, 0, 0, NULL},
    {AT(clip_sample_range), REAL, 0, 1e6, NULL},
    {AT(rescale_betas_zero_snr), SWITCH, 0, 0, NULL},
    {AT(use_karras_sigmas), SWITCH, 0, 0, NULL},
    {AT(use_lu_lambdas), SWITCH, 0, 0, NULL},
    {AT(skip_prk_steps), SWITCH, 0, 0, NULL},
    {AT(solver_order), INTEGER, 1, 3, NULL},
    {AT(algorithm_type), WORD, 0, 0, algorithms},
    {AT(solver_type), WORD, 0, 0, solvers},
    {AT(lower_order_final), SWITCH, 0, 0, NULL},
    {AT(euler_at_final), SWITCH, 0, 0, NULL},
    {AT(final_sigmas_type), WORD, 0, 0, final_sigmas},
    {AT(variance_type), WORD, 0, 0, variances},
    {AT(predict_x0), SWITCH, 0, 0, NULL},
    {AT(original_inference_steps), INTEGER, 1, 1000, NULL},
    {AT(timestep_scaling), REAL, 0, 1e6, NULL},
};

#define FIELDS (sizeof fields / sizeof fields[0])

/* Keys that change the numbers in ways that nothing here computes, and the one value that leaves
 * them as they are. */
static const struct {
    const char *key, *value;
} fixed[] = {
    {"thresholding", "false"},
    {"trained_betas", "null"},
    {"interpolation_type", "\"linear\""},
    {"timestep_type", "\"discrete\""},
    {"sigma_min", "null"},
    {"sigma_max", "null"},
    {"disable_corrector", "[]"},
};

void sdw_schedule_config_init(struct sdw_schedule_config *config)
{
    memset(config, 0, sizeof *config);
    for (size_t i = 0; i < FIELDS; i++) {
        void *at = (char *)config + fields[i].offset;
        if (fields[i].type == REAL)
            *(double *)at = -1;
        else if (fields[i].type != WORD)
            *(int *)at = -1;
    }
}

static enum sdw_status refuse(const struct field *field, json_t *value, const char *path,
                              struct sdw_error *err)
{
    char *found = json_dumps(value, JSON_ENCODE_ANY | JSON_COMPACT),
         expected[128] = "true or false";
    if (field->type == INTEGER || field->type == REAL)
        snprintf(expected, sizeof expected, "a %snumber from %g to %g",
                 field->type == INTEGER ? "whole " : "", field->min, field->max);
    for (size_t i = 0, n = 0; field->type == WORD && field->words[i].text; i++)
        n += (size_t)snprintf(expected + n, sizeof expected - n, "%s%s", i ? ", " : "one of ",
                              field->words[i].text);
    enum sdw_status status = sdw_fail(err, SDW_MODEL, "%s: %s is %.80s, expected %s", path,
                                      field->key, found ? found : "?", expected);
    free(found);
    return status;
}

static enum sdw_status read_field(void *at, const struct field *field, json_t *value,
                                  const char *path, struct sdw_error *err)
{
    double number = json_number_value(value);
    bool in_range = number >= field->min && number <= field->max;
    if (field->type == SWITCH && json_is_boolean(value)) {
        *(int *)at = json_is_true(value);
        return SDW_OK;
    }
    if (field->type == INTEGER && json_is_integer(value) && in_range) {
        *(int *)at = (int)number;
        return SDW_OK;
    }
    if (field->type == REAL && json_is_number(value) && in_range) {
        *(double *)at = number;
        return SDW_OK;
    }
    for (size_t i = 0; field->type == WORD && json_is_string(value) && field->words[i].text; i++)
        if (strcmp(json_string_value(value), field->words[i].text) == 0) {
            *(int *)at = field->words[i].value;
            return SDW_OK;
        }
    return refuse(field, value, path, err);
}

static enum sdw_status read_object(struct sdw_schedule_config *config, json_t *root,
                                   const char *path, struct sdw_error *err)
{
    const char *class_name = json_string_value(json_object_get(root, "_class_name"));
    snprintf(config->class_name, sizeof config->class_name, "%s", class_name ? class_name : "");
    for (size_t i = 0; i < FIELDS; i++) {
        json_t *value = json_object_get(root, fields[i].key);
        if (!value || json_is_null(value))
            continue;
        enum sdw_status status =
            read_field((char *)config + fields[i].offset, &fields[i], value, path, err);
        if (status)
            return status;
    }
    for (size_t i = 0; i < sizeof fixed / sizeof fixed[0]; i++) {
        json_t *value = json_object_get(root, fixed[i].key);
        json_t *known = json_loads(fixed[i].value, JSON_DECODE_ANY, NULL);
        bool fits = !value || json_is_null(value) || json_equal(value, known);
        json_decref(known);
        if (!fits)
            return sdw_fail(err, SDW_MODEL, "%s: %s has a value other than %s, which is not known",
                            path, fixed[i].key, fixed[i].value);
    }
    return SDW_OK;
}

enum sdw_status sdw_schedule_config_parse(struct sdw_schedule_config *config, const char *text,
                                          size_t length, const char *path, struct sdw_error *err)
{
    sdw_schedule_config_init(config);
    if (length > SDW_SCHEDULE_CONFIG_BYTES_MAX)
        return sdw_fail(err, SDW_TOO_LARGE, "%s: %zu bytes are over the limit of %u", path, length,
                        SDW_SCHEDULE_CONFIG_BYTES_MAX);
    json_error_t fault;
    json_t *root = json_loadb(text ? text : "", length, 0, &fault);
    enum sdw_status status;
    if (!json_is_object(root))
        status = sdw_fail(err, SDW_FORMAT, "%s: not a JSON object (line %d: %s)", path, fault.line,
                          root ? "another type" : fault.text);
    else
        status = read_object(config, root, path, err);
    json_decref(root);
    return status;
}
