/* euler.c: one straight step along the slope, Karras et al. 2022, algorithm 2 without churn. */
#include "sample/samplers.h"

void sdw_euler_step(struct sdw_sampler *s, int i, float *x, const float *out,
                    const struct sdw_sampler_draw *draw)
{
    (void)draw;
    double way = s->sigma[i + 1] - s->sigma[i];
    struct sdw_mix slope = sdw_mix_slope(s->config.prediction_type, s->sigma[i]);
    struct sdw_term terms[] = {{1 + way * slope.x, x}, {way * slope.out, out}};
    sdw_combine(x, s->count, terms, 2);
}
