/* lcm.c: latent consistency models, Luo et al. 2023: each answer jumps to the end, then noise
 * brings it back to the next timestep. */
#include "sample/samplers.h"

#define SIGMA_DATA 0.5

enum sdw_status sdw_lcm_prepare(struct sdw_sampler *s, struct sdw_error *err)
{
    int trained = s->config.original_inference_steps;
    int gap = s->config.num_train_timesteps / trained;
    if (s->steps > trained || gap < 1)
        return sdw_fail(err, SDW_INVALID,
                        "lcm runs at most the %d steps it was distilled for, got %d", trained,
                        s->steps);
    enum sdw_status status = sdw_sampler_reserve(s, s->steps, err);
    for (int i = 0; status == SDW_OK && i < s->total; i++) {
        int place = (int)floor(i * ((double)trained / s->steps));
        int t = (trained - place) * gap - 1;
        s->timestep[i] = (float)t;
        s->sigma[i] = sqrt((1 - s->alpha_bar[t]) / s->alpha_bar[t]);
    }
    return status;
}

void sdw_lcm_step(struct sdw_sampler *s, int i, float *x, const float *out,
                  const struct sdw_sampler_draw *draw)
{
    bool last = i + 1 == s->total;
    double t = s->timestep[i], bar = s->alpha_bar[(int)t];
    double scaled = t * s->config.timestep_scaling;
    double spread = scaled * scaled + SIGMA_DATA * SIGMA_DATA;
    double skip = SIGMA_DATA * SIGMA_DATA / spread, jump = scaled / sqrt(spread);
    struct sdw_mix x0 = sdw_mix_x0(s->config.prediction_type, sqrt(bar), sqrt(1 - bar));
    sdw_combine(s->scratch, s->count, (struct sdw_term[]){{x0.x, x}, {x0.out, out}}, 2);
    sdw_clip(s, s->scratch);

    double next_bar = last ? 1 : s->alpha_bar[(int)s->timestep[i + 1]];
    struct sdw_term terms[] = {{sqrt(next_bar) * jump, s->scratch},
                               {sqrt(next_bar) * skip, x},
                               {sqrt(1 - next_bar), last ? NULL : sdw_draw(s, draw)}};
    sdw_combine(x, s->count, terms, last ? 2 : 3);
}
