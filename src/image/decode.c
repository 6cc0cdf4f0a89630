/* decode.c: which decoder, then alpha, orientation and grey in one pass. */
#include "image/decode.h"

#include "image/raster.h"

#include <assert.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

static long pixels_limit = SDW_IMAGE_PIXELS_MAX;

void sdw_image_pixels_limit_set(long pixels)
{
    assert(pixels > 0 && pixels <= SDW_IMAGE_PIXELS_MAX);
    pixels_limit = pixels;
}

enum sdw_status sdw_raster_new(struct sdw_raster *raster, int64_t width, int64_t height,
                               struct sdw_error *err)
{
    if (width < 1 || height < 1)
        return sdw_fail(err, SDW_INVALID, "the image has %lld x %lld pixels", (long long)width,
                        (long long)height);
    if (width > SDW_IMAGE_SIDE_MAX || height > SDW_IMAGE_SIDE_MAX || width * height > pixels_limit)
        return sdw_fail(err, SDW_TOO_LARGE,
                        "the image has %lld x %lld pixels, over the limit of %d a side and %ld in "
                        "all; send a smaller one",
                        (long long)width, (long long)height, SDW_IMAGE_SIDE_MAX, pixels_limit);
    raster->width = (int)width;
    raster->height = (int)height;
    raster->orientation = 1;
    raster->rgba = malloc((size_t)width * (size_t)height * 4);
    if (!raster->rgba)
        return sdw_fail(err, SDW_MEMORY, "no memory for an image of %lld x %lld pixels",
                        (long long)width, (long long)height);
    return SDW_OK;
}

/* ---- EXIF ---- */

#define EXIF_ORIENTATION 0x0112

static uint32_t number(const uint8_t *bytes, int size, bool little)
{
    uint32_t value = 0;
    for (int i = 0; i < size; i++)
        value |= (uint32_t)bytes[i] << 8 * (little ? i : size - 1 - i);
    return value;
}

int sdw_exif_orientation(const uint8_t *tiff, size_t length)
{
    if (length < 8 || (memcmp(tiff, "II*\0", 4) != 0 && memcmp(tiff, "MM\0*", 4) != 0))
        return 1;
    bool little = tiff[0] == 'I';
    size_t directory = number(tiff + 4, 4, little);
    if (directory > length - 2)
        return 1;
    size_t entries = number(tiff + directory, 2, little);
    for (size_t i = 0; i < entries; i++) {
        size_t at = directory + 2 + i * 12;
        if (at + 12 > length)
            return 1;
        if (number(tiff + at, 2, little) != EXIF_ORIENTATION)
            continue;
        uint32_t value = number(tiff + at + 8, 2, little);
        return value >= 1 && value <= 8 ? (int)value : 1;
    }
    return 1;
}

/* ---- one pass over the pixels ---- */

/* The pixel of the raster that is seen at (x, y) of an image of width w and height h. Orientations
 * 5 to 8 swap the axes. */
static const uint8_t *source(const struct sdw_raster *raster, int x, int y, int w, int h)
{
    int column = x, row = y;
    switch (raster->orientation) {
    case 2: column = w - 1 - x; break;
    case 3: column = w - 1 - x, row = h - 1 - y; break;
    case 4: row = h - 1 - y; break;
    case 5: column = y, row = x; break;
    case 6: column = y, row = w - 1 - x; break;
    case 7: column = h - 1 - y, row = w - 1 - x; break;
    case 8: column = h - 1 - y, row = x; break;
    default: break;
    }
    return raster->rgba + ((size_t)row * (size_t)raster->width + (size_t)column) * 4;
}

static uint8_t over(uint8_t value, uint8_t alpha, uint8_t background)
{
    return (uint8_t)((value * alpha + background * (255 - alpha) + 127) / 255);
}

/* ITU-R 601 in 16-bit fixed point. */
static uint8_t luminance(const uint8_t *rgb)
{
    return (uint8_t)((rgb[0] * 19595u + rgb[1] * 38470u + rgb[2] * 7471u + 0x8000u) >> 16);
}

static enum sdw_status flatten(struct sdw_image *image, const struct sdw_raster *raster,
                               int channels, struct sdw_error *err)
{
    bool swapped = raster->orientation >= 5;
    int w = swapped ? raster->height : raster->width, h = swapped ? raster->width : raster->height;
    enum sdw_status status = sdw_image_new(image, w, h, channels, err);
    if (status)
        return status;
    uint8_t background = channels == 1 ? 0 : 255, *to = image->pixels;
    for (int y = 0; y < h; y++)
        for (int x = 0; x < w; x++, to += channels) {
            const uint8_t *from = source(raster, x, y, w, h);
            uint8_t rgb[3];
            for (int c = 0; c < 3; c++)
                rgb[c] = over(from[c], from[3], background);
            if (channels == 1)
                *to = luminance(rgb);
            else
                memcpy(to, rgb, 3);
        }
    return SDW_OK;
}

enum sdw_status sdw_image_decode(struct sdw_image *image, const void *bytes, size_t length,
                                 int channels, struct sdw_error *err)
{
    assert(channels == 1 || channels == 3);
    *image = (struct sdw_image){0};
    const uint8_t *data = bytes;
    if (length > SDW_IMAGE_BYTES_MAX)
        return sdw_fail(err, SDW_TOO_LARGE, "the image file has %zu bytes, the limit is %u", length,
                        SDW_IMAGE_BYTES_MAX);
    struct sdw_raster raster = {0};
    enum sdw_status status;
    if (length >= 8 && memcmp(data, "\x89PNG\r\n\x1a\n", 8) == 0)
        status = sdw_png_decode(&raster, data, length, err);
    else if (length >= 3 && memcmp(data, "\xff\xd8\xff", 3) == 0)
        status = sdw_jpeg_decode(&raster, data, length, err);
    else if (length >= 12 && memcmp(data, "RIFF", 4) == 0 && memcmp(data + 8, "WEBP", 4) == 0)
        status = sdw_webp_decode(&raster, data, length, err);
    else
        return sdw_fail(err, SDW_INVALID, "%zu bytes that are no PNG, JPEG or WebP image", length);
    if (status == SDW_OK)
        status = flatten(image, &raster, channels, err);
    free(raster.rgba);
    return status;
}
