/* internal.h: what the samplers share. Internal to sample/.
 *
 * A sampler is a row (struct sdw_sampler_kind) with two functions: `prepare` lays out timesteps and
 * sigmas, `step` moves the latents. All that a step remembers lies in `slot`; everything else
 * follows from the number of the evaluation, so that a run is saved by saving the slots.
 *
 * Two spaces occur. Variance preserving: x = alpha x0 + sigma e, alpha^2 + sigma^2 = 1. Variance
 * exploding ("ve", Karras et al. 2022): x = x0 + sigma e. `sigma[i]` is always noise over signal,
 * so that it is the second space's sigma as it stands. */
#ifndef SDW_SAMPLE_INTERNAL_H
#define SDW_SAMPLE_INTERNAL_H

#include "sample/sampler.h"

#include <math.h>

#define SDW_SAMPLER_SLOTS_MAX 5
#define SDW_SAMPLER_TERMS_MAX 6

struct sdw_sampler_kind {
    struct sdw_sampler_info info;
    enum sdw_algorithm algorithm; /* that this row stands for; UNSET where its class has only one */
    int solver_order;             /* likewise; 0 */
    int order;                    /* evaluations a step */
    int slots;                    /* arrays of `count` floats kept between evaluations */
    bool ve;                      /* the latents' space; inputs are scaled for it */
    void (*defaults)(struct sdw_schedule_config *config); /* where they differ from the others' */
    enum sdw_status (*prepare)(struct sdw_sampler *s, struct sdw_error *err);
    void (*step)(struct sdw_sampler *s, int i, float *x, const float *out,
                 const struct sdw_sampler_draw *draw);
};

extern const struct sdw_sampler_kind sdw_sampler_kinds[];

/* By name, title or class; a name that ends in _karras stands for that schedule too. */
const struct sdw_sampler_kind *sdw_sampler_kind_find(const char *name, bool *karras);
const struct sdw_sampler_kind *sdw_sampler_kind_of(const struct sdw_schedule_config *config);

/* Inside sample/ evaluations count from the start of the whole run: 0..total-1, begin is the first
 * one that is run. */
struct sdw_sampler {
    const struct sdw_sampler_kind *kind;
    struct sdw_schedule_config config; /* nothing unset */
    int64_t count;
    int steps; /* of the whole run */
    int total;
    int begin;
    double eta;
    double init_sigma;
    double *alpha_bar; /* [num_train_timesteps] cumulated products of 1 - beta */
    float *timestep;   /* [total] */
    double *sigma;     /* [total + 1] noise over signal */
    float *scratch;    /* [count] */
    float *noise;      /* [count] */
    float *slot[SDW_SAMPLER_SLOTS_MAX];
};

/* ---- schedules ---- */

enum sdw_status sdw_alpha_bar_fill(struct sdw_sampler *s, struct sdw_error *err);

/* Room for `total` evaluations; sets s->total. */
enum sdw_status sdw_sampler_reserve(struct sdw_sampler *s, int total, struct sdw_error *err);

/* s->timestep and s->sigma of a sampler that looks alpha_bar up at whole timesteps, one a step. */
enum sdw_status sdw_prepare_timesteps(struct sdw_sampler *s, struct sdw_error *err);

/* The j-th of `steps` timesteps, falling, out of `points` that span the training. */
double sdw_spaced_timestep(const struct sdw_schedule_config *config, int j, int steps, int points);

/* Timesteps and sigmas (one more, the last) one a step, under the configured schedule. The samplers
 * of Karras' family put fractional timesteps in and bend the sigmas between the first and the last
 * of them; the solvers of the DPM family keep whole timesteps and bend over all of the training. */
enum sdw_sigma_style { SDW_SIGMAS_KARRAS_FAMILY, SDW_SIGMAS_DPM_FAMILY };
void sdw_sigmas_fill(const struct sdw_sampler *s, enum sdw_sigma_style style, double *timestep,
                     double *sigma);
/* The same straight into the sampler, one evaluation a step. */
enum sdw_status sdw_prepare_sigmas(struct sdw_sampler *s, struct sdw_error *err);
enum sdw_status sdw_prepare_dpm_sigmas(struct sdw_sampler *s, struct sdw_error *err);

/* The fractional timestep at which training has this sigma. */
double sdw_timestep_of_sigma(const struct sdw_sampler *s, double sigma);

/* alpha_bar at a timestep; before the first one it is 1 or alpha_bar[0] (set_alpha_to_one). */
double sdw_alpha_bar_at(const struct sdw_sampler *s, int timestep);

/* ---- mathematics ---- */

/* w * values, a term of a sum. */
struct sdw_term {
    double w;
    const float *values;
};

/* to = the sum of the terms, in double precision and in order; `to` may be one of them. */
void sdw_combine(float *to, int64_t count, const struct sdw_term *terms, int n);

/* a * x + b * out: what the model's answer says about something at this noise level. */
struct sdw_mix {
    double x, out;
};
struct sdw_mix sdw_mix_x0(enum sdw_prediction prediction, double alpha, double sigma);
struct sdw_mix sdw_mix_epsilon(enum sdw_prediction prediction, double alpha, double sigma);
/* (x - x0) / sigma in the exploding space: the slope dx/dsigma. */
struct sdw_mix sdw_mix_slope(enum sdw_prediction prediction, double sigma);

/* alpha and sigma of the preserving space out of noise over signal (infinity allowed). */
static inline double sdw_alpha_of(double ratio)
{
    return isinf(ratio) ? 0 : 1 / sqrt(1 + ratio * ratio);
}
static inline double sdw_sigma_of(double ratio)
{
    return isinf(ratio) ? 1 : ratio / sqrt(1 + ratio * ratio);
}

/* Evaluation i in the preserving space; lambda = log(alpha / sigma). */
struct sdw_point {
    double alpha, sigma, lambda;
};
struct sdw_point sdw_point_at(const struct sdw_sampler *s, int i);

/* Clamped to +-clip_sample_range where the configuration asks for it. */
void sdw_clip(const struct sdw_sampler *s, float *x0);

/* s->noise, drawn anew. */
const float *sdw_draw(struct sdw_sampler *s, const struct sdw_sampler_draw *draw);

#endif
