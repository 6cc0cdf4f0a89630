/* dpm2.c: DPM-Solver-2 as k-diffusion has it, Karras et al. 2022, algorithm 2 with the slope of the
 * middle (geometric mean) sigma, plain and ancestral. */
#include "sample/samplers.h"

#include <string.h>

#define START 0 /* slot: the latents at the start of the step */

/* Even evaluations lie at the steps' sigmas, odd ones in the middle towards `target`. */
static enum sdw_status prepare(struct sdw_sampler *s, bool ancestral, struct sdw_error *err)
{
    double timestep[SDW_SAMPLER_STEPS_MAX], sigma[SDW_SAMPLER_STEPS_MAX + 1];
    sdw_sigmas_fill(s, SDW_SIGMAS_KARRAS_FAMILY, timestep, sigma);
    enum sdw_status status = sdw_sampler_reserve(s, 2 * s->steps - 1, err);
    for (int i = 0; status == SDW_OK && i < s->total; i++) {
        int step = i / 2;
        double target = sigma[step + 1], up;
        if (ancestral)
            sdw_ancestral_split(sigma[step], sigma[step + 1], &up, &target);
        double middle = sqrt(sigma[step] * target), t = timestep[step];
        if (s->config.use_karras_sigmas)
            t = rint(t); /* the reference does so here, and for no other of Karras' family */
        s->sigma[i] = i % 2 == 0 ? sigma[step] : middle;
        s->timestep[i] = (float)(i % 2 == 0 ? t : sdw_timestep_of_sigma(s, middle));
    }
    return status;
}

enum sdw_status sdw_dpm2_prepare(struct sdw_sampler *s, struct sdw_error *err)
{
    return prepare(s, false, err);
}

enum sdw_status sdw_dpm2_ancestral_prepare(struct sdw_sampler *s, struct sdw_error *err)
{
    return prepare(s, true, err);
}

/* From the latents at the start of the step along the slope at evaluation i. */
static void move(struct sdw_sampler *s, int i, double way, double fresh, float *x, const float *out)
{
    struct sdw_mix slope = sdw_mix_slope(s->config.prediction_type, s->sigma[i]);
    struct sdw_term terms[] = {
        {1, s->slot[START]}, {way * slope.x, x}, {way * slope.out, out}, {fresh, s->noise}};
    sdw_combine(x, s->count, terms, 4);
}

/* To the middle; the last step, which ends at sigma 0, goes there at once. */
static void half_step(struct sdw_sampler *s, int i, float *x, const float *out)
{
    memcpy(s->slot[START], x, (size_t)s->count * sizeof *x);
    move(s, i, s->sigma[i + 1] - s->sigma[i], 0, x, out);
}

void sdw_dpm2_step(struct sdw_sampler *s, int i, float *x, const float *out,
                   const struct sdw_sampler_draw *draw)
{
    (void)draw;
    if (i % 2 == 0)
        half_step(s, i, x, out);
    else
        move(s, i, s->sigma[i + 1] - s->sigma[i - 1], 0, x, out);
}

void sdw_dpm2_ancestral_step(struct sdw_sampler *s, int i, float *x, const float *out,
                             const struct sdw_sampler_draw *draw)
{
    sdw_draw(s, draw); /* at every evaluation, as the reference does: the generator moves on */
    if (i % 2 == 0) {
        half_step(s, i, x, out);
        return;
    }
    double up, down;
    sdw_ancestral_split(s->sigma[i - 1], s->sigma[i + 1], &up, &down);
    move(s, i, down - s->sigma[i - 1], up, x, out);
}
