/* webp_decode.c: WebP in, through libwebp. */
#include "image/raster.h"

#include <webp/decode.h>

enum sdw_status sdw_webp_decode(struct sdw_raster *raster, const uint8_t *bytes, size_t length,
                                struct sdw_error *err)
{
    WebPBitstreamFeatures features;
    if (WebPGetFeatures(bytes, length, &features) != VP8_STATUS_OK)
        return sdw_fail(err, SDW_INVALID, "the WebP is broken: its header cannot be read");
    if (features.has_animation)
        return sdw_fail(err, SDW_INVALID, "the WebP is animated; send a single picture");
    enum sdw_status status = sdw_raster_new(raster, features.width, features.height, err);
    if (status)
        return status;
    size_t stride = (size_t)raster->width * 4;
    if (!WebPDecodeRGBAInto(bytes, length, raster->rgba, stride * (size_t)raster->height,
                            (int)stride))
        return sdw_fail(err, SDW_INVALID, "the WebP is broken or cut off");
    return SDW_OK;
}
