/* schedule.c: betas, timesteps and sigmas, as the fields of a scheduler's configuration lay them
 * out.
 *
 * alpha_bar is computed in the reference's float32, since its last bits reach the picture; the rest
 * is double precision. */
#include "sample/internal.h"

#include <assert.h>
#include <stdlib.h>

/* ---- alpha_bar ---- */

/* Entry i of n evenly spaced numbers, in float32 and from the nearer end as torch.linspace has it.
 */
static float linspace(float first, float last, int i, int n)
{
    if (n == 1)
        return first;
    float gap = (last - first) / (float)(n - 1);
    return i < n / 2 ? first + gap * (float)i : last - gap * (float)(n - 1 - i);
}

/* Nichol and Dhariwal 2021: alpha_bar as a squared cosine. */
static double cosine_bar(double t)
{
    double c = cos((t + 0.008) / 1.008 * M_PI / 2);
    return c * c;
}

static float beta_at(const struct sdw_schedule_config *config, int i)
{
    int n = config->num_train_timesteps;
    if (config->beta_schedule == SDW_BETA_SQUARED_COSINE)
        return (float)fmin(1 - cosine_bar((i + 1.0) / n) / cosine_bar((double)i / n), 0.999);
    if (config->beta_schedule == SDW_BETA_LINEAR)
        return linspace((float)config->beta_start, (float)config->beta_end, i, n);
    float root = linspace((float)sqrt(config->beta_start), (float)sqrt(config->beta_end), i, n);
    return root * root;
}

/* Lin et al. 2023, algorithm 1: the roots are shifted and stretched so that the last one is 0. */
static void rescale_to_zero_snr(double *alpha_bar, int n)
{
    assert(n > 0);
    double first = sqrt(alpha_bar[0]), last = sqrt(alpha_bar[n - 1]);
    for (int i = 0; i < n; i++) {
        double root = (sqrt(alpha_bar[i]) - last) * first / (first - last);
        alpha_bar[i] = root * root;
    }
}

enum sdw_status sdw_alpha_bar_fill(struct sdw_sampler *s, struct sdw_error *err)
{
    int n = s->config.num_train_timesteps;
    s->alpha_bar = malloc((size_t)n * sizeof *s->alpha_bar);
    if (!s->alpha_bar)
        return sdw_fail(err, SDW_MEMORY, "no memory for a schedule of %d timesteps", n);
    double product = 1;
    for (int i = 0; i < n; i++) {
        product *= 1.0f - beta_at(&s->config, i);
        s->alpha_bar[i] = (float)product;
    }
    if (!s->config.rescale_betas_zero_snr)
        return SDW_OK;
    rescale_to_zero_snr(s->alpha_bar, n);
    bool looks_up = !s->kind->info.karras; /* else sigma must stay finite */
    if (!looks_up)
        s->alpha_bar[n - 1] = 0x1p-24;
    else if (s->config.prediction_type == SDW_PREDICTION_EPSILON)
        return sdw_fail(err, SDW_MODEL,
                        "a schedule that ends in pure noise (rescale_betas_zero_snr) leaves "
                        "nothing to an epsilon prediction; the model needs v_prediction");
    return SDW_OK;
}

double sdw_alpha_bar_at(const struct sdw_sampler *s, int timestep)
{
    if (timestep < 0)
        return s->config.set_alpha_to_one ? 1 : s->alpha_bar[0];
    int last = s->config.num_train_timesteps - 1;
    return s->alpha_bar[timestep < last ? timestep : last];
}

static double sigma_at(const struct sdw_sampler *s, int timestep)
{
    return sqrt((1 - s->alpha_bar[timestep]) / s->alpha_bar[timestep]);
}

/* ---- timesteps ---- */

enum sdw_status sdw_sampler_reserve(struct sdw_sampler *s, int total, struct sdw_error *err)
{
    s->total = total;
    s->timestep = calloc((size_t)total, sizeof *s->timestep);
    s->sigma = calloc((size_t)total + 1, sizeof *s->sigma);
    if (!s->timestep || !s->sigma)
        return sdw_fail(err, SDW_MEMORY, "no memory for a schedule of %d evaluations", total);
    return SDW_OK;
}

double sdw_spaced_timestep(const struct sdw_schedule_config *config, int j, int steps, int points)
{
    int train = config->num_train_timesteps, left = points - 1 - j, stride = train / points;
    double t;
    if (config->timestep_spacing == SDW_SPACING_LEADING)
        t = (double)left * stride + config->steps_offset;
    else if (config->timestep_spacing == SDW_SPACING_TRAILING)
        t = rint(train - j * ((double)train / steps)) - 1;
    else
        t = points == 1 ? 0 : left * ((train - 1.0) / (points - 1));
    return fmin(fmax(t, 0), train - 1);
}

enum sdw_status sdw_prepare_timesteps(struct sdw_sampler *s, struct sdw_error *err)
{
    enum sdw_status status = sdw_sampler_reserve(s, s->steps, err);
    for (int i = 0; status == SDW_OK && i < s->total; i++) {
        double t = rint(sdw_spaced_timestep(&s->config, i, s->steps, s->steps));
        s->timestep[i] = (float)t;
        s->sigma[i] = sigma_at(s, (int)t);
    }
    return status;
}

/* ---- sigmas ---- */

/* Between whole timesteps sigma is interpolated. */
static double sigma_between(const struct sdw_sampler *s, double timestep)
{
    int low = (int)timestep;
    double part = timestep - low;
    double sigma = sigma_at(s, low);
    return part > 0 ? sigma + part * (sigma_at(s, low + 1) - sigma) : sigma;
}

double sdw_timestep_of_sigma(const struct sdw_sampler *s, double sigma)
{
    int low = 0, high = s->config.num_train_timesteps - 1;
    while (high - low > 1) { /* sigma grows with the timestep */
        int middle = (low + high) / 2;
        *(sigma_at(s, middle) <= sigma ? &low : &high) = middle;
    }
    double floor = log(sigma_at(s, low)), ceiling = log(sigma_at(s, high));
    double part = (log(sigma) - floor) / (ceiling - floor);
    return low + fmin(fmax(part, 0), 1) * (high - low);
}

/* Karras et al. 2022, equation 5, with rho = 7. */
static double karras_sigma(double first, double last, double part)
{
    const double rho = 7;
    return pow(pow(first, 1 / rho) + part * (pow(last, 1 / rho) - pow(first, 1 / rho)), rho);
}

/* Lu et al. 2022 (DPM-Solver): even steps of log sigma. */
static double lu_sigma(double first, double last, double part)
{
    return exp(log(first) + part * (log(last) - log(first)));
}

void sdw_sigmas_fill(const struct sdw_sampler *s, enum sdw_sigma_style style, double *timestep,
                     double *sigma)
{
    const struct sdw_schedule_config *config = &s->config;
    bool dpm = style == SDW_SIGMAS_DPM_FAMILY;
    int steps = s->steps, last_timestep = config->num_train_timesteps - 1;
    for (int i = 0; i < steps; i++) {
        timestep[i] = sdw_spaced_timestep(config, i, steps, dpm ? steps + 1 : steps);
        timestep[i] = dpm ? rint(timestep[i]) : (double)(float)timestep[i];
        sigma[i] = sigma_between(s, timestep[i]);
    }
    sigma[steps] = dpm && config->final_sigmas_type == SDW_FINAL_SIGMA_MIN ? sigma_at(s, 0) : 0;
    if (!config->use_karras_sigmas && !(dpm && config->use_lu_lambdas))
        return;
    double first = dpm ? sigma_at(s, last_timestep) : sigma[0];
    double last = dpm ? sigma_at(s, 0) : sigma[steps - 1];
    for (int i = 0; i < steps; i++) {
        double part = steps > 1 ? (double)i / (steps - 1) : 0;
        sigma[i] = (config->use_karras_sigmas ? karras_sigma : lu_sigma)(first, last, part);
        double t = sdw_timestep_of_sigma(s, sigma[i]);
        timestep[i] = dpm ? rint(t) : t;
    }
}

static enum sdw_status prepare(struct sdw_sampler *s, enum sdw_sigma_style style,
                               struct sdw_error *err)
{
    double timestep[SDW_SAMPLER_STEPS_MAX];
    enum sdw_status status = sdw_sampler_reserve(s, s->steps, err);
    if (status)
        return status;
    sdw_sigmas_fill(s, style, timestep, s->sigma);
    for (int i = 0; i < s->steps; i++)
        s->timestep[i] = (float)timestep[i];
    return SDW_OK;
}

enum sdw_status sdw_prepare_sigmas(struct sdw_sampler *s, struct sdw_error *err)
{
    return prepare(s, SDW_SIGMAS_KARRAS_FAMILY, err);
}

enum sdw_status sdw_prepare_dpm_sigmas(struct sdw_sampler *s, struct sdw_error *err)
{
    return prepare(s, SDW_SIGMAS_DPM_FAMILY, err);
}
