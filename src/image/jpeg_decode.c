/* jpeg_decode.c: JPEG in, through libjpeg-turbo.
 *
 * libjpeg leaves by longjmp, as libpng does. It would fill a file that was cut off with grey and
 * only warn: here that is an error, for a client whose upload broke wants to know. */
#include "image/raster.h"

#include <setjmp.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include <jerror.h>
#include <jpeglib.h>

#define SCANS_MAX 500 /* of a progressive file: each costs a pass over the whole image */

static const char exif_header[6] = "Exif\0";

struct reader {
    struct jpeg_error_mgr errors;
    struct jpeg_progress_mgr progress;
    jmp_buf leave;
    struct sdw_raster *raster;
    struct sdw_error error;
};

static void leave(struct jpeg_decompress_struct *jpeg, const char *message)
{
    struct reader *reader = jpeg->client_data;
    if (reader->error.status == SDW_OK)
        sdw_fail(&reader->error, SDW_INVALID, "the JPEG is broken: %s", message);
    longjmp(reader->leave, 1);
}

static void fail(j_common_ptr jpeg)
{
    char message[JMSG_LENGTH_MAX];
    jpeg->err->format_message(jpeg, message);
    leave((struct jpeg_decompress_struct *)jpeg, message);
}

static void warn(j_common_ptr jpeg, int level)
{
    if (level < 0 && jpeg->err->msg_code == JWRN_JPEG_EOF)
        leave((struct jpeg_decompress_struct *)jpeg, "it ends too early");
}

static void watch(j_common_ptr common)
{
    struct jpeg_decompress_struct *jpeg = (struct jpeg_decompress_struct *)common;
    if (jpeg->input_scan_number > SCANS_MAX)
        leave(jpeg, "it has too many scans");
}

static void read_orientation(const struct jpeg_decompress_struct *jpeg, struct sdw_raster *raster)
{
    for (jpeg_saved_marker_ptr marker = jpeg->marker_list; marker; marker = marker->next)
        if (marker->marker == JPEG_APP0 + 1 && marker->data_length > sizeof exif_header &&
            memcmp(marker->data, exif_header, sizeof exif_header) == 0)
            raster->orientation = sdw_exif_orientation(marker->data + sizeof exif_header,
                                                       marker->data_length - sizeof exif_header);
}

/* Adobe's files store CMYK inverted: 255 is no ink. */
static void cmyk_to_rgba(uint8_t *row, int width, bool inverted)
{
    for (uint8_t *p = row; p < row + (size_t)width * 4; p += 4) {
        int black = inverted ? p[3] : 255 - p[3];
        for (int c = 0; c < 3; c++)
            p[c] = (uint8_t)(((inverted ? p[c] : 255 - p[c]) * black + 127) / 255);
        p[3] = 255;
    }
}

static void read_file(struct jpeg_decompress_struct *jpeg, const uint8_t *bytes, size_t length)
{
    struct reader *reader = jpeg->client_data;
    if (setjmp(reader->leave))
        return; /* leave() noted why */
    jpeg_mem_src(jpeg, bytes, (unsigned long)length);
    jpeg_save_markers(jpeg, JPEG_APP0 + 1, 0xffff);
    jpeg_read_header(jpeg, TRUE);
    if (sdw_raster_new(reader->raster, jpeg->image_width, jpeg->image_height, &reader->error))
        leave(jpeg, "too large");
    read_orientation(jpeg, reader->raster);
    jpeg->out_color_space = jpeg->num_components == 4 ? JCS_CMYK : JCS_EXT_RGBA;
    jpeg_start_decompress(jpeg);
    if (jpeg->output_components != 4)
        leave(jpeg, "of a kind that is not known");
    size_t stride = (size_t)reader->raster->width * 4;
    while (jpeg->output_scanline < jpeg->output_height) {
        JSAMPROW row = reader->raster->rgba + (size_t)jpeg->output_scanline * stride;
        jpeg_read_scanlines(jpeg, &row, 1);
        if (jpeg->out_color_space == JCS_CMYK)
            cmyk_to_rgba(row, reader->raster->width, jpeg->saw_Adobe_marker);
    }
    jpeg_finish_decompress(jpeg);
}

enum sdw_status sdw_jpeg_decode(struct sdw_raster *raster, const uint8_t *bytes, size_t length,
                                struct sdw_error *err)
{
    struct reader reader = {.raster = raster};
    struct jpeg_decompress_struct jpeg = {0};
    jpeg.err = jpeg_std_error(&reader.errors);
    jpeg.client_data = &reader;
    reader.errors.error_exit = fail;
    reader.errors.emit_message = warn;
    reader.progress.progress_monitor = watch;
    if (setjmp(reader.leave) == 0) {
        jpeg_create_decompress(&jpeg); /* keeps err and client_data */
        jpeg.progress = &reader.progress;
        read_file(&jpeg, bytes, length);
    }
    jpeg_destroy_decompress(&jpeg);
    if (reader.error.status)
        return sdw_fail(err, reader.error.status, "%s", reader.error.message);
    return SDW_OK;
}
