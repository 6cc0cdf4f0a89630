/* ddim.c: denoising diffusion implicit models, Song et al. 2020, equations 12 and 16. */
#include "sample/samplers.h"

void sdw_ddim_step(struct sdw_sampler *s, int i, float *x, const float *out,
                   const struct sdw_sampler_draw *draw)
{
    int t = (int)s->timestep[i];
    double bar = s->alpha_bar[t];
    double next_bar = sdw_alpha_bar_at(s, t - s->config.num_train_timesteps / s->steps);
    enum sdw_prediction prediction = s->config.prediction_type;
    struct sdw_mix x0 = sdw_mix_x0(prediction, sqrt(bar), sqrt(1 - bar));
    struct sdw_mix e = sdw_mix_epsilon(prediction, sqrt(bar), sqrt(1 - bar));
    double spread =
        s->eta > 0 ? s->eta * sqrt((1 - next_bar) / (1 - bar) * (1 - bar / next_bar)) : 0;
    double direction = sqrt(1 - next_bar - spread * spread);

    sdw_combine(s->scratch, s->count, (struct sdw_term[]){{x0.x, x}, {x0.out, out}}, 2);
    sdw_clip(s, s->scratch);
    struct sdw_term terms[] = {{sqrt(next_bar), s->scratch},
                               {direction * e.x, x},
                               {direction * e.out, out},
                               {spread, s->eta > 0 ? sdw_draw(s, draw) : x}};
    sdw_combine(x, s->count, terms, 4);
}
