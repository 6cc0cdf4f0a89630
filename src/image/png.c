/* png.c: PNG through libpng.
 *
 * libpng reports errors by longjmp. Everything that a jump must find again lives in a struct that
 * is set up before setjmp, so that no local variable changes between the two. */
#include "image/png.h"

#include <assert.h>
#include <png.h>
#include <setjmp.h>
#include <stdbool.h>
#include <string.h>

/* The level is part of "the same bytes"; 6 is zlib's own balance. */
#define DEFLATE_LEVEL 6

struct writer {
    struct sdw_text *out;
    size_t start; /* of the file in out, to cut it off again after an error */
    struct sdw_error error;
};

static void fail(png_structp png, png_const_charp message)
{
    struct writer *writer = png_get_error_ptr(png);
    if (writer->error.status == SDW_OK)
        sdw_fail(&writer->error, SDW_INTERNAL, "writing the PNG: %s", message);
    png_longjmp(png, 1);
}

static void warn(png_structp png, png_const_charp message)
{
    (void)png;
    (void)message;
}

static void write_bytes(png_structp png, png_bytep bytes, size_t count)
{
    struct writer *writer = png_get_io_ptr(png);
    if (sdw_text_append(writer->out, bytes, count, &writer->error) != SDW_OK)
        png_error(png, "the buffer refused");
}

static void flush(png_structp png)
{
    (void)png;
}

static bool is_ascii(const char *text)
{
    for (; *text; text++)
        if ((unsigned char)*text >= 0x80)
            return false;
    return true;
}

/* ASCII goes to tEXt, which every reader knows; the rest to iTXt, the only chunk for UTF-8. */
static void set_texts(png_structp png, png_infop info, const struct sdw_png_text *texts, int count)
{
    png_text chunks[SDW_PNG_TEXTS_MAX];
    memset(chunks, 0, sizeof chunks);
    for (int i = 0; i < count; i++) {
        bool ascii = is_ascii(texts[i].text);
        chunks[i].compression = ascii ? PNG_TEXT_COMPRESSION_NONE : PNG_ITXT_COMPRESSION_NONE;
        chunks[i].key = (png_charp)texts[i].key;
        chunks[i].text = (png_charp)texts[i].text;
        chunks[i].text_length = ascii ? strlen(texts[i].text) : 0;
        chunks[i].itxt_length = ascii ? 0 : strlen(texts[i].text);
    }
    png_set_text(png, info, chunks, count);
}

static void write_file(png_structp png, png_infop info, const struct sdw_image *image,
                       const struct sdw_png_text *texts, int count)
{
    if (setjmp(png_jmpbuf(png)))
        return; /* fail() noted why */
    png_set_compression_level(png, DEFLATE_LEVEL);
    png_set_IHDR(png, info, (png_uint_32)image->width, (png_uint_32)image->height, 8,
                 image->channels == 1 ? PNG_COLOR_TYPE_GRAY : PNG_COLOR_TYPE_RGB,
                 PNG_INTERLACE_NONE, PNG_COMPRESSION_TYPE_DEFAULT, PNG_FILTER_TYPE_DEFAULT);
    set_texts(png, info, texts, count);
    png_write_info(png, info);
    size_t stride = (size_t)image->width * (size_t)image->channels;
    for (int y = 0; y < image->height; y++)
        png_write_row(png, image->pixels + (size_t)y * stride);
    png_write_end(png, NULL);
}

enum sdw_status sdw_png_encode(struct sdw_text *out, const struct sdw_image *image,
                               const struct sdw_png_text *texts, int count, struct sdw_error *err)
{
    assert(image->pixels && count >= 0 && count <= SDW_PNG_TEXTS_MAX);
    struct writer writer = {.out = out, .start = out->length};
    png_structp png = png_create_write_struct(PNG_LIBPNG_VER_STRING, &writer, fail, warn);
    png_infop info = png ? png_create_info_struct(png) : NULL;
    if (info) {
        png_set_write_fn(png, &writer, write_bytes, flush);
        write_file(png, info, image, texts, count);
    } else {
        sdw_fail(&writer.error, SDW_MEMORY, "no memory to write a PNG");
    }
    png_destroy_write_struct(&png, &info);
    if (writer.error.status == SDW_OK)
        return SDW_OK;
    out->length = writer.start;
    if (out->data)
        out->data[out->length] = '\0';
    return sdw_fail(err, writer.error.status, "%s", writer.error.message);
}

size_t sdw_png_length(const void *bytes, size_t length)
{
    static const uint8_t signature[8] = "\x89PNG\r\n\x1a\n";
    const uint8_t *at = bytes;
    size_t offset = sizeof signature;
    if (length < offset || memcmp(at, signature, sizeof signature) != 0)
        return 0;
    while (length - offset >= 12) { /* length, type, data, checksum */
        const uint8_t *chunk = at + offset;
        size_t size =
            (size_t)chunk[0] << 24 | (size_t)chunk[1] << 16 | (size_t)chunk[2] << 8 | chunk[3];
        if (size > length - offset - 12)
            return 0;
        offset += size + 12;
        if (memcmp(chunk + 4, "IEND", 4) == 0)
            return offset;
    }
    return 0;
}
