/* guidance.c: see guidance.h. */
#include "pipeline/guidance.h"

#include <math.h>

static double standard_deviation(const float *values, int64_t count)
{
    double sum = 0, squares = 0;
    for (int64_t i = 0; i < count; i++)
        sum += values[i];
    double mean = sum / (double)count;
    for (int64_t i = 0; i < count; i++)
        squares += (values[i] - mean) * (values[i] - mean);
    return sqrt(squares / (double)(count > 1 ? count - 1 : 1));
}

void sdw_guidance_apply(float *out, const float *uncond, const float *cond, int64_t count,
                        double scale, double rescale)
{
    double target =
        rescale > 0 ? standard_deviation(cond, count) : 0; /* before out overwrites cond */
    float factor = (float)scale;
    for (int64_t i = 0; i < count; i++)
        out[i] = uncond[i] + factor * (cond[i] - uncond[i]);
    if (rescale <= 0)
        return;
    double spread = standard_deviation(out, count);
    if (spread == 0)
        return;
    float pull = (float)(rescale * target / spread + (1 - rescale));
    for (int64_t i = 0; i < count; i++)
        out[i] *= pull;
}
