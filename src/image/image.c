/* image.c: see image.h. */
#include "image/image.h"

#include <assert.h>
#include <stdlib.h>

enum sdw_status sdw_image_new(struct sdw_image *image, int width, int height, int channels,
                              struct sdw_error *err)
{
    assert(channels == 1 || channels == 3);
    *image = (struct sdw_image){0};
    if (width < 1 || height < 1)
        return sdw_fail(err, SDW_INVALID, "an image of %d x %d pixels has none", width, height);
    if (width > SDW_IMAGE_SIDE_MAX || height > SDW_IMAGE_SIDE_MAX ||
        (int64_t)width * height > SDW_IMAGE_PIXELS_MAX)
        return sdw_fail(err, SDW_TOO_LARGE,
                        "an image of %d x %d pixels is over the limit of %d a side and %u in all",
                        width, height, SDW_IMAGE_SIDE_MAX, SDW_IMAGE_PIXELS_MAX);
    struct sdw_image fresh = {width, height, channels, NULL};
    fresh.pixels = malloc(sdw_image_bytes(&fresh));
    if (!fresh.pixels)
        return sdw_fail(err, SDW_MEMORY, "no memory for an image of %d x %d pixels", width, height);
    *image = fresh;
    return SDW_OK;
}

void sdw_image_free(struct sdw_image *image)
{
    free(image->pixels);
    *image = (struct sdw_image){0};
}
