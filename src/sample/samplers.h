/* samplers.h: the functions that fill the table. Internal to sample/. */
#ifndef SDW_SAMPLE_SAMPLERS_H
#define SDW_SAMPLE_SAMPLERS_H

#include "sample/internal.h"

#define SDW_STEP(name)                                                                             \
    void name(struct sdw_sampler *s, int i, float *x, const float *out,                            \
              const struct sdw_sampler_draw *draw)
#define SDW_PREPARE(name) enum sdw_status name(struct sdw_sampler *s, struct sdw_error *err)

SDW_STEP(sdw_ddim_step);
SDW_STEP(sdw_ddpm_step);
SDW_PREPARE(sdw_pndm_prepare);
SDW_STEP(sdw_pndm_step);
SDW_STEP(sdw_euler_step);
SDW_STEP(sdw_euler_ancestral_step);
SDW_PREPARE(sdw_heun_prepare);
SDW_STEP(sdw_heun_step);
SDW_STEP(sdw_lms_step);
SDW_PREPARE(sdw_dpm2_prepare);
SDW_STEP(sdw_dpm2_step);
SDW_PREPARE(sdw_dpm2_ancestral_prepare);
SDW_STEP(sdw_dpm2_ancestral_step);
SDW_PREPARE(sdw_dpmpp_multistep_prepare);
SDW_STEP(sdw_dpmpp_multistep_step);
SDW_PREPARE(sdw_dpmpp_singlestep_prepare);
SDW_STEP(sdw_dpmpp_singlestep_step);
SDW_PREPARE(sdw_unipc_prepare);
SDW_STEP(sdw_unipc_step);
SDW_PREPARE(sdw_lcm_prepare);
SDW_STEP(sdw_lcm_step);

/* An ancestral step from sigma to next: down without noise, then up with it. */
void sdw_ancestral_split(double sigma, double next, double *up, double *down);

#undef SDW_STEP
#undef SDW_PREPARE

#endif
