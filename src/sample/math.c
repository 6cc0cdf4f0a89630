/* math.c: sums of arrays, and what the three kinds of prediction mean.
 *
 * Every update of a sampler is linear in the latents, the model's answer and what is remembered, so
 * one function moves all data; double precision inside makes the order of the terms irrelevant to
 * what reaches the picture. */
#include "sample/internal.h"

#include <assert.h>

void sdw_combine(float *to, int64_t count, const struct sdw_term *terms, int n)
{
    assert(n > 0 && n <= SDW_SAMPLER_TERMS_MAX);
    for (int64_t j = 0; j < count; j++) {
        double sum = 0;
        for (int k = 0; k < n; k++)
            sum += terms[k].w * terms[k].values[j];
        to[j] = (float)sum;
    }
}

/* x = alpha x0 + sigma e, and the model answers e, or v = alpha e - sigma x0 (Salimans and Ho
 * 2022), or x0. For v alpha^2 + sigma^2 is 1. */
struct sdw_mix sdw_mix_x0(enum sdw_prediction prediction, double alpha, double sigma)
{
    if (prediction == SDW_PREDICTION_EPSILON)
        return (struct sdw_mix){1 / alpha, -sigma / alpha};
    if (prediction == SDW_PREDICTION_V)
        return (struct sdw_mix){alpha, -sigma};
    return (struct sdw_mix){0, 1};
}

struct sdw_mix sdw_mix_epsilon(enum sdw_prediction prediction, double alpha, double sigma)
{
    if (prediction == SDW_PREDICTION_EPSILON)
        return (struct sdw_mix){0, 1};
    if (prediction == SDW_PREDICTION_V)
        return (struct sdw_mix){sigma, alpha};
    return (struct sdw_mix){1 / sigma, -alpha / sigma};
}

struct sdw_mix sdw_mix_slope(enum sdw_prediction prediction, double sigma)
{
    double alpha = sdw_alpha_of(sigma); /* alpha x is the same point in the preserving space */
    struct sdw_mix x0 = sdw_mix_x0(prediction, alpha, alpha * sigma);
    return (struct sdw_mix){(1 - x0.x * alpha) / sigma, -x0.out / sigma};
}

struct sdw_point sdw_point_at(const struct sdw_sampler *s, int i)
{
    double ratio = s->sigma[i];
    return (struct sdw_point){sdw_alpha_of(ratio), sdw_sigma_of(ratio), -log(ratio)};
}

void sdw_clip(const struct sdw_sampler *s, float *x0)
{
    float range = (float)s->config.clip_sample_range;
    for (int64_t j = 0; s->config.clip_sample && j < s->count; j++)
        x0[j] = fminf(fmaxf(x0[j], -range), range);
}

const float *sdw_draw(struct sdw_sampler *s, const struct sdw_sampler_draw *draw)
{
    draw->fill(draw->context, s->noise, s->count);
    return s->noise;
}
