/* golden_sched.c: timesteps, sigmas and whole trajectories of every sampler, with a made-up model
 * and the noise that the reference drew. */
#include "golden.h"

#include "sample/sampler.h"

#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TIMESTEP_TOLERANCE 1e-3 /* whole ones must be equal */
#define SIGMA_TOLERANCE    1e-5
#define X_TOLERANCE        1e-4
#define X_TOLERANCE_ZSNR   1e-2 /* starts at sigma 4096 and cancels */

/* Recorded noise, handed out in order. */
struct tape {
    const float *next;
    int64_t left;
};

static void replay(void *context, float *noise, int64_t count)
{
    struct tape *tape = context;
    bool enough = tape->left >= count;
    for (int64_t j = 0; j < count; j++)
        noise[j] = enough ? tape->next[j] : NAN;
    tape->next += enough ? count : 0;
    tape->left -= count; /* drawing more than the reference shows as a negative rest */
}

struct test {
    const char *name; /* "ddim/10" */
    int steps;
    struct sdw_sampler *sampler;
    const struct sdw_weights *file;
    const float *x0, *pattern;
    int64_t count;
};

/* NULL, with a skip or a failure noted, when the case cannot be opened. */
static struct sdw_sampler *open_case(struct golden *g, const char *label, json_t *test,
                                     int64_t count)
{
    json_t *json = json_deep_copy(json_object_get(test, "config"));
    json_object_set(json, "_class_name", json_object_get(test, "class"));
    char *text = json_dumps(json, 0);
    struct sdw_schedule_config config;
    struct sdw_sampler *sampler = NULL;
    struct sdw_error err = {0};
    struct sdw_sampler_options options = {
        .steps = (int)json_integer_value(json_object_get(test, "steps")),
        .strength = 1,
        .eta = json_number_value(json_object_get(json_object_get(test, "step_args"), "eta")),
        .count = count,
    };
    if (sdw_schedule_config_parse(&config, text, strlen(text), label, &err))
        golden_fail(g, label, "%s", err.message);
    else if (!sdw_samplers_of_config(&config))
        golden_skip(g, label, "no sampler for %s", config.class_name);
    else if (sdw_sampler_open(&sampler, &options, &config, &err))
        golden_fail(g, label, "%s", err.message);
    free(text);
    json_decref(json);
    return sampler;
}

static double timestep_error(const struct test *t)
{
    int64_t n = 0;
    float *want = golden_floats(t->file, &n, "%s/timesteps", t->name);
    double worst = want && n == sdw_sampler_evals(t->sampler) ? 0 : INFINITY;
    for (int i = 0; i < n && isfinite(worst); i++) {
        double error = fabs((double)sdw_sampler_timestep(t->sampler, i) - want[i]);
        if (want[i] == rintf(want[i]) && error > 0)
            error = INFINITY;
        worst = fmax(worst, error);
    }
    free(want);
    return worst;
}

/* Relative. KDPM2 keeps its middle sigmas in another array: only those of whole steps compare. */
static double sigma_error(const struct test *t)
{
    int64_t n = 0;
    float *want = golden_floats(t->file, &n, "%s/sigmas", t->name);
    int evals = sdw_sampler_evals(t->sampler);
    int stride = strncmp(t->name, "dpm2", 4) == 0 ? 2 : 1;
    double worst = want && n <= evals ? INFINITY : 0;
    for (int i = 0; want && i <= evals && isfinite(worst); i += stride) {
        double error = fabs((double)sdw_sampler_sigma(t->sampler, i) - want[i]);
        worst = fmax(worst, want[i] > 0 ? error / want[i] : error);
    }
    free(want);
    return worst;
}

/* The largest error of a trajectory, each x[i] against its own magnitude. */
static double x_error(const struct test *t, struct tape *tape)
{
    int64_t n = 0;
    int evals = sdw_sampler_evals(t->sampler);
    float *want = golden_floats(t->file, &n, "%s/x", t->name);
    float *x = malloc((size_t)t->count * sizeof *x), *out = malloc((size_t)t->count * sizeof *out);
    double worst = want && x && out && n == (evals + 1) * t->count ? 0 : INFINITY;
    struct sdw_sampler_draw draw = {replay, tape};
    if (isfinite(worst))
        sdw_sampler_begin(t->sampler, x, t->x0);
    for (int i = 0; isfinite(worst) && i <= evals; i++) {
        double error = golden_relative_error(x, want + i * t->count, t->count);
        worst = error <= worst ? worst : error; /* NaN wins */
        if (i == evals)
            break;
        sdw_sampler_scale_input(t->sampler, i, out, x);
        float level = 0.5f + sdw_sampler_timestep(t->sampler, i) / 1000;
        for (int64_t j = 0; j < t->count; j++)
            out[j] = 0.1f * out[j] + level * t->pattern[j];
        sdw_sampler_step(t->sampler, i, x, out, &draw);
    }
    free(out);
    free(x);
    free(want);
    return worst;
}

static void check(struct golden *g, const struct test *t, double init_sigma)
{
    char label[160];
    snprintf(label, sizeof label, "sched/%s", t->name);
    double got = sdw_sampler_init_sigma(t->sampler);
    struct tape tape = {0};
    float *noise = golden_floats(t->file, &tape.left, "%s/noise", t->name);
    tape.next = noise;
    double timesteps = timestep_error(t), sigmas = sigma_error(t);
    if (!(timesteps <= TIMESTEP_TOLERANCE))
        golden_fail(g, label, "timesteps differ by %g", timesteps);
    else if (!(sigmas <= SIGMA_TOLERANCE))
        golden_fail(g, label, "sigmas differ by %g of their size", sigmas);
    else if (!(fabs(got - init_sigma) <= SIGMA_TOLERANCE * init_sigma))
        golden_fail(g, label, "init sigma is %g, expected %g", got, init_sigma);
    else
        golden_report(g, label, x_error(t, &tape),
                      strncmp(t->name, "euler_v_trailing_zsnr", 21) ? X_TOLERANCE
                                                                    : X_TOLERANCE_ZSNR);
    if (tape.left < 0)
        golden_fail(g, label, "drew more noise than the reference");
    free(noise);
}

/* add_noise/NAME of the same configuration with 10 steps: at the timestep of the fourth step. */
static void check_add_noise(struct golden *g, const struct test *t)
{
    char stem[128], label[160];
    snprintf(stem, sizeof stem, "%.*s", (int)strcspn(t->name, "/"), t->name);
    snprintf(label, sizeof label, "sched/add_noise/%s", stem);
    float *when = golden_floats(t->file, NULL, "add_noise/%s/t", stem);
    float *want = golden_floats(t->file, NULL, "add_noise/%s/y", stem);
    float *y = malloc((size_t)t->count * sizeof *y);
    int i = 0, evals = sdw_sampler_evals(t->sampler);
    while (when && i < evals && fabsf(sdw_sampler_timestep(t->sampler, i) - when[0]) > 1e-3f)
        i++;
    if (t->steps == 10 && when && want && y && golden_wanted(g, label)) {
        if (i < evals)
            sdw_sampler_add_noise(t->sampler, i, y, t->x0, t->pattern);
        if (i < evals)
            golden_report(g, label, golden_relative_error(y, want, t->count), X_TOLERANCE);
        else
            golden_fail(g, label, "no evaluation at timestep %g", (double)when[0]);
    }
    free(y);
    free(want);
    free(when);
}

void golden_sched(struct golden *g)
{
    char path[4096];
    snprintf(path, sizeof path, "%s/sched/schedulers.json", g->dir);
    json_t *tests = json_load_file(path, 0, NULL), *test;
    struct sdw_weights *file = golden_open(g, "sched/schedulers.safetensors");
    int64_t count = 0;
    float *x0 = file ? golden_floats(file, &count, "x0") : NULL;
    float *pattern = file ? golden_floats(file, NULL, "F") : NULL;
    size_t i;
    if (!json_is_array(tests) || !x0 || !pattern) {
        if (golden_wanted(g, "sched"))
            golden_skip(g, "sched", "no sched/schedulers.json and .safetensors in %s", g->dir);
        json_array_clear(tests);
    }
    json_array_foreach(tests, i, test)
    {
        const char *name = json_string_value(json_object_get(test, "case"));
        char label[160];
        snprintf(label, sizeof label, "sched/%s", name ? name : "?");
        bool wanted = golden_wanted(g, label) || golden_wanted(g, "sched/add_noise");
        struct sdw_sampler *sampler = name && wanted ? open_case(g, label, test, count) : NULL;
        if (!sampler)
            continue;
        struct test t = {name,    (int)json_integer_value(json_object_get(test, "steps")),
                         sampler, file,
                         x0,      pattern,
                         count};
        if (golden_wanted(g, label))
            check(g, &t, json_number_value(json_object_get(test, "init_noise_sigma")));
        check_add_noise(g, &t);
        sdw_sampler_close(sampler);
    }
    free(pattern);
    free(x0);
    sdw_weights_close(file);
    json_decref(tests);
}
