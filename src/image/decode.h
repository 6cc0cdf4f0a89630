/* decode.h: PNG, JPEG and WebP from memory. */
#ifndef SDW_IMAGE_DECODE_H
#define SDW_IMAGE_DECODE_H

#include "image/image.h"

/* Lowers the limit of pixels of images that are decoded, for the whole process, from
 * SDW_IMAGE_PIXELS_MAX. Set before anything is decoded. */
void sdw_image_pixels_limit_set(long pixels);

/* The file type is told by its first bytes. 16-bit samples are rounded to 8, palettes and CMYK
 * become RGB, EXIF orientation is carried out; colour profiles are not.
 *
 * With channels 3 the image is RGB, and what is transparent lies over white, as people see it. With
 * channels 1 it is a mask: luminance (ITU-R 601), and what is transparent lies over black, which
 * means "kept".
 *
 * Errors: SDW_INVALID for what is no such file or a broken one, SDW_TOO_LARGE over the maxima of
 * image.h. `image` is empty after an error. */
enum sdw_status sdw_image_decode(struct sdw_image *image, const void *bytes, size_t length,
                                 int channels, struct sdw_error *err);

#endif
