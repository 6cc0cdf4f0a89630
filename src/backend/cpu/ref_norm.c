/* ref_norm.c: group norm and layer norm in two passes, in double. */
#include "backend/cpu/cpu.h"

#include <math.h>

/* The value that is normalised: in + add. */
static double shifted(const struct sdw_tensor *in, const struct sdw_tensor *add, int n,
                      int64_t pixel, int c)
{
    int64_t pixels = (int64_t)in->h * in->w;
    double value = sdw_ref_get(in, (n * pixels + pixel) * in->c + c);
    return add ? value + sdw_ref_get(add, (int64_t)n * in->c + c) : value;
}

static void normalize_group(const struct sdw_tensor *out, const struct sdw_tensor *in,
                            const struct sdw_norm *norm, enum sdw_act act,
                            const struct sdw_tensor *add, int n, int first, int width)
{
    int64_t pixels = (int64_t)in->h * in->w;
    double count = (double)pixels * width, mean = 0, variance = 0;
    for (int64_t p = 0; p < pixels; p++)
        for (int c = first; c < first + width; c++)
            mean += shifted(in, add, n, p, c);
    mean /= count;
    for (int64_t p = 0; p < pixels; p++)
        for (int c = first; c < first + width; c++)
            variance += (shifted(in, add, n, p, c) - mean) * (shifted(in, add, n, p, c) - mean);
    double scale = 1 / sqrt(variance / count + norm->epsilon);
    for (int64_t p = 0; p < pixels; p++)
        for (int c = first; c < first + width; c++) {
            double value =
                (shifted(in, add, n, p, c) - mean) * scale * norm->weight[c] + norm->bias[c];
            sdw_ref_set(out, (n * pixels + p) * in->c + c, (float)sdw_ref_act_value(value, act));
        }
}

void sdw_ref_group_norm(struct sdw_device *dev, const struct sdw_tensor *out,
                        const struct sdw_tensor *in, const struct sdw_norm *norm, enum sdw_act act,
                        const struct sdw_tensor *add)
{
    int width = in->c / norm->groups;
    (void)dev;
    for (int n = 0; n < in->n; n++)
        for (int group = 0; group < norm->groups; group++)
            normalize_group(out, in, norm, act, add, n, group * width, width);
}

void sdw_ref_layer_norm(struct sdw_device *dev, const struct sdw_tensor *out,
                        const struct sdw_tensor *in, const struct sdw_norm *norm)
{
    (void)dev;
    for (int64_t r = 0; r < sdw_tensor_rows(in); r++) {
        double mean = 0, variance = 0;
        for (int c = 0; c < in->c; c++)
            mean += sdw_ref_get(in, r * in->c + c);
        mean /= in->c;
        for (int c = 0; c < in->c; c++)
            variance +=
                (sdw_ref_get(in, r * in->c + c) - mean) * (sdw_ref_get(in, r * in->c + c) - mean);
        double scale = 1 / sqrt(variance / in->c + norm->epsilon);
        for (int c = 0; c < in->c; c++) {
            double value = (sdw_ref_get(in, r * in->c + c) - mean) * scale;
            sdw_ref_set(out, r * in->c + c, (float)(value * norm->weight[c] + norm->bias[c]));
        }
    }
}
