/* unipc.c: unified predictor-corrector, Zhao et al. 2023: each new answer first corrects the step
 * that led to it, then predicts the next one. */
#include "sample/samplers.h"

#include <string.h>

#define HISTORY 3 /* slots 0..2: x0 or noise of the last evaluations, a ring */
#define START   3 /* slot 3: the latents at the last evaluation, corrected */

enum sdw_status sdw_unipc_prepare(struct sdw_sampler *s, struct sdw_error *err)
{
    if (s->config.solver_type != SDW_SOLVER_BH1)
        s->config.solver_type = SDW_SOLVER_BH2;
    s->config.final_sigmas_type = SDW_FINAL_SIGMA_MIN; /* the only one that the class has */
    return sdw_prepare_dpm_sigmas(s, err);
}

static int order_at(const struct sdw_sampler *s, int i)
{
    int order = s->config.solver_order, had = i - s->begin + 1, left = s->total - i;
    if (s->config.lower_order_final && order > left)
        order = left;
    return order < had ? order : had;
}

/* Solves a x = b of size n by elimination; the systems are Vandermonde's, of distinct nodes. */
static void solve(double a[HISTORY][HISTORY], double *b, int n)
{
    for (int column = 0; column < n; column++) {
        int pivot = column;
        for (int row = column + 1; row < n; row++)
            if (fabs(a[row][column]) > fabs(a[pivot][column]))
                pivot = row;
        for (int k = 0; k < n; k++) {
            double swap = a[column][k];
            a[column][k] = a[pivot][k], a[pivot][k] = swap;
        }
        double swap = b[column];
        b[column] = b[pivot], b[pivot] = swap;
        for (int row = 0; row < n; row++) {
            double factor = row == column ? 0 : a[row][column] / a[column][column];
            for (int k = 0; k < n; k++)
                a[row][k] -= factor * a[column][k];
            b[row] -= factor * b[column];
        }
    }
    for (int k = 0; k < n; k++)
        b[k] /= a[k][k];
}

/* What one step is made of. */
struct step {
    double h, hh;         /* lambda's way; its sign follows what is expanded */
    double phi, b_h;      /* e^hh - 1; the paper's B(h) */
    double node[HISTORY]; /* earlier answers at (lambda - lambda0) / h, then the arrival at 1 */
};

/* The weights rho of the differences: moments of the nodes match those of the exponential. The
 * predictor has `order - 1` nodes, the corrector `order`. */
static void weigh(double *rho, const struct step *step, int nodes)
{
    if (nodes == 1) {
        rho[0] = 0.5; /* the paper's choice, for both */
        return;
    }
    double moments[HISTORY][HISTORY], phi_k = step->phi / step->hh - 1, factorial = 1;
    for (int row = 0; row < nodes; row++) {
        for (int k = 0; k < nodes; k++)
            moments[row][k] = pow(step->node[k], row);
        rho[row] = phi_k * factorial / step->b_h;
        factorial *= row + 2;
        phi_k = phi_k / step->hh - 1 / factorial;
    }
    solve(moments, rho, nodes);
}

/* x at evaluation j + 1 from `start` at j. With `arrived`, the model's answer there, corrected. */
static void advance(struct sdw_sampler *s, int j, int order, float *x, const float *start,
                    const float *arrived)
{
    struct sdw_point from = sdw_point_at(s, j), to = sdw_point_at(s, j + 1);
    bool x0 = s->config.predict_x0;
    struct step step = {.h = to.lambda - from.lambda};
    step.hh = x0 ? -step.h : step.h;
    step.phi = expm1(step.hh);
    step.b_h = s->config.solver_type == SDW_SOLVER_BH1 ? step.hh : step.phi;
    for (int k = 1; k < order; k++)
        step.node[k - 1] = (sdw_point_at(s, j - k).lambda - from.lambda) / step.h;
    step.node[order - 1] = 1;

    int nodes = arrived ? order : order - 1;
    double rho[HISTORY] = {0}, scale = x0 ? to.alpha : to.sigma;
    if (nodes > 0)
        weigh(rho, &step, nodes);
    double own = -scale * step.phi; /* weight of the answer at j */
    struct sdw_term terms[2 + HISTORY] = {
        {x0 ? to.sigma / from.sigma : to.alpha / from.alpha, start}};
    int n = 2;
    for (int k = 1; k < order; k++) {
        double w = -scale * step.b_h * rho[k - 1] / step.node[k - 1];
        terms[n++] = (struct sdw_term){w, s->slot[(j - k) % HISTORY]};
        own -= w;
    }
    if (arrived) {
        double w = -scale * step.b_h * rho[order - 1];
        terms[n++] = (struct sdw_term){w, arrived};
        own -= w;
    }
    terms[1] = (struct sdw_term){own, s->slot[j % HISTORY]};
    sdw_combine(x, s->count, terms, n);
}

void sdw_unipc_step(struct sdw_sampler *s, int i, float *x, const float *out,
                    const struct sdw_sampler_draw *draw)
{
    (void)draw;
    size_t bytes = (size_t)s->count * sizeof *x;
    struct sdw_point here = sdw_point_at(s, i);
    struct sdw_mix mix = (s->config.predict_x0 ? sdw_mix_x0 : sdw_mix_epsilon)(
        s->config.prediction_type, here.alpha, here.sigma);
    sdw_combine(s->scratch, s->count, (struct sdw_term[]){{mix.x, x}, {mix.out, out}}, 2);
    if (i > s->begin)
        advance(s, i - 1, order_at(s, i - 1), x, s->slot[START], s->scratch);
    memcpy(s->slot[i % HISTORY], s->scratch, bytes);
    memcpy(s->slot[START], x, bytes);
    advance(s, i, order_at(s, i), x, x, NULL);
}
