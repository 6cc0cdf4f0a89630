/* lms.c: linear multistep (Adams-Bashforth for uneven steps): the integral of the polynomial
 * through the last four slopes. */
#include "sample/samplers.h"

#define HISTORY 4 /* slots 0..3: slopes, a ring */

/* Lagrange's basis polynomial of evaluation i - k among the last `order`, at sigma. */
static double basis(const struct sdw_sampler *s, int i, int k, int order, double sigma)
{
    double product = 1;
    for (int other = 0; other < order; other++)
        if (other != k)
            product *= (sigma - s->sigma[i - other]) / (s->sigma[i - k] - s->sigma[i - other]);
    return product;
}

/* Its integral over the step. Two points of Gauss are exact up to degree 3, the highest here. */
static double weight(const struct sdw_sampler *s, int i, int k, int order)
{
    double middle = (s->sigma[i] + s->sigma[i + 1]) / 2, half = (s->sigma[i + 1] - s->sigma[i]) / 2;
    double aside = half / sqrt(3);
    return half * (basis(s, i, k, order, middle - aside) + basis(s, i, k, order, middle + aside));
}

void sdw_lms_step(struct sdw_sampler *s, int i, float *x, const float *out,
                  const struct sdw_sampler_draw *draw)
{
    (void)draw;
    struct sdw_mix slope = sdw_mix_slope(s->config.prediction_type, s->sigma[i]);
    sdw_combine(s->slot[i % HISTORY], s->count, (struct sdw_term[]){{slope.x, x}, {slope.out, out}},
                2);
    /* The reference picks the order from the place in the whole schedule, also where a run begins
     * in its middle and the slopes before are missing; pictures from an image depend on it. */
    int order = i + 1 < HISTORY ? i + 1 : HISTORY, known = i - s->begin + 1;
    struct sdw_term terms[1 + HISTORY] = {{1, x}};
    int n = 1;
    for (int k = 0; k < order && k < known; k++)
        terms[n++] = (struct sdw_term){weight(s, i, k, order), s->slot[(i - k) % HISTORY]};
    sdw_combine(x, s->count, terms, n);
}
