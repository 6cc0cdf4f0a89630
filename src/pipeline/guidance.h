/* guidance.h: classifier-free guidance (Ho and Salimans 2022), the only reader of guidance_scale.
 */
#ifndef SDW_PIPELINE_GUIDANCE_H
#define SDW_PIPELINE_GUIDANCE_H

#include <stdbool.h>
#include <stdint.h>

/* Whether a second, unconditioned prediction is needed. */
static inline bool sdw_guidance_runs(double scale)
{
    return scale > 1;
}

/* out = uncond + scale (cond - uncond), `count` values of one image. With rescale > 0 the result is
 * pulled towards cond's standard deviation (Lin et al. 2023, "Common Diffusion Noise Schedules and
 * Sample Steps are Flawed", section 3.4). out may be cond or uncond. */
void sdw_guidance_apply(float *out, const float *uncond, const float *cond, int64_t count,
                        double scale, double rescale);

#endif
