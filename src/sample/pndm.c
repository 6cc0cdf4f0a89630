/* pndm.c: pseudo numerical methods for diffusion models, Liu et al. 2022.
 *
 * Adams-Bashforth over the last four answers (PLMS); where skip_prk_steps is off, three
 * Runge-Kutta steps of four evaluations fill its history first (PRK). Without them the first step
 * is taken twice, the second time with the mean of both answers. */
#include "sample/samplers.h"

#include <string.h>

#define HISTORY  4 /* slots 0..3: answers, a ring */
#define START    4 /* slot 4: the latents at the start of the step */
#define RK_STEPS 3
#define RK_EVALS (RK_STEPS * 4)

static int gap(const struct sdw_sampler *s)
{
    return s->config.num_train_timesteps / s->steps;
}

static int spaced(const struct sdw_sampler *s, int step)
{
    return (int)rint(sdw_spaced_timestep(&s->config, step, s->steps, s->steps));
}

/* Each Runge-Kutta step asks at its start, twice half way and at its end. */
static double timestep_at(const struct sdw_sampler *s, int i)
{
    if (s->config.skip_prk_steps)
        return spaced(s, i > 1 ? i - 1 : i); /* the second one twice */
    if (i >= RK_EVALS)
        return spaced(s, i - RK_EVALS + RK_STEPS);
    int within = i % 4;
    return spaced(s, i / 4 + (within > 0)) + (within == 1 || within == 2 ? gap(s) / 2 : 0);
}

enum sdw_status sdw_pndm_prepare(struct sdw_sampler *s, struct sdw_error *err)
{
    bool skip = s->config.skip_prk_steps;
    if (!skip && (s->steps <= RK_STEPS || s->begin > 0))
        return sdw_fail(err, SDW_INVALID,
                        "pndm with Runge-Kutta steps (skip_prk_steps is false) runs at least %d "
                        "steps and from the start only",
                        RK_STEPS + 1);
    int total = skip ? s->steps + (s->steps > 1) : s->steps - RK_STEPS + RK_EVALS;
    enum sdw_status status = sdw_sampler_reserve(s, total, err);
    for (int i = 0; status == SDW_OK && i < total; i++) {
        s->timestep[i] = (float)timestep_at(s, i);
        double bar = s->alpha_bar[(int)s->timestep[i]];
        s->sigma[i] = sqrt((1 - bar) / bar);
    }
    return status;
}

/* The paper's equation 11: from timestep t to `next` along the answer `e`. */
static void transfer(struct sdw_sampler *s, float *x, const float *start, int t, int next,
                     const float *e)
{
    double bar = sdw_alpha_bar_at(s, t), next_bar = sdw_alpha_bar_at(s, next);
    double scale = bar * sqrt(1 - next_bar) + sqrt(bar * (1 - bar) * next_bar);
    double along = -(next_bar - bar) / scale;
    struct sdw_mix mix = sdw_mix_epsilon(s->config.prediction_type, sqrt(bar), sqrt(1 - bar));
    struct sdw_term terms[] = {{sqrt(next_bar / bar) + along * mix.x, start}, {along * mix.out, e}};
    sdw_combine(x, s->count, terms, 2);
}

static void runge_kutta(struct sdw_sampler *s, int i, float *x, const float *out)
{
    size_t bytes = (size_t)s->count * sizeof *x;
    int within = i % 4, start = spaced(s, i / 4);
    float *sum = s->slot[HISTORY - 1]; /* free until the history is full */
    static const double weight[4] = {1.0 / 6, 1.0 / 3, 1.0 / 3, 1.0 / 6};
    struct sdw_term terms[] = {{weight[within], out}, {1, sum}};
    sdw_combine(sum, s->count, terms, within == 0 ? 1 : 2);
    if (within == 0) {
        memcpy(s->slot[i / 4], out, bytes);
        memcpy(s->slot[START], x, bytes);
    }
    int next = (int)s->timestep[i] - (within % 2 ? 0 : gap(s) / 2);
    transfer(s, x, s->slot[START], start, next, within == 3 ? sum : out);
}

void sdw_pndm_step(struct sdw_sampler *s, int i, float *x, const float *out,
                   const struct sdw_sampler_draw *draw)
{
    (void)draw;
    if (!s->config.skip_prk_steps && i < RK_EVALS) {
        runge_kutta(s, i, x, out);
        return;
    }
    /* `turn` counts answers; the second one, half of a repeated step, does not enter the history */
    int turn = s->config.skip_prk_steps ? i - s->begin : i - RK_EVALS + RK_STEPS + 1;
    int t = (int)s->timestep[i];
    size_t bytes = (size_t)s->count * sizeof *x;
    if (s->config.skip_prk_steps && turn == 1) {
        struct sdw_term mean[] = {{0.5, out}, {0.5, s->slot[0]}};
        sdw_combine(s->scratch, s->count, mean, 2);
        transfer(s, x, s->slot[START], t + gap(s), t, s->scratch);
        return;
    }
    int last = turn > 0 ? turn - 1 : 0; /* place of this answer in the history */
    memcpy(s->slot[last % HISTORY], out, bytes);
    if (turn == 0)
        memcpy(s->slot[START], x, bytes);
    static const double weights[HISTORY][HISTORY] = {
        {1},
        {3.0 / 2, -1.0 / 2},
        {23.0 / 12, -16.0 / 12, 5.0 / 12},
        {55.0 / 24, -59.0 / 24, 37.0 / 24, -9.0 / 24},
    };
    int n = last + 1 < HISTORY ? last + 1 : HISTORY;
    struct sdw_term terms[HISTORY];
    for (int k = 0; k < n; k++)
        terms[k] = (struct sdw_term){weights[n - 1][k], s->slot[(last - k) % HISTORY]};
    sdw_combine(s->scratch, s->count, terms, n);
    transfer(s, x, x, t, t - gap(s), s->scratch);
}
