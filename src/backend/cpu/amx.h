/* amx.h: linear layers and 3x3 convolutions in bf16 with f32 sums on the tiles of Intel's AMX
 * (Sapphire Rapids and later), whose one instruction multiplies 16x32 by 32x16 numbers: ten times
 * the rate of vdpbf16ps. At that rate neither Winograd's transforms nor a copy of the picture by
 * kernel pixel (im2col) pay: a convolution is a sum of matrix products, one for each pixel of the
 * kernel, that read the same rows of pixels a little apart.
 *
 * A picture that is read at twice its size is four convolutions of 2x2 on the small one: outputs of
 * even and odd rows and columns see sums of the kernel's rows and columns that fall on one pixel.
 * 16 products make four outputs instead of 36; its weights take 16/9 of the direct form's memory.
 */
#ifndef SDW_BACKEND_CPU_AMX_H
#define SDW_BACKEND_CPU_AMX_H

#include "backend/cpu/cpu.h"

struct sdw_amx_weight;

#if defined(__x86_64__)

/* Whether this processor has AMX with bf16 and the system lets this process use it; asks the
 * system, which answers for all threads (Linux 5.16 and later). */
bool sdw_amx_allowed(void);

/* Whether a layer suits: input channels in a multiple of 32; linear, 1x1 or 3x3; a 3x3 kernel of
 * stride 1 has a padding of 1 all round. */
bool sdw_amx_usable(const struct sdw_weight *weight);

/* Packs weight->base's layer, `array` [out,in] or [out,in,k,k]; false after the device has failed.
 */
bool sdw_amx_pack(struct sdw_device *dev, struct sdw_cpu_weight *weight,
                  const struct sdw_array *array);
void sdw_amx_weight_free(struct sdw_amx_weight *weight);

/* As the rows of the table. */
void sdw_amx_linear(struct sdw_device *dev, const struct sdw_tensor *out,
                    const struct sdw_tensor *in, const struct sdw_cpu_weight *weight,
                    enum sdw_act act, const struct sdw_tensor *residual);
void sdw_amx_conv2d(struct sdw_device *dev, const struct sdw_tensor *out,
                    const struct sdw_tensor *in, const struct sdw_cpu_weight *weight,
                    const struct sdw_tensor *residual);

#else

static inline bool sdw_amx_allowed(void)
{
    return false;
}
static inline bool sdw_amx_usable(const struct sdw_weight *weight)
{
    (void)weight;
    return false;
}
static inline bool sdw_amx_pack(struct sdw_device *dev, struct sdw_cpu_weight *weight,
                                const struct sdw_array *array)
{
    (void)dev, (void)weight, (void)array;
    return false;
}
static inline void sdw_amx_weight_free(struct sdw_amx_weight *weight)
{
    (void)weight;
}
static inline void sdw_amx_linear(struct sdw_device *dev, const struct sdw_tensor *out,
                                  const struct sdw_tensor *in, const struct sdw_cpu_weight *weight,
                                  enum sdw_act act, const struct sdw_tensor *residual)
{
    (void)dev, (void)out, (void)in, (void)weight, (void)act, (void)residual;
}
static inline void sdw_amx_conv2d(struct sdw_device *dev, const struct sdw_tensor *out,
                                  const struct sdw_tensor *in, const struct sdw_cpu_weight *weight,
                                  const struct sdw_tensor *residual)
{
    (void)dev, (void)out, (void)in, (void)weight, (void)residual;
}

#endif
#endif
