/* image.h: pictures of 8 bits a channel, in memory.
 *
 * A `struct sdw_image` owns its pixels; sdw_image_free gives them back and empties it. Rows follow
 * each other without padding, from the top left; 3 channels are sRGB, 1 is grey (masks). */
#ifndef SDW_IMAGE_IMAGE_H
#define SDW_IMAGE_IMAGE_H

#include "base/status.h"

#include <stddef.h>
#include <stdint.h>

#define SDW_IMAGE_SIDE_MAX   16384       /* pixels */
#define SDW_IMAGE_PIXELS_MAX (32u << 20) /* width * height */
#define SDW_IMAGE_BYTES_MAX  (64u << 20) /* of a file that is decoded */

struct sdw_image {
    int width, height;
    int channels;    /* 1 or 3 */
    uint8_t *pixels; /* [height, width, channels] */
};

/* Uninitialised pixels. Sizes over the maxima are an error (they come from outside). */
enum sdw_status sdw_image_new(struct sdw_image *image, int width, int height, int channels,
                              struct sdw_error *err);
void sdw_image_free(struct sdw_image *image);

static inline size_t sdw_image_bytes(const struct sdw_image *image)
{
    return (size_t)image->width * (size_t)image->height * (size_t)image->channels;
}

#endif
