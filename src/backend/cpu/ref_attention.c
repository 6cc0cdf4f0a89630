/* ref_attention.c: scaled dot-product attention (Vaswani et al. 2017) in double, one query at a
 * time. */
#include "backend/cpu/cpu.h"

#include <math.h>

/* Softmax of scale q.k over the keys that this query sees. */
static void weigh_keys(double *weights, const struct sdw_tensor *q, const struct sdw_tensor *k,
                       int64_t query, int64_t first_key, int keys, int offset, int width,
                       double scale)
{
    double top = -INFINITY, sum = 0;
    for (int j = 0; j < keys; j++) {
        double dot = 0;
        for (int c = 0; c < width; c++)
            dot += (double)sdw_ref_get(q, query * q->c + offset + c) *
                   sdw_ref_get(k, (first_key + j) * k->c + offset + c);
        weights[j] = dot * scale;
        top = fmax(top, weights[j]);
    }
    for (int j = 0; j < keys; j++)
        sum += weights[j] = exp(weights[j] - top);
    for (int j = 0; j < keys; j++)
        weights[j] /= sum;
}

void sdw_ref_attention(struct sdw_device *dev, const struct sdw_tensor *out,
                       const struct sdw_tensor *q, const struct sdw_tensor *k,
                       const struct sdw_tensor *v, struct sdw_attention_geometry geometry)
{
    int queries = q->h * q->w, keys = k->h * k->w, width = q->c / geometry.heads;
    double *weights = sdw_cpu_alloc(dev, (size_t)keys, sizeof *weights);
    if (!weights)
        return;
    for (int n = 0; n < q->n; n++)
        for (int head = 0; head < geometry.heads; head++)
            for (int i = 0; i < queries; i++) {
                int64_t query = (int64_t)n * queries + i, first = (int64_t)n * keys;
                int seen = geometry.causal && i + 1 < keys ? i + 1 : keys;
                weigh_keys(weights, q, k, query, first, seen, head * width, width, geometry.scale);
                for (int c = 0; c < width; c++) {
                    double sum = 0;
                    for (int j = 0; j < seen; j++)
                        sum += weights[j] * sdw_ref_get(v, (first + j) * v->c + head * width + c);
                    sdw_ref_set(out, query * out->c + head * width + c, (float)sum);
                }
            }
    dev->ops->buffer_free(dev, weights);
}
