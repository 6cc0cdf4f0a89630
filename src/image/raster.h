/* raster.h: what every decoder leaves behind, before alpha and orientation are dealt with. Internal
 * to image/. */
#ifndef SDW_IMAGE_RASTER_H
#define SDW_IMAGE_RASTER_H

#include "image/image.h"

struct sdw_raster {
    int width, height;
    uint8_t *rgba;   /* [height, width, 4], owned; alpha not premultiplied */
    int orientation; /* EXIF's, 1 to 8 */
};

/* Checks the size against the maxima of image.h and allocates. */
enum sdw_status sdw_raster_new(struct sdw_raster *raster, int64_t width, int64_t height,
                               struct sdw_error *err);

/* 1 to 8 out of an EXIF block (TIFF, without the "Exif" header of JPEG); 1 when it says nothing. */
int sdw_exif_orientation(const uint8_t *tiff, size_t length);

/* Each fills a zeroed raster; the caller frees rgba, also after an error. */
enum sdw_status sdw_png_decode(struct sdw_raster *raster, const uint8_t *bytes, size_t length,
                               struct sdw_error *err);
enum sdw_status sdw_jpeg_decode(struct sdw_raster *raster, const uint8_t *bytes, size_t length,
                                struct sdw_error *err);
enum sdw_status sdw_webp_decode(struct sdw_raster *raster, const uint8_t *bytes, size_t length,
                                struct sdw_error *err);

#endif
