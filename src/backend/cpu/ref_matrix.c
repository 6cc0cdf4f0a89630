/* ref_matrix.c: linear and convolution as their definitions read, with sums in double. */
#include "backend/cpu/cpu.h"

#include <stddef.h>

void sdw_ref_linear(struct sdw_device *dev, const struct sdw_tensor *out,
                    const struct sdw_tensor *in, const struct sdw_weight *weight, enum sdw_act act,
                    const struct sdw_tensor *residual)
{
    const struct sdw_cpu_weight *w = (const struct sdw_cpu_weight *)weight;
    int64_t rows = sdw_tensor_rows(in);
    (void)dev;
    for (int64_t r = 0; r < rows; r++)
        for (int o = 0; o < out->c; o++) {
            double sum = w->bias[o];
            for (int i = 0; i < in->c; i++)
                sum += (double)sdw_ref_get(in, r * in->c + i) * w->plain[(int64_t)o * in->c + i];
            sum = sdw_ref_act_value(sum, act);
            if (residual)
                sum += sdw_ref_get(residual, r * out->c + o);
            sdw_ref_set(out, r * out->c + o, (float)sum);
        }
}

/* One output value: the sum over the kernel's pixels that lie inside the picture. */
static double conv_value(const struct sdw_cpu_weight *w, const struct sdw_tensor *out,
                         const struct sdw_tensor *in, int n, int y, int x, int o)
{
    const struct sdw_conv_geometry *g = &w->base.geometry;
    int k = w->base.kernel, scale = g->doubled ? 2 : 1;
    int height = g->doubled ? out->h : in->h, width = g->doubled ? out->w : in->w;
    double sum = w->bias[o];
    for (int ky = 0; ky < k; ky++)
        for (int kx = 0; kx < k; kx++) {
            int iy = y * g->stride - g->top + ky, ix = x * g->stride - g->left + kx;
            if (iy < 0 || iy >= height || ix < 0 || ix >= width)
                continue;
            int64_t at = (((int64_t)n * in->h + iy / scale) * in->w + ix / scale) * in->c;
            for (int i = 0; i < in->c; i++)
                sum += (double)sdw_ref_get(in, at + i) *
                       w->plain[(((int64_t)o * in->c + i) * k + ky) * k + kx];
        }
    return sum;
}

void sdw_ref_conv2d(struct sdw_device *dev, const struct sdw_tensor *out,
                    const struct sdw_tensor *in, const struct sdw_weight *weight,
                    const struct sdw_tensor *residual)
{
    const struct sdw_cpu_weight *w = (const struct sdw_cpu_weight *)weight;
    int64_t at = 0;
    (void)dev;
    for (int n = 0; n < out->n; n++)
        for (int y = 0; y < out->h; y++)
            for (int x = 0; x < out->w; x++)
                for (int o = 0; o < out->c; o++, at++) {
                    double sum = conv_value(w, out, in, n, y, x, o);
                    if (residual)
                        sum += sdw_ref_get(residual, at);
                    sdw_ref_set(out, at, (float)sum);
                }
}
