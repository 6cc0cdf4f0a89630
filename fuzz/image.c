/* image.c: any bytes as an uploaded image. What decodes can be resized and written again. */
#include "fuzz.h"

#include "base/text.h"
#include "image/decode.h"
#include "image/mask.h"
#include "image/png.h"
#include "image/resize.h"

#include <string.h>

#define PIXELS_MAX (256 * 256) /* of what is resized: time is for the decoders */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    for (int channels = 1; channels <= 3; channels += 2) {
        struct sdw_image image, small, back;
        struct sdw_error err = {0};
        if (sdw_image_decode(&image, data, size, channels, &err) != SDW_OK) {
            FUZZ_CHECK(err.status != SDW_OK && strlen(err.message) > 8 && !image.pixels);
            continue;
        }
        FUZZ_CHECK(image.channels == channels && image.width > 0 && image.height > 0);
        if (image.width * image.height <= PIXELS_MAX) {
            FUZZ_CHECK(sdw_image_resize(&small, &image, 16, 24, &err) == SDW_OK);
            if (channels == 1)
                sdw_mask_binarise(&small);
            struct sdw_text file;
            sdw_text_init(&file, 1 << 16);
            FUZZ_CHECK(sdw_png_encode(&file, &small, NULL, 0, &err) == SDW_OK);
            FUZZ_CHECK(sdw_image_decode(&back, file.data, file.length, channels, &err) == SDW_OK);
            FUZZ_CHECK(memcmp(back.pixels, small.pixels, sdw_image_bytes(&small)) == 0);
            sdw_image_free(&back);
            sdw_image_free(&small);
            sdw_text_free(&file);
        }
        sdw_image_free(&image);
    }
    return 0;
}
