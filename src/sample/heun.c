/* heun.c: Heun's method, Karras et al. 2022, algorithm 2 without churn: a trial step of Euler, then
 * the step with the mean of the slopes at both ends. */
#include "sample/samplers.h"

#include <string.h>

#define START 0 /* slots: the latents at the start of the step, and the slope there */
#define SLOPE 1

/* Each sigma but the first is asked at twice: as the end of a step, and as the next one's start. */
enum sdw_status sdw_heun_prepare(struct sdw_sampler *s, struct sdw_error *err)
{
    double timestep[SDW_SAMPLER_STEPS_MAX], sigma[SDW_SAMPLER_STEPS_MAX + 1];
    sdw_sigmas_fill(s, SDW_SIGMAS_KARRAS_FAMILY, timestep, sigma);
    enum sdw_status status = sdw_sampler_reserve(s, 2 * s->steps - 1, err);
    for (int i = 0; status == SDW_OK && i < s->total; i++) {
        s->timestep[i] = (float)timestep[(i + 1) / 2];
        s->sigma[i] = sigma[(i + 1) / 2];
    }
    return status;
}

void sdw_heun_step(struct sdw_sampler *s, int i, float *x, const float *out,
                   const struct sdw_sampler_draw *draw)
{
    (void)draw;
    struct sdw_mix slope = sdw_mix_slope(s->config.prediction_type, s->sigma[i]);
    struct sdw_term here[] = {{slope.x, x}, {slope.out, out}};
    if (i % 2 == 0) { /* the trial; the last step, to sigma 0, is no more than that */
        sdw_combine(s->slot[SLOPE], s->count, here, 2);
        memcpy(s->slot[START], x, (size_t)s->count * sizeof *x);
        double way = s->sigma[i + 1] - s->sigma[i];
        sdw_combine(x, s->count, (struct sdw_term[]){{1, x}, {way, s->slot[SLOPE]}}, 2);
        return;
    }
    double half = (s->sigma[i] - s->sigma[i - 1]) / 2;
    struct sdw_term terms[] = {
        {1, s->slot[START]}, {half, s->slot[SLOPE]}, {half * slope.x, x}, {half * slope.out, out}};
    sdw_combine(x, s->count, terms, 4);
}
