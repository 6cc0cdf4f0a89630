/* sampler.h: from noise to latents, one evaluation of the model after the other.
 *
 * A sampler knows which timesteps the model is asked at and how each answer moves the latents. It
 * works on flat host arrays of `count` floats (all images of a batch together): latents are tiny
 * beside the model, and so the one loop is the same for every device:
 *
 *     sdw_sampler_begin(s, x, noise)                  (or add_noise(s, 0, x, latents, noise))
 *     for i in 0 .. evals-1:
 *         sdw_sampler_scale_input(s, i, in, x)
 *         out = model(in, sdw_sampler_timestep(s, i))
 *         sdw_sampler_step(s, i, x, out, draw)
 *         if sdw_sampler_ends_step(s, i): progress(sdw_sampler_step_of(s, i), sdw_sampler_steps(s))
 *
 * Evaluations are taken in order, each once. Formulas: the papers named in each sampler's file; the
 * choices among their variants, and the discretisation, are those of diffusers 0.27.2. */
#ifndef SDW_SAMPLE_SAMPLER_H
#define SDW_SAMPLE_SAMPLER_H

#include "base/status.h"
#include "sample/schedule.h"

#include <stdbool.h>
#include <stdint.h>

#define SDW_SAMPLER_STEPS_MAX 1000

struct sdw_sampler;

/* What people choose from; a row of the table in samplers.c. */
struct sdw_sampler_info {
    const char *name;       /* on the wire: "dpmpp_2m" */
    const char *title;      /* as web UIs call it: "DPM++ 2M" */
    const char *class_name; /* diffusers' */
    const char *help;       /* one sentence */
    bool stochastic;        /* draws noise while it runs */
    bool karras;            /* takes the schedule "karras" */
};

int sdw_samplers_count(void);
const struct sdw_sampler_info *sdw_samplers_at(int i);
/* By name, title or diffusers class, in any case, with or without the ending "_karras" or " Karras"
 * of a sampler that takes that schedule. NULL when there is none. */
const struct sdw_sampler_info *sdw_samplers_find(const char *name);
/* The row that the model's configuration asks for; NULL when its class is unknown or absent. */
const struct sdw_sampler_info *sdw_samplers_of_config(const struct sdw_schedule_config *config);

/* Names of schedules, NULL after the last: "normal" (spacing as the model's configuration says),
 * "karras". */
extern const char *const sdw_schedule_names[];

struct sdw_sampler_options {
    const char *name;     /* NULL: as the configuration says */
    const char *schedule; /* NULL: as the configuration says */
    int steps;            /* 1..SDW_SAMPLER_STEPS_MAX */
    double strength;      /* 1 runs all steps, less the last int(steps * strength), 0 none */
    double eta;           /* ddim: 0 draws no noise, 1 as much as ddpm */
    int64_t count;        /* floats in the latents of all images */
};

/* Writes the sampler's noise of one evaluation: `count` standard normal values. */
struct sdw_sampler_draw {
    void (*fill)(void *context, float *noise, int64_t count);
    void *context;
};

enum sdw_status sdw_sampler_open(struct sdw_sampler **sampler,
                                 const struct sdw_sampler_options *options,
                                 const struct sdw_schedule_config *config, struct sdw_error *err);
void sdw_sampler_close(struct sdw_sampler *sampler); /* NULL is allowed */

const struct sdw_sampler_info *sdw_sampler_info(const struct sdw_sampler *sampler);
int sdw_sampler_evals(const struct sdw_sampler *sampler); /* evaluations of the model to be run */
int sdw_sampler_steps(const struct sdw_sampler *sampler); /* steps that a person sees: 1..steps */
int sdw_sampler_step_of(const struct sdw_sampler *sampler, int i);    /* 1..steps */
bool sdw_sampler_ends_step(const struct sdw_sampler *sampler, int i); /* one in each step */

float sdw_sampler_timestep(const struct sdw_sampler *sampler, int i);
/* Noise over signal at evaluation i (0..evals; after the last one it may be 0). */
float sdw_sampler_sigma(const struct sdw_sampler *sampler, int i);
/* Noise of this standard deviation is where a run from nothing begins. */
float sdw_sampler_init_sigma(const struct sdw_sampler *sampler);

/* x = noise * init_sigma; x may be noise. */
void sdw_sampler_begin(const struct sdw_sampler *sampler, float *x, const float *noise);
/* x = x0 under the noise of evaluation i, or x0 itself when i is evals. */
void sdw_sampler_add_noise(const struct sdw_sampler *sampler, int i, float *x, const float *x0,
                           const float *noise);

void sdw_sampler_scale_input(const struct sdw_sampler *sampler, int i, float *in, const float *x);
/* Moves x by the model's answer `out` to evaluation i. */
void sdw_sampler_step(struct sdw_sampler *sampler, int i, float *x, const float *out,
                      const struct sdw_sampler_draw *draw);

/* What a sampler remembers between evaluations, as bytes: with x and the noise generators it
 * resumes a run before evaluation i, byte for byte, in a sampler opened with the same options by
 * the same build. */
size_t sdw_sampler_state_bytes(const struct sdw_sampler *sampler);
void sdw_sampler_state_save(const struct sdw_sampler *sampler, void *bytes);
enum sdw_status sdw_sampler_state_load(struct sdw_sampler *sampler, const void *bytes, size_t size,
                                       struct sdw_error *err);

#endif
