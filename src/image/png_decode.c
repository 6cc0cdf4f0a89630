/* png_decode.c: PNG in, through libpng. See png.c on longjmp. */
#include "image/raster.h"

#include <png.h>
#include <setjmp.h>
#include <stdlib.h>
#include <string.h>

#define CHUNK_BYTES_MAX (8u << 20) /* of a text, profile or EXIF block */
#define CHUNKS_MAX      256

struct reader {
    const uint8_t *next, *end;
    struct sdw_raster *raster;
    png_bytep *rows;
    struct sdw_error error;
};

static void fail(png_structp png, png_const_charp message)
{
    struct reader *reader = png_get_error_ptr(png);
    if (reader->error.status == SDW_OK)
        sdw_fail(&reader->error, SDW_INVALID, "the PNG is broken: %s", message);
    png_longjmp(png, 1);
}

static void warn(png_structp png, png_const_charp message)
{
    (void)png;
    (void)message;
}

static void read_bytes(png_structp png, png_bytep to, size_t count)
{
    struct reader *reader = png_get_io_ptr(png);
    if (count > (size_t)(reader->end - reader->next))
        png_error(png, "it ends too early");
    memcpy(to, reader->next, count);
    reader->next += count;
}

/* Whatever the file holds, rows of 8-bit RGBA come out. */
static void ask_for_rgba(png_structp png)
{
    png_set_expand(png); /* palettes, 1 to 4 bits, a transparent colour */
    png_set_scale_16(png);
    png_set_gray_to_rgb(png);
    png_set_add_alpha(png, 0xff, PNG_FILLER_AFTER);
    png_set_interlace_handling(png);
}

static void read_orientation(png_structp png, png_infop info, struct sdw_raster *raster)
{
#ifdef PNG_eXIf_SUPPORTED
    png_bytep exif = NULL;
    png_uint_32 length = 0;
    if (png_get_eXIf_1(png, info, &length, &exif))
        raster->orientation = sdw_exif_orientation(exif, length);
#else
    (void)png, (void)info, (void)raster;
#endif
}

static void read_file(png_structp png, png_infop info, struct reader *reader)
{
    if (setjmp(png_jmpbuf(png)))
        return; /* fail() noted why */
    struct sdw_raster *raster = reader->raster;
    png_set_user_limits(png, SDW_IMAGE_SIDE_MAX, SDW_IMAGE_SIDE_MAX);
    png_set_chunk_cache_max(png, CHUNKS_MAX);
    png_set_chunk_malloc_max(png, CHUNK_BYTES_MAX);
    png_read_info(png, info);
    if (sdw_raster_new(raster, png_get_image_width(png, info), png_get_image_height(png, info),
                       &reader->error))
        png_error(png, "too large");
    read_orientation(png, info, raster);
    ask_for_rgba(png);
    png_read_update_info(png, info);
    size_t stride = (size_t)raster->width * 4;
    if (png_get_rowbytes(png, info) != stride)
        png_error(png, "of a kind that is not known");
    reader->rows = malloc((size_t)raster->height * sizeof *reader->rows);
    if (!reader->rows)
        png_error(png, "no memory for its rows");
    for (int y = 0; y < raster->height; y++)
        reader->rows[y] = raster->rgba + (size_t)y * stride;
    png_read_image(png, reader->rows);
}

enum sdw_status sdw_png_decode(struct sdw_raster *raster, const uint8_t *bytes, size_t length,
                               struct sdw_error *err)
{
    struct reader reader = {.next = bytes, .end = bytes + length, .raster = raster};
    png_structp png = png_create_read_struct(PNG_LIBPNG_VER_STRING, &reader, fail, warn);
    png_infop info = png ? png_create_info_struct(png) : NULL;
    if (info) {
        png_set_read_fn(png, &reader, read_bytes);
        read_file(png, info, &reader);
    } else {
        sdw_fail(&reader.error, SDW_MEMORY, "no memory to read a PNG");
    }
    png_destroy_read_struct(&png, &info, NULL);
    free(reader.rows);
    if (reader.error.status)
        return sdw_fail(err, reader.error.status, "%s", reader.error.message);
    return SDW_OK;
}
