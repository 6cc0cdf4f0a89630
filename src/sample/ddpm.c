/* ddpm.c: denoising diffusion probabilistic models, Ho et al. 2020, equation 7, over the timesteps
 * that are left. */
#include "sample/samplers.h"

/* Standard deviation of the noise between two timesteps. */
static double spread(const struct sdw_sampler *s, double bar, double next_bar)
{
    double beta = 1 - bar / next_bar;
    double posterior = fmax((1 - next_bar) / (1 - bar) * beta, 1e-20);
    return sqrt(s->config.variance_type == SDW_VARIANCE_FIXED_LARGE ? beta : posterior);
}

void sdw_ddpm_step(struct sdw_sampler *s, int i, float *x, const float *out,
                   const struct sdw_sampler_draw *draw)
{
    int t = (int)s->timestep[i], next = t - s->config.num_train_timesteps / s->steps;
    double bar = s->alpha_bar[t], next_bar = next >= 0 ? s->alpha_bar[next] : 1;
    double alpha = bar / next_bar;
    struct sdw_mix x0 = sdw_mix_x0(s->config.prediction_type, sqrt(bar), sqrt(1 - bar));
    sdw_combine(s->scratch, s->count, (struct sdw_term[]){{x0.x, x}, {x0.out, out}}, 2);
    sdw_clip(s, s->scratch);
    struct sdw_term terms[] = {{sqrt(next_bar) * (1 - alpha) / (1 - bar), s->scratch},
                               {sqrt(alpha) * (1 - next_bar) / (1 - bar), x},
                               {spread(s, bar, next_bar), t > 0 ? sdw_draw(s, draw) : NULL}};
    sdw_combine(x, s->count, terms, t > 0 ? 3 : 2);
}
