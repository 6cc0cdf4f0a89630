/* dpmpp_multistep.c: DPM-Solver and DPM-Solver++, Lu et al. 2022, with earlier answers in place of
 * further evaluations; orders 1 to 3, and their stochastic forms.
 *
 * h = lambda(t) - lambda(s), lambda = log(alpha / sigma). The ++ solvers expand x0 in lambda, the
 * others the noise; both are the same sum of the last answers with other weights. */
#include "sample/samplers.h"

#define HISTORY 3 /* slots 0..2: x0 or noise of the last evaluations, a ring */

/* x' = keep x + first D0 + second D1 + third D2 + fresh noise, D the divided differences. */
struct update {
    double keep, first, second, third, fresh;
};

/* phi is the integral that multiplies D0; the next two orders follow from it. */
static struct update deterministic(const struct sdw_sampler *s, struct sdw_point to,
                                   struct sdw_point from, int order, bool plus)
{
    double h = to.lambda - from.lambda;
    bool midpoint = s->config.solver_type == SDW_SOLVER_MIDPOINT && order == 2;
    if (plus) {
        double phi = expm1(-h); /* -1 at the very end, where h is infinite */
        double slope = phi / h + 1, curve = (phi + h) / (h * h) - 0.5;
        return (struct update){to.sigma / from.sigma, -to.alpha * phi,
                               to.alpha * (midpoint ? -0.5 * phi : slope), -to.alpha * curve, 0};
    }
    double phi = expm1(h);
    return (struct update){to.alpha / from.alpha, -to.sigma * phi,
                           -to.sigma * (midpoint ? 0.5 * phi : phi / h - 1),
                           -to.sigma * ((phi - h) / (h * h) - 0.5), 0};
}

static struct update stochastic(const struct sdw_sampler *s, struct sdw_point to,
                                struct sdw_point from, int order, bool plus)
{
    double h = to.lambda - from.lambda;
    bool midpoint = s->config.solver_type == SDW_SOLVER_MIDPOINT && order == 2;
    if (plus) {
        double phi = -expm1(-2 * h);
        double slope = 1 - phi / (2 * h);
        return (struct update){to.sigma / from.sigma * exp(-h), to.alpha * phi,
                               to.alpha * (midpoint ? 0.5 * phi : slope), 0, to.sigma * sqrt(phi)};
    }
    double phi = expm1(h);
    return (struct update){to.alpha / from.alpha, -2 * to.sigma * phi,
                           midpoint ? -to.sigma * phi : -2 * to.sigma * (phi / h - 1), 0,
                           to.sigma * sqrt(expm1(2 * h))};
}

/* The order of this step: lower at the start, where answers are missing, and at the end of short
 * runs or where the last sigma is 0, where higher ones are unstable. */
static int order_at(const struct sdw_sampler *s, int i)
{
    const struct sdw_schedule_config *config = &s->config;
    int left = s->total - i, had = i - s->begin;
    bool short_run = config->lower_order_final && s->total < 15;
    int order = config->solver_order;
    if (left == 1 &&
        (config->euler_at_final || short_run || config->final_sigmas_type == SDW_FINAL_SIGMA_ZERO))
        order = 1;
    else if (left == 2 && short_run && order > 2)
        order = 2;
    return order < had + 1 ? order : had + 1;
}

/* Weights of the last answers m0, m1, m2 that make up D0, D1 and D2. */
static void expand(const struct sdw_sampler *s, int i, int order, double h, struct update u,
                   double weight[HISTORY])
{
    weight[0] = u.first, weight[1] = weight[2] = 0;
    if (order < 2)
        return;
    double here = sdw_point_at(s, i).lambda, before = sdw_point_at(s, i - 1).lambda;
    double r0 = (here - before) / h;
    if (order == 2) { /* D1 = (m0 - m1) / r0 */
        weight[0] += u.second / r0;
        weight[1] = -u.second / r0;
        return;
    }
    double r1 = (before - sdw_point_at(s, i - 2).lambda) / h;
    /* a = (m0 - m1) / r0, b = (m1 - m2) / r1;
     * D1 = a + r0 / (r0 + r1) (a - b), D2 = (a - b) / (r0 + r1) */
    double bend = (u.second * r0 + u.third) / (r0 + r1);
    double a = u.second + bend, b = -bend;
    weight[0] += a / r0;
    weight[1] = b / r1 - a / r0;
    weight[2] = -b / r1;
}

enum sdw_status sdw_dpmpp_multistep_prepare(struct sdw_sampler *s, struct sdw_error *err)
{
    enum sdw_algorithm algorithm = s->config.algorithm_type;
    bool sde =
        algorithm == SDW_ALGORITHM_SDE_DPMSOLVER || algorithm == SDW_ALGORITHM_SDE_DPMSOLVER_PP;
    if (sde && s->config.solver_order > 2)
        return sdw_fail(err, SDW_MODEL,
                        "the stochastic DPM solvers have solver_order 1 or 2, got %d",
                        s->config.solver_order);
    bool plus =
        algorithm == SDW_ALGORITHM_DPMSOLVER_PP || algorithm == SDW_ALGORITHM_SDE_DPMSOLVER_PP;
    if (!plus && s->config.final_sigmas_type == SDW_FINAL_SIGMA_ZERO)
        s->config.final_sigmas_type = SDW_FINAL_SIGMA_MIN; /* e^h grows without bound */
    return sdw_prepare_dpm_sigmas(s, err);
}

void sdw_dpmpp_multistep_step(struct sdw_sampler *s, int i, float *x, const float *out,
                              const struct sdw_sampler_draw *draw)
{
    enum sdw_algorithm algorithm = s->config.algorithm_type;
    bool plus =
        algorithm == SDW_ALGORITHM_DPMSOLVER_PP || algorithm == SDW_ALGORITHM_SDE_DPMSOLVER_PP;
    bool sde =
        algorithm == SDW_ALGORITHM_SDE_DPMSOLVER || algorithm == SDW_ALGORITHM_SDE_DPMSOLVER_PP;
    struct sdw_point from = sdw_point_at(s, i), to = sdw_point_at(s, i + 1);
    struct sdw_mix mix =
        (plus ? sdw_mix_x0 : sdw_mix_epsilon)(s->config.prediction_type, from.alpha, from.sigma);
    sdw_combine(s->slot[i % HISTORY], s->count, (struct sdw_term[]){{mix.x, x}, {mix.out, out}}, 2);

    int order = order_at(s, i);
    struct update u = (sde ? stochastic : deterministic)(s, to, from, order, plus);
    double weight[HISTORY];
    expand(s, i, order, to.lambda - from.lambda, u, weight);
    struct sdw_term terms[HISTORY + 2] = {{u.keep, x}};
    int n = 1;
    for (int k = 0; k < order; k++)
        terms[n++] = (struct sdw_term){weight[k], s->slot[(i - k) % HISTORY]};
    if (sde)
        terms[n++] = (struct sdw_term){u.fresh, sdw_draw(s, draw)};
    sdw_combine(x, s->count, terms, n);
}
