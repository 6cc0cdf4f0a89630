/* winograd.h: 3x3 convolutions of stride 1 by Winograd's F(2x2, 3x3) in bf16 with f32 sums (Lavin
 * and Gray 2015, "Fast Algorithms for Convolutional Neural Networks", section 4.1): 16
 * multiplications where the direct form has 36.
 *
 * A picture that is read at twice its size needs 9: of the four numbers that a transformed row of
 * four pixels a b b c has, one is zero, so that three products make two outputs:
 *
 *     y0 = g0 (a - b) + (g0 + g1 + g2) b
 *     y1 = (g0 + g1 + g2) b - g2 (b - c)
 *
 * Its weights take the memory of the direct form, and it rounds less: b is exact.
 *
 * Needs AVX512-BF16. Without doubling it costs 16/9 of the memory of the weights and about twice
 * the rounding error of a direct bf16 convolution (relative RMS 4.4e-3 against 2.3e-3 a layer). */
#ifndef SDW_BACKEND_CPU_WINOGRAD_H
#define SDW_BACKEND_CPU_WINOGRAD_H

#include "tensor/tensor.h"

#include <stdbool.h>

struct sdw_winograd; /* packed weights */

/* Whether this CPU and these channel counts suit: AVX512-BF16, in a multiple of 32, out a multiple
 * of 16. */
bool sdw_winograd_usable(int in, int out);

/* weight [out,in,3,3], bias [out] or NULL; doubled: as in sdw_conv_geometry. NULL when there is no
 * memory. *bytes: what it takes. */
struct sdw_winograd *sdw_winograd_pack(const struct sdw_array *weight, const struct sdw_array *bias,
                                       bool doubled, size_t *bytes);
void sdw_winograd_free(struct sdw_winograd *weight);

/* out [n,h,w,o] (f32 or bf16) = conv(in [n,h,w,i] or half as high and wide, bf16, padding 1) + bias
 * + residual (type of out, may be out or NULL). False when there was no memory for the tiles. */
bool sdw_winograd_run(const struct sdw_tensor *out, const struct sdw_tensor *in,
                      const struct sdw_winograd *weight, const struct sdw_tensor *residual);

#endif
