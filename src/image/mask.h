/* mask.h: which part of an image is repainted. White (255) is repainted, black (0) is kept; masks
 * have one channel. */
#ifndef SDW_IMAGE_MASK_H
#define SDW_IMAGE_MASK_H

#include "image/image.h"

#define SDW_MASK_BLUR_MAX 64 /* pixels */

/* 128 and more become 255, the rest 0. */
void sdw_mask_binarise(struct sdw_image *mask);

/* Gaussian blur with a standard deviation of `radius` pixels, 0 to SDW_MASK_BLUR_MAX; the border
 * pixels go on outside. Softens the seam; masks that a model is asked with are binary. */
enum sdw_status sdw_mask_blur(struct sdw_image *mask, int radius, struct sdw_error *err);

/* The mask at the latents' resolution, 0 to 1, [height / factor, width / factor]: pixel
 * (factor y + offset, factor x + offset), that is nearest neighbour with offset 0. */
void sdw_mask_to_latent(float *latent, const struct sdw_image *mask, int factor, int offset);

/* pixels: [height, width, 3] in -1..1. What is repainted (128 and more) becomes 0, mid grey. */
void sdw_mask_hide(float *pixels, const struct sdw_image *mask);

/* pixels: [height, width, channels] in -1..1, value / 127.5 - 1. */
void sdw_image_to_floats(float *pixels, const struct sdw_image *image);

#endif
