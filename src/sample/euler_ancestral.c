/* euler_ancestral.c: Euler's step to less noise than is wanted, and fresh noise up to it. */
#include "sample/samplers.h"

void sdw_euler_ancestral_step(struct sdw_sampler *s, int i, float *x, const float *out,
                              const struct sdw_sampler_draw *draw)
{
    double sigma = s->sigma[i], up, down;
    sdw_ancestral_split(sigma, s->sigma[i + 1], &up, &down);
    double way = down - sigma;
    struct sdw_mix slope = sdw_mix_slope(s->config.prediction_type, sigma);
    struct sdw_term terms[] = {
        {1 + way * slope.x, x}, {way * slope.out, out}, {up, sdw_draw(s, draw)}};
    sdw_combine(x, s->count, terms, 3);
}

void sdw_ancestral_split(double sigma, double next, double *up, double *down)
{
    *up = next * sqrt(1 - next / sigma * (next / sigma));
    *down = sqrt(next * next - *up * *up);
}
