/* time_embedding.h: numbers (timesteps, sizes) as vectors of sines and cosines, and the two-layer
 * perceptron behind them. */
#ifndef SDW_NN_TIME_EMBEDDING_H
#define SDW_NN_TIME_EMBEDDING_H

#include "nn/loader.h"

/* to[width]: sin(t f_i), cos(t f_i) with f_i = 10000^(-i/(width/2 - shift)), i < width/2 (Vaswani
 * et al. 2017, as in Ho et al. 2020); cosines first where `cosines_first`. width is even. */
void sdw_sinusoid(float *to, float t, int width, bool cosines_first, int shift);

struct sdw_time_embedding {
    struct sdw_weight *linear_1, *linear_2;
};

void sdw_time_embedding_load(struct sdw_time_embedding *embedding, struct sdw_loader *loader,
                             int in, int width);

/* linear_2(silu(linear_1(in))) [n,1,1,width], f32; in [n,1,1,in] of any type stays the caller's. */
struct sdw_tensor sdw_time_embedding_forward(struct sdw_device *dev,
                                             const struct sdw_time_embedding *embedding,
                                             const struct sdw_tensor *in);

#endif
