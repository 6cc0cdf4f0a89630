/* sampler.c: opening a sampler, and what all of them do alike. */
#include "sample/internal.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

/* ---- opening ---- */

static void set_default(int *field, int value)
{
    if (*field < 0)
        *field = value;
}

#define DEFAULT(field, value) (field) = (field) ? (field) : (value)

/* The defaults of diffusers' classes; a row's own come first. */
static void fill_defaults(struct sdw_schedule_config *c, const struct sdw_sampler_kind *kind)
{
    if (kind->defaults)
        kind->defaults(c);
    /* A class of pixel models clips by default, but a latent has no range to clip to: so only where
     * the configuration is that class's own. */
    set_default(&c->clip_sample, strcmp(c->class_name, kind->info.class_name) == 0 &&
                                     (strcmp(c->class_name, "DDIMScheduler") == 0 ||
                                      strcmp(c->class_name, "DDPMScheduler") == 0));
    set_default(&c->num_train_timesteps, 1000);
    set_default(&c->steps_offset, 0);
    set_default(&c->set_alpha_to_one, 1);
    set_default(&c->rescale_betas_zero_snr, 0);
    set_default(&c->use_karras_sigmas, 0);
    set_default(&c->use_lu_lambdas, 0);
    set_default(&c->skip_prk_steps, 0);
    set_default(&c->solver_order, 2);
    set_default(&c->lower_order_final, 1);
    set_default(&c->euler_at_final, 0);
    set_default(&c->predict_x0, 1);
    set_default(&c->original_inference_steps, 50);
    if (c->beta_start < 0)
        c->beta_start = 0.0001;
    if (c->beta_end < 0)
        c->beta_end = 0.02;
    if (c->clip_sample_range < 0)
        c->clip_sample_range = 1;
    if (c->timestep_scaling < 0)
        c->timestep_scaling = 10;
    DEFAULT(c->beta_schedule, SDW_BETA_LINEAR);
    DEFAULT(c->prediction_type, SDW_PREDICTION_EPSILON);
    DEFAULT(c->timestep_spacing, SDW_SPACING_LEADING);
    DEFAULT(c->algorithm_type, SDW_ALGORITHM_DPMSOLVER_PP);
    DEFAULT(c->solver_type, SDW_SOLVER_MIDPOINT);
    DEFAULT(c->final_sigmas_type, SDW_FINAL_SIGMA_ZERO);
    DEFAULT(c->variance_type, SDW_VARIANCE_FIXED_SMALL);
}

/* The row, and the configuration with what its name and the schedule's override. */
static enum sdw_status choose(struct sdw_sampler *s, const struct sdw_sampler_options *options,
                              struct sdw_error *err)
{
    bool karras = false;
    s->kind = options->name ? sdw_sampler_kind_find(options->name, &karras)
                            : sdw_sampler_kind_of(&s->config);
    if (!s->kind && options->name)
        return sdw_fail(err, SDW_INVALID, "there is no sampler \"%.60s\"", options->name);
    if (!s->kind)
        return sdw_fail(err, SDW_MODEL,
                        "the model's scheduler class \"%s\" is not known; name a sampler instead",
                        s->config.class_name);
    if (options->name && s->kind->solver_order) {
        s->config.algorithm_type = s->kind->algorithm;
        s->config.solver_order = s->kind->solver_order;
    }
    const char *schedule = options->schedule ? options->schedule : karras ? "karras" : NULL;
    if (!schedule)
        return SDW_OK;
    karras = strcmp(schedule, "karras") == 0;
    if (!karras && strcmp(schedule, "normal") != 0)
        return sdw_fail(err, SDW_INVALID, "there is no schedule \"%.60s\"", schedule);
    if (karras && !s->kind->info.karras)
        return sdw_fail(err, SDW_INVALID,
                        "sampler %s has no sigmas and so no karras schedule; use normal",
                        s->kind->info.name);
    s->config.use_karras_sigmas = karras;
    s->config.use_lu_lambdas = 0;
    return SDW_OK;
}

static enum sdw_status allocate(struct sdw_sampler *s, struct sdw_error *err)
{
    float **arrays[SDW_SAMPLER_SLOTS_MAX + 2] = {&s->scratch, &s->noise};
    int n = 2;
    for (int k = 0; k < s->kind->slots; k++)
        arrays[n++] = &s->slot[k];
    for (int k = 0; k < n; k++) {
        *arrays[k] = calloc((size_t)s->count, sizeof **arrays[k]);
        if (!*arrays[k])
            return sdw_fail(err, SDW_MEMORY, "no memory for latents of %lld numbers",
                            (long long)s->count);
    }
    return SDW_OK;
}

/* Spacings other than trailing ask for more input than a run from pure noise of the largest sigma
 * has: diffusers makes up for it here. */
static double init_sigma(const struct sdw_sampler *s)
{
    if (!s->kind->ve)
        return 1;
    double largest = s->sigma[0];
    bool full = s->config.timestep_spacing != SDW_SPACING_LEADING;
    return full ? largest : sqrt(largest * largest + 1);
}

static enum sdw_status prepare(struct sdw_sampler *s, const struct sdw_sampler_options *options,
                               const struct sdw_schedule_config *config, struct sdw_error *err)
{
    s->config = *config;
    s->count = options->count;
    s->steps = options->steps;
    s->eta = options->eta;
    enum sdw_status status = choose(s, options, err);
    if (status)
        return status;
    fill_defaults(&s->config, s->kind);
    if (s->steps > s->config.num_train_timesteps)
        return sdw_fail(err, SDW_INVALID, "%d steps are more than the model's %d timesteps",
                        s->steps, s->config.num_train_timesteps);
    int wanted = (int)(options->strength * s->steps);
    int skipped = wanted < s->steps ? s->steps - wanted : 0;
    s->begin = skipped * s->kind->order;
    if ((status = sdw_alpha_bar_fill(s, err)) || (status = s->kind->prepare(s, err)) ||
        (status = allocate(s, err)))
        return status;
    if (skipped == s->steps || s->begin > s->total)
        s->begin = s->total;
    s->init_sigma = init_sigma(s);
    return SDW_OK;
}

enum sdw_status sdw_sampler_open(struct sdw_sampler **sampler,
                                 const struct sdw_sampler_options *options,
                                 const struct sdw_schedule_config *config, struct sdw_error *err)
{
    assert(options->count > 0);
    *sampler = NULL;
    if (options->steps < 1 || options->steps > SDW_SAMPLER_STEPS_MAX)
        return sdw_fail(err, SDW_INVALID, "steps must be between 1 and %d, got %d",
                        SDW_SAMPLER_STEPS_MAX, options->steps);
    if (!(options->strength >= 0 && options->strength <= 1) ||
        !(options->eta >= 0 && options->eta <= 1))
        return sdw_fail(err, SDW_INVALID, "strength and eta must be between 0 and 1, got %g and %g",
                        options->strength, options->eta);
    struct sdw_sampler *s = calloc(1, sizeof *s);
    if (!s)
        return sdw_fail(err, SDW_MEMORY, "no memory for a sampler");
    enum sdw_status status = prepare(s, options, config, err);
    if (status == SDW_OK)
        *sampler = s;
    else
        sdw_sampler_close(s);
    return status;
}

void sdw_sampler_close(struct sdw_sampler *s)
{
    if (!s)
        return;
    free(s->alpha_bar);
    free(s->timestep);
    free(s->sigma);
    free(s->scratch);
    free(s->noise);
    for (int k = 0; k < SDW_SAMPLER_SLOTS_MAX; k++)
        free(s->slot[k]);
    free(s);
}

/* ---- the schedule as the outside sees it ---- */

const struct sdw_sampler_info *sdw_sampler_info(const struct sdw_sampler *s)
{
    return &s->kind->info;
}

int sdw_sampler_evals(const struct sdw_sampler *s)
{
    return s->total - s->begin;
}

int sdw_sampler_steps(const struct sdw_sampler *s)
{
    return s->begin == s->total ? 0 : s->steps - s->begin / s->kind->order;
}

/* Samplers of order 2 end a step every other evaluation; PNDM's extra evaluations all belong to the
 * first step. */
int sdw_sampler_step_of(const struct sdw_sampler *s, int i)
{
    assert(i >= 0 && i < sdw_sampler_evals(s));
    if (s->kind->order > 1)
        return i / s->kind->order + 1;
    int extra = sdw_sampler_evals(s) - sdw_sampler_steps(s);
    return i > extra ? i - extra + 1 : 1;
}

bool sdw_sampler_ends_step(const struct sdw_sampler *s, int i)
{
    return i + 1 == sdw_sampler_evals(s) ||
           sdw_sampler_step_of(s, i + 1) != sdw_sampler_step_of(s, i);
}

float sdw_sampler_timestep(const struct sdw_sampler *s, int i)
{
    assert(i >= 0 && i < sdw_sampler_evals(s));
    return s->timestep[s->begin + i];
}

float sdw_sampler_sigma(const struct sdw_sampler *s, int i)
{
    assert(i >= 0 && i <= sdw_sampler_evals(s));
    return (float)s->sigma[s->begin + i];
}

float sdw_sampler_init_sigma(const struct sdw_sampler *s)
{
    return (float)s->init_sigma;
}

/* ---- the run ---- */

void sdw_sampler_begin(const struct sdw_sampler *s, float *x, const float *noise)
{
    sdw_combine(x, s->count, (struct sdw_term[]){{s->init_sigma, noise}}, 1);
}

void sdw_sampler_add_noise(const struct sdw_sampler *s, int i, float *x, const float *x0,
                           const float *noise)
{
    assert(i >= 0 && i <= sdw_sampler_evals(s));
    double sigma = i == sdw_sampler_evals(s) ? 0 : s->sigma[s->begin + i];
    struct sdw_term terms[] = {{s->kind->ve ? 1 : sdw_alpha_of(sigma), x0},
                               {s->kind->ve ? sigma : sdw_sigma_of(sigma), noise}};
    sdw_combine(x, s->count, terms, 2);
}

void sdw_sampler_scale_input(const struct sdw_sampler *s, int i, float *in, const float *x)
{
    assert(i >= 0 && i < sdw_sampler_evals(s));
    double scale = s->kind->ve ? sdw_alpha_of(s->sigma[s->begin + i]) : 1;
    sdw_combine(in, s->count, (struct sdw_term[]){{scale, x}}, 1);
}

void sdw_sampler_step(struct sdw_sampler *s, int i, float *x, const float *out,
                      const struct sdw_sampler_draw *draw)
{
    assert(i >= 0 && i < sdw_sampler_evals(s));
    s->kind->step(s, s->begin + i, x, out, draw);
}

/* ---- state ---- */

size_t sdw_sampler_state_bytes(const struct sdw_sampler *s)
{
    return (size_t)s->kind->slots * (size_t)s->count * sizeof(float);
}

void sdw_sampler_state_save(const struct sdw_sampler *s, void *bytes)
{
    size_t each = (size_t)s->count * sizeof(float);
    for (int k = 0; k < s->kind->slots; k++)
        memcpy((char *)bytes + (size_t)k * each, s->slot[k], each);
}

enum sdw_status sdw_sampler_state_load(struct sdw_sampler *s, const void *bytes, size_t size,
                                       struct sdw_error *err)
{
    if (size != sdw_sampler_state_bytes(s))
        return sdw_fail(err, SDW_FORMAT,
                        "the saved state of sampler %s has %zu bytes, expected %zu",
                        s->kind->info.name, size, sdw_sampler_state_bytes(s));
    size_t each = (size_t)s->count * sizeof(float);
    for (int k = 0; k < s->kind->slots; k++)
        memcpy(s->slot[k], (const char *)bytes + (size_t)k * each, each);
    return SDW_OK;
}
