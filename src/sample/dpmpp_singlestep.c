/* dpmpp_singlestep.c: DPM-Solver and DPM-Solver++ in their singlestep form, Lu et al. 2022: blocks
 * of 1 to 3 evaluations, where each evaluation of a block starts again from the block's first
 * latents, with all answers since. */
#include "sample/samplers.h"

#include <string.h>

#define HISTORY 3 /* slots 0..2: x0 or noise of the last evaluations, a ring */
#define START   3 /* slot 3: the latents at the start of the block */

/* Where in its block evaluation i lies, from 1. A last one that would reach sigma 0 along a higher
 * order goes alone. */
static int place(const struct sdw_sampler *s, int i)
{
    int order = s->config.solver_order;
    bool alone = s->config.lower_order_final && i + 1 == s->steps && s->steps % order == 0;
    return alone ? 1 : i % order + 1;
}

enum sdw_status sdw_dpmpp_singlestep_prepare(struct sdw_sampler *s, struct sdw_error *err)
{
    struct sdw_schedule_config *config = &s->config;
    if (config->algorithm_type != SDW_ALGORITHM_DPMSOLVER &&
        config->algorithm_type != SDW_ALGORITHM_DPMSOLVER_PP)
        return sdw_fail(err, SDW_MODEL, "the singlestep DPM solver has no stochastic form");
    if (config->algorithm_type == SDW_ALGORITHM_DPMSOLVER &&
        config->final_sigmas_type == SDW_FINAL_SIGMA_ZERO)
        config->final_sigmas_type = SDW_FINAL_SIGMA_MIN; /* e^h grows without bound */
    if (config->final_sigmas_type == SDW_FINAL_SIGMA_ZERO || s->steps % config->solver_order != 0)
        config->lower_order_final = 1;
    config->timestep_spacing = SDW_SPACING_LINSPACE; /* the only one that the class has */
    return sdw_prepare_dpm_sigmas(s, err);
}

/* The expansion's three integrals: of 1, of lambda and of lambda^2 / 2. */
static void integrals(double phi[3], struct sdw_point to, double h, bool plus)
{
    double sign = plus ? -1 : 1, scale = plus ? -to.alpha : -to.sigma;
    double first = expm1(sign * h);
    phi[0] = scale * first;
    phi[1] = scale * (plus ? -(first / h + 1) : first / h - 1);
    phi[2] = scale * ((first - sign * h) / (h * h) - 0.5);
}

/* Weights of the block's answers, newest first. */
static void expand(const struct sdw_sampler *s, int i, int order, bool plus, double weight[3])
{
    struct sdw_point to = sdw_point_at(s, i + 1), from = sdw_point_at(s, i - order + 1);
    bool midpoint = s->config.solver_type == SDW_SOLVER_MIDPOINT;
    double h = to.lambda - from.lambda, phi[3];
    integrals(phi, to, h, plus);
    weight[0] = weight[1] = weight[2] = 0;
    weight[order - 1] = phi[0]; /* of the block's first answer */
    if (order == 1)
        return;
    double newest = (sdw_point_at(s, i).lambda - from.lambda) / h;
    if (order == 2) {
        double slope = midpoint ? phi[0] / 2 : phi[1];
        weight[0] = slope / newest;
        weight[1] -= slope / newest;
        return;
    }
    /* a and b: slopes from the first answer to the newest and to the middle one */
    double middle = (sdw_point_at(s, i - 1).lambda - from.lambda) / h;
    double a = phi[1], b = 0;
    if (!midpoint) {
        a = (-middle * phi[1] + 2 * phi[2]) / (newest - middle);
        b = (newest * phi[1] - 2 * phi[2]) / (newest - middle);
    }
    weight[0] = a / newest;
    weight[1] = b / middle;
    weight[2] -= a / newest + b / middle;
}

void sdw_dpmpp_singlestep_step(struct sdw_sampler *s, int i, float *x, const float *out,
                               const struct sdw_sampler_draw *draw)
{
    (void)draw;
    bool plus = s->config.algorithm_type == SDW_ALGORITHM_DPMSOLVER_PP;
    struct sdw_point here = sdw_point_at(s, i), to = sdw_point_at(s, i + 1);
    struct sdw_mix mix =
        (plus ? sdw_mix_x0 : sdw_mix_epsilon)(s->config.prediction_type, here.alpha, here.sigma);
    sdw_combine(s->slot[i % HISTORY], s->count, (struct sdw_term[]){{mix.x, x}, {mix.out, out}}, 2);
    int order = place(s, i), known = i - s->begin + 1;
    if (order > known) /* a run from an image begins within a block */
        order = known;
    if (order == 1)
        memcpy(s->slot[START], x, (size_t)s->count * sizeof *x);
    struct sdw_point from = sdw_point_at(s, i - order + 1);
    double weight[3];
    expand(s, i, order, plus, weight);
    struct sdw_term terms[1 + HISTORY] = {
        {plus ? to.sigma / from.sigma : to.alpha / from.alpha, s->slot[START]}};
    for (int k = 0; k < order; k++)
        terms[1 + k] = (struct sdw_term){weight[k], s->slot[(i - k) % HISTORY]};
    sdw_combine(x, s->count, terms, 1 + order);
}
