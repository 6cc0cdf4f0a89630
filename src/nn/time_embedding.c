/* time_embedding.c: computed in f32 as the reference does, arguments included: at t = 999 the
 * rounding of t*f is what the models were trained with. */
#include "nn/time_embedding.h"

#include "nn/layers.h"

#include <math.h>

void sdw_sinusoid(float *to, float t, int width, bool cosines_first, int shift)
{
    int half = width / 2;
    float *sines = to + (cosines_first ? half : 0), *cosines = to + (cosines_first ? 0 : half);
    for (int i = 0; i < half; i++) {
        float exponent = -logf(10000.0f) * (float)i / (float)(half - shift);
        float angle = t * expf(exponent);
        sines[i] = sinf(angle);
        cosines[i] = cosf(angle);
    }
}

void sdw_time_embedding_load(struct sdw_time_embedding *embedding, struct sdw_loader *loader,
                             int in, int width)
{
    embedding->linear_1 = sdw_load_linear(loader, "linear_1", in, width, SDW_BIAS);
    embedding->linear_2 = sdw_load_linear(loader, "linear_2", width, width, SDW_BIAS);
}

struct sdw_tensor sdw_time_embedding_forward(struct sdw_device *dev,
                                             const struct sdw_time_embedding *embedding,
                                             const struct sdw_tensor *in)
{
    struct sdw_tensor x = sdw_operand(dev, in);
    struct sdw_tensor hidden =
        sdw_linear_new(dev, embedding->linear_1, &x, SDW_ACT_SILU, dev->compute);
    sdw_operand_free(dev, &x, in);
    struct sdw_tensor out =
        sdw_linear_new(dev, embedding->linear_2, &hidden, SDW_ACT_NONE, SDW_F32);
    sdw_tensor_free(dev, &hidden);
    return out;
}
