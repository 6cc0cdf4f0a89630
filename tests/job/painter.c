/* painter.c: see painter.h. */
#include "painter.h"

#include "base/clock.h"

#include <png.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void write_png(png_structp png, png_bytep bytes, size_t length)
{
    if (sdw_text_append(png_get_io_ptr(png), bytes, length, NULL))
        png_error(png, "too large");
}

static void flush_png(png_structp png)
{
    (void)png;
}

enum sdw_status painter_png(struct sdw_text *text, int width, int height, uint64_t seed)
{
    png_structp png = png_create_write_struct(PNG_LIBPNG_VER_STRING, NULL, NULL, NULL);
    png_infop info = png_create_info_struct(png);
    png_bytep row = malloc(3 * (size_t)width);
    if (setjmp(png_jmpbuf(png)))
        abort();
    png_set_write_fn(png, text, write_png, flush_png);
    png_set_IHDR(png, info, (png_uint_32)width, (png_uint_32)height, 8, PNG_COLOR_TYPE_RGB,
                 PNG_INTERLACE_NONE, PNG_COMPRESSION_TYPE_DEFAULT, PNG_FILTER_TYPE_DEFAULT);
    png_write_info(png, info);
    for (int y = 0; y < height; y++) {
        for (int x = 0; x < width; x++) {
            row[3 * x] = (png_byte)(255 * x / width);
            row[3 * x + 1] = (png_byte)(255 * y / height);
            row[3 * x + 2] = (png_byte)seed;
        }
        png_write_row(png, row);
    }
    png_write_end(png, NULL);
    png_destroy_write_struct(&png, &info);
    free(row);
    return SDW_OK;
}

static enum sdw_status paint(void *context, const struct sdw_params *params,
                             const struct sdw_progress *progress, struct sdw_result *result,
                             struct sdw_error *err)
{
    struct painter *painter = context;
    enum sdw_status status = SDW_OK;
    double start_s = sdw_clock_seconds();
    atomic_fetch_add(&painter->runs, 1);
    atomic_store(&painter->last_seed, params->seed);
    atomic_store(&painter->input_bytes, (int)params->init_image.length);
    int done = 0;
    if (progress->resume && progress->resume_length == sizeof done)
        memcpy(&done, progress->resume, sizeof done);
    atomic_fetch_add(&painter->skipped, done);
    int total = sdw_params_steps(params);
    for (int step = done + 1; step <= total && !status; step++) {
        do {
            usleep(1000 * (unsigned)atomic_load(&painter->step_ms) + 20);
            if (atomic_load(progress->cancel) && !atomic_load(&painter->deaf))
                status = sdw_fail(err, SDW_CANCELLED, "cancelled");
        } while (!status && atomic_load(&painter->hold));
        if (!status)
            progress->step(progress->context, step, total);
        if (!status && params->preview && progress->preview) {
            struct sdw_text png;
            sdw_text_init(&png, SDW_PNG_BYTES_MAX);
            painter_png(&png, 8, 8, (uint64_t)step);
            progress->preview(progress->context, step, total, &png);
            sdw_text_free(&png);
        }
        if (!status && progress->save)
            progress->save(progress->context, &step, sizeof step);
    }
    if (!status && painter->fail)
        status = sdw_fail(err, SDW_DEVICE, "%s", painter->fail);
    if (!status && atomic_load(&painter->encodes)) {
        progress->computed(progress->context);
        while (atomic_load(&painter->hold_encode))
            usleep(200);
    }
    if (!status) {
        result->seed = params->seed;
        result->report = strdup("{\"prompt\":{\"tokens\":1}}");
        result->width = params->width;
        result->height = params->height;
        result->unet_s = sdw_clock_seconds() - start_s;
        for (int i = 0; i < (params->n ? params->n : 1) && !status; i++)
            status = painter_png(&result->png, params->width, params->height,
                                 params->seed + (uint64_t)i);
    }
    atomic_fetch_add(&painter->ended, 1);
    return status;
}

struct sdw_runner painter_runner(struct painter *painter)
{
    return (struct sdw_runner){.context = painter, .run = paint};
}
