/* resize.h: images to another size. */
#ifndef SDW_IMAGE_RESIZE_H
#define SDW_IMAGE_RESIZE_H

#include "image/image.h"

/* Lanczos with three lobes, in fixed point and one axis after the other, each rounded to 8 bits: so
 * the pixels are those of Pillow, which feeds diffusers. `to` is new; the caller frees both. */
enum sdw_status sdw_image_resize(struct sdw_image *to, const struct sdw_image *from, int width,
                                 int height, struct sdw_error *err);

/* The nearest multiple of 8 that is not above `pixels`, at least 8: what a latent can hold. */
int sdw_image_fit(int pixels);

#endif
