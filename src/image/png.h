/* png.h: images to PNG. The same image and texts give the same bytes. */
#ifndef SDW_IMAGE_PNG_H
#define SDW_IMAGE_PNG_H

#include "base/text.h"
#include "image/image.h"

/* A text chunk: key is 1 to 79 bytes of ASCII, text is UTF-8. */
struct sdw_png_text {
    const char *key;
    const char *text;
};

#define SDW_PNG_TEXTS_MAX      16
#define SDW_PNG_KEY_PARAMETERS "parameters" /* the line of settings that web UIs read back */
#define SDW_PNG_KEY_WORKER     "sd-worker"  /* our own, JSON */

/* Appends the file to `out`, whose own maximum bounds it. Texts come before the pixels. */
enum sdw_status sdw_png_encode(struct sdw_text *out, const struct sdw_image *image,
                               const struct sdw_png_text *texts, int count, struct sdw_error *err);

/* Bytes of the PNG file that `bytes` begins with, by its chunks; 0 when there is no whole one. */
size_t sdw_png_length(const void *bytes, size_t length);

#endif
