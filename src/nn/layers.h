/* layers.h: operators that make their own result: the shape follows from the operands, the caller
 * frees it. They read as expressions where the table's rows read as statements. */
#ifndef SDW_NN_LAYERS_H
#define SDW_NN_LAYERS_H

#include "tensor/backend.h"

/* act(linear(in)), of `dtype`. */
struct sdw_tensor sdw_linear_new(struct sdw_device *dev, const struct sdw_weight *weight,
                                 const struct sdw_tensor *in, enum sdw_act act,
                                 enum sdw_dtype dtype);
struct sdw_tensor sdw_conv_new(struct sdw_device *dev, const struct sdw_weight *weight,
                               const struct sdw_tensor *in, enum sdw_dtype dtype);
/* Norms give the compute type: a matrix product comes next. */
struct sdw_tensor sdw_group_norm_new(struct sdw_device *dev, const struct sdw_norm *norm,
                                     const struct sdw_tensor *in, enum sdw_act act,
                                     const struct sdw_tensor *add);
struct sdw_tensor sdw_layer_norm_new(struct sdw_device *dev, const struct sdw_norm *norm,
                                     const struct sdw_tensor *in);
struct sdw_tensor sdw_upload_new(struct sdw_device *dev, const float *from_host, int n, int h,
                                 int w, int c); /* f32 */

/* `in` for a matrix product to read: itself where it has the compute type, else a copy. Free both
 * with sdw_operand_free. */
struct sdw_tensor sdw_operand(struct sdw_device *dev, const struct sdw_tensor *in);
/* Frees the copy, if it is one; `in` stays. */
void sdw_operand_free(struct sdw_device *dev, struct sdw_tensor *operand,
                      const struct sdw_tensor *in);
/* The same with `in` used up: it is freed, or becomes the result. */
struct sdw_tensor sdw_operand_take(struct sdw_device *dev, struct sdw_tensor *in);

#endif
