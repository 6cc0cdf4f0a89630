/* test_sampler.c: what every row of the table promises, whatever it computes; the golden data say
 * whether that is right. */
#include "sample/noise.h"
#include "sample/sampler.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define COUNT 192

static const char config_text[] =
    "{\"_class_name\": \"PNDMScheduler\", \"beta_start\": 0.00085, \"beta_end\": 0.012,"
    " \"beta_schedule\": \"scaled_linear\", \"skip_prk_steps\": true, \"steps_offset\": 1,"
    " \"trained_betas\": null, \"set_alpha_to_one\": false}";

static struct sdw_schedule_config config_of(const char *text)
{
    struct sdw_schedule_config config;
    struct sdw_error err = {0};
    if (sdw_schedule_config_parse(&config, text, strlen(text), "config", &err))
        fail_msg("%s", err.message);
    return config;
}

static void draw_noise(void *context, float *noise, int64_t count)
{
    sdw_noise_fill(context, noise, count);
}

/* A model that answers something finite. */
static void answer(float *out, const float *in, float timestep)
{
    for (int j = 0; j < COUNT; j++)
        out[j] = 0.3f * in[j] + sinf((float)j) * (0.5f + timestep / 1000);
}

static void evaluate(struct sdw_sampler *s, int i, float *x, struct sdw_noise *noise)
{
    float in[COUNT], out[COUNT];
    struct sdw_sampler_draw draw = {draw_noise, noise};
    sdw_sampler_scale_input(s, i, in, x);
    answer(out, in, sdw_sampler_timestep(s, i));
    sdw_sampler_step(s, i, x, out, &draw);
}

static void check_run(struct sdw_sampler *s, struct sdw_noise *noise, float *x, int steps,
                      double strength)
{
    int ended = 0, expected = (int)(strength * steps);
    assert_int_equal(sdw_sampler_steps(s), expected);
    for (int i = 0; i < sdw_sampler_evals(s); i++) {
        assert_in_range(sdw_sampler_step_of(s, i), 1, expected);
        evaluate(s, i, x, noise);
        if (sdw_sampler_ends_step(s, i))
            assert_int_equal(sdw_sampler_step_of(s, i), ++ended);
    }
    assert_int_equal(ended, expected); /* one event a step, in order */
    for (int j = 0; j < COUNT; j++)
        assert_true(isfinite(x[j]));
}

static void every_row_runs_at_every_length(void **state)
{
    (void)state;
    static const int lengths[] = {1, 2, 3, 4, 7, 14, 15, 50, 150};
    static const double strengths[] = {1, 0.75, 0.3, 0};
    struct sdw_schedule_config config = config_of(config_text);
    for (int row = 0; row < sdw_samplers_count(); row++)
        for (int k = 0; k < 9 * 4 * 3; k++) {
            const struct sdw_sampler_info *info = sdw_samplers_at(row);
            static const char *const schedules[] = {NULL, "normal", "karras"};
            struct sdw_sampler_options options = {
                info->name, schedules[k / 36], lengths[k % 9], strengths[k / 9 % 4], 0, COUNT};
            struct sdw_sampler *s;
            struct sdw_error err = {0};
            enum sdw_status status = sdw_sampler_open(&s, &options, &config, &err);
            if (status) { /* only what the row says of itself */
                assert_true((k / 36 == 2 && !info->karras) ||
                            (strcmp(info->name, "lcm") == 0 && options.steps > 50));
                assert_int_equal(status, SDW_INVALID);
                continue;
            }
            struct sdw_noise noise;
            float x[COUNT], fresh[COUNT];
            sdw_noise_seed(&noise, SDW_NOISE_TORCH_CPU, 7);
            sdw_noise_fill(&noise, fresh, COUNT);
            sdw_sampler_begin(s, x, fresh);
            if (options.strength < 1)
                sdw_sampler_add_noise(s, 0, x, x, fresh);
            check_run(s, &noise, x, options.steps, options.strength);
            sdw_sampler_close(s);
        }
}

static void a_run_resumes_byte_for_byte(void **state)
{
    (void)state;
    struct sdw_schedule_config config = config_of(config_text);
    for (int row = 0; row < sdw_samplers_count(); row++) {
        struct sdw_sampler_options options = {sdw_samplers_at(row)->name, NULL, 12, 1, 0.5, COUNT};
        struct sdw_sampler *first, *second;
        assert_int_equal(sdw_sampler_open(&first, &options, &config, NULL), SDW_OK);
        assert_int_equal(sdw_sampler_open(&second, &options, &config, NULL), SDW_OK);
        struct sdw_noise noise, other;
        float x[COUNT], y[COUNT];
        sdw_noise_seed(&noise, SDW_NOISE_TORCH_CPU, 1);
        sdw_noise_fill(&noise, x, COUNT);
        sdw_sampler_begin(first, x, x);
        int evals = sdw_sampler_evals(first), middle = evals / 2;
        for (int i = 0; i < middle; i++)
            evaluate(first, i, x, &noise);

        size_t bytes = sdw_sampler_state_bytes(first);
        char *saved = malloc(bytes + 1);
        sdw_sampler_state_save(first, saved);
        assert_int_equal(sdw_sampler_state_load(second, saved, bytes, NULL), SDW_OK);
        assert_int_equal(sdw_sampler_state_load(second, saved, bytes + 1, NULL), SDW_FORMAT);
        other = noise;
        memcpy(y, x, sizeof y);
        for (int i = middle; i < evals; i++) {
            evaluate(first, i, x, &noise);
            evaluate(second, i, y, &other);
        }
        assert_memory_equal(x, y, sizeof x);
        free(saved);
        sdw_sampler_close(first);
        sdw_sampler_close(second);
    }
}

static void evaluations_and_steps(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        int steps;
        double strength;
        int evals, step_of_second;
    } cases[] = {
        {"ddim", 20, 1, 20, 2}, {"pndm", 20, 1, 21, 1},  {"pndm", 10, 0.75, 8, 1},
        {"heun", 4, 1, 7, 1},   {"heun", 10, 0.3, 5, 1}, {"dpmpp_2m_karras", 10, 0.75, 7, 2},
    };
    struct sdw_schedule_config config = config_of(config_text);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct sdw_sampler_options options = {cases[i].name,     NULL, cases[i].steps,
                                              cases[i].strength, 0,    COUNT};
        struct sdw_sampler *s;
        assert_int_equal(sdw_sampler_open(&s, &options, &config, NULL), SDW_OK);
        assert_int_equal(sdw_sampler_evals(s), cases[i].evals);
        assert_int_equal(sdw_sampler_step_of(s, 1), cases[i].step_of_second);
        sdw_sampler_close(s);
    }
}

/* A model of another class says nothing of Runge-Kutta steps. */
static void pndm_of_another_class(void **state)
{
    (void)state;
    struct sdw_schedule_config euler = config_of("{\"_class_name\": \"EulerDiscreteScheduler\"}");
    struct sdw_schedule_config own = config_of("{\"_class_name\": \"PNDMScheduler\"}");
    struct sdw_sampler_options options = {"pndm", NULL, 10, 1, 0, COUNT};
    struct sdw_sampler *s;
    assert_int_equal(sdw_sampler_open(&s, &options, &euler, NULL), SDW_OK);
    assert_int_equal(sdw_sampler_evals(s), 11);
    sdw_sampler_close(s);
    assert_int_equal(sdw_sampler_open(&s, &options, &own, NULL), SDW_OK);
    assert_int_equal(sdw_sampler_evals(s), 19);
    for (int i = 0; i < 19; i++)
        assert_int_equal(sdw_sampler_step_of(s, i), i < 10 ? 1 : i - 8);
    sdw_sampler_close(s);
}

static void names(void **state)
{
    (void)state;
    assert_string_equal(sdw_samplers_find("dpmpp_2m")->name, "dpmpp_2m");
    assert_string_equal(sdw_samplers_find("DPM++ 2M Karras")->name, "dpmpp_2m");
    assert_string_equal(sdw_samplers_find("dpmpp_2m_karras")->name, "dpmpp_2m");
    assert_string_equal(sdw_samplers_find("euler a")->name, "euler_ancestral");
    assert_string_equal(sdw_samplers_find("EulerDiscreteScheduler")->name, "euler");
    assert_null(sdw_samplers_find("ddim_karras"));
    assert_null(sdw_samplers_find(""));
    assert_null(sdw_samplers_find("_karras"));
    struct sdw_schedule_config config =
        config_of("{\"_class_name\": \"DPMSolverMultistepScheduler\", \"algorithm_type\": "
                  "\"sde-dpmsolver++\"}");
    assert_string_equal(sdw_samplers_of_config(&config)->name, "dpmpp_2m_sde");
}

static void faults_in_a_configuration(void **state)
{
    (void)state;
    static const struct {
        const char *text, *words; /* words of the sentence */
    } cases[] = {
        {"", "not a JSON object"},
        {"[1]", "not a JSON object"},
        {"{\"beta_start\": -1}", "beta_start is -1"},
        {"{\"num_train_timesteps\": 1e9}", "num_train_timesteps"},
        {"{\"num_train_timesteps\": 100000000}", "from 2 to 10000"},
        {"{\"prediction_type\": \"flow\"}", "one of epsilon, v_prediction, sample"},
        {"{\"solver_order\": 4}", "from 1 to 3"},
        {"{\"clip_sample\": 1}", "true or false"},
        {"{\"thresholding\": true}", "thresholding"},
        {"{\"trained_betas\": [0.1]}", "trained_betas"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct sdw_schedule_config config;
        struct sdw_error err = {0};
        assert_int_not_equal(sdw_schedule_config_parse(&config, cases[i].text,
                                                       strlen(cases[i].text), "file.json", &err),
                             SDW_OK);
        assert_non_null(strstr(err.message, "file.json"));
        if (!strstr(err.message, cases[i].words))
            fail_msg("\"%s\" does not say \"%s\"", err.message, cases[i].words);
    }
}

static void faults_in_options(void **state)
{
    (void)state;
    static const struct {
        struct sdw_sampler_options options;
        const char *words;
    } cases[] = {
        {{"nothing", NULL, 20, 1, 0, COUNT}, "no sampler \"nothing\""},
        {{"ddim", "karras", 20, 1, 0, COUNT}, "ddim has no sigmas"},
        {{"euler", "fast", 20, 1, 0, COUNT}, "no schedule \"fast\""},
        {{"euler", NULL, 0, 1, 0, COUNT}, "steps must be between 1 and 1000, got 0"},
        {{"euler", NULL, 20, 1.5, 0, COUNT}, "strength"},
        {{"euler", NULL, 20, (double)NAN, 0, COUNT}, "strength"},
        {{"lcm", NULL, 51, 1, 0, COUNT}, "at most the 50 steps"},
    };
    struct sdw_schedule_config config = config_of(config_text);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct sdw_sampler *s;
        struct sdw_error err = {0};
        assert_int_not_equal(sdw_sampler_open(&s, &cases[i].options, &config, &err), SDW_OK);
        assert_null(s);
        if (!strstr(err.message, cases[i].words))
            fail_msg("\"%s\" does not say \"%s\"", err.message, cases[i].words);
    }
}

static void noise_resumes_and_forks(void **state)
{
    (void)state;
    struct sdw_noise noise, copy;
    float a[33], b[33];
    sdw_noise_seed(&noise, SDW_NOISE_TORCH_CPU, 5);
    sdw_noise_fill(&noise, a, 3); /* leaves half a pair */
    sdw_noise_fill(&noise, a, 33);
    copy = noise;
    sdw_noise_fill(&noise, a, 5);
    sdw_noise_fill(&copy, b, 5);
    assert_memory_equal(a, b, 5 * sizeof *a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_row_runs_at_every_length),
        cmocka_unit_test(a_run_resumes_byte_for_byte),
        cmocka_unit_test(evaluations_and_steps),
        cmocka_unit_test(pndm_of_another_class),
        cmocka_unit_test(names),
        cmocka_unit_test(faults_in_a_configuration),
        cmocka_unit_test(faults_in_options),
        cmocka_unit_test(noise_resumes_and_forks),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
