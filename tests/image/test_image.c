/* test_image.c: files in, files out, sizes and masks. data/ holds one picture, 32 x 16, in many
 * kinds of file: four quarters, in colour red, green, blue and white (or clear), in grey 255, 128,
 * 64 and 0 (or clear). */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/text.h"
#include "image/decode.h"
#include "image/mask.h"
#include "image/png.h"
#include "image/resize.h"

#define WIDTH  32
#define HEIGHT 16

static struct sdw_text read_data(const char *name)
{
    char path[256];
    struct sdw_text text;
    struct sdw_error err = {0};
    snprintf(path, sizeof path, "tests/image/data/%s", name);
    sdw_text_init(&text, 1 << 20);
    if (sdw_text_read_file(&text, path, &err))
        fail_msg("%s", err.message);
    return text;
}

static enum sdw_status decode_data(struct sdw_image *image, const char *name, int channels,
                                   struct sdw_error *err)
{
    struct sdw_text text = read_data(name);
    enum sdw_status status = sdw_image_decode(image, text.data, text.length, channels, err);
    sdw_text_free(&text);
    return status;
}

/* The middle of a quarter is `want`, within the tolerance. */
static void check_quarter(const struct sdw_image *image, int quarter, const uint8_t *want,
                          int tolerance, const char *name)
{
    int x = quarter % 2 * WIDTH / 2 + WIDTH / 4, y = quarter / 2 * HEIGHT / 2 + HEIGHT / 4;
    const uint8_t *got = image->pixels + (y * WIDTH + x) * image->channels;
    for (int c = 0; c < image->channels; c++)
        if (abs(got[c] - want[c]) > tolerance)
            fail_msg("%s: quarter %d, channel %d is %d, expected %d", name, quarter, c, got[c],
                     want[c]);
}

static void every_kind_of_file(void **state)
{
    (void)state;
    static const uint8_t colours[4][3] = {{255, 0, 0}, {0, 255, 0}, {0, 0, 255}, {255, 255, 255}};
    static const uint8_t greys[4][3] = {{255, 255, 255}, {128, 128, 128}, {64, 64, 64}, {0, 0, 0}};
    static const uint8_t clear[4][3] = {
        {255, 255, 255}, {128, 128, 128}, {64, 64, 64}, {255, 255, 255}};
    static const uint8_t bits[4][3] = {{255, 255, 255}, {255, 255, 255}, {255, 255, 255}, {0}};
    static const struct {
        const char *name;
        const uint8_t (*want)[3];
        int tolerance;
    } cases[] = {
        {"rgb8.png", colours, 0},
        {"rgb16.png", colours, 0},
        {"palette2.png", colours, 0},
        {"palette8.png", colours, 0},
        {"interlaced.png", colours, 0},
        {"exif6.png", colours, 0},
        {"rgba8.png", colours, 0},
        {"palette_clear.png", colours, 0},
        {"grey8.png", greys, 0},
        {"grey16.png", greys, 0},
        {"grey1.png", bits, 0},
        {"grey_alpha.png", clear, 0},
        {"exif1.jpg", colours, 6},
        {"exif2.jpg", colours, 6},
        {"exif3.jpg", colours, 6},
        {"exif4.jpg", colours, 6},
        {"exif5.jpg", colours, 6},
        {"exif6.jpg", colours, 6},
        {"exif7.jpg", colours, 6},
        {"exif8.jpg", colours, 6},
        {"progressive.jpg", colours, 6},
        {"cmyk.jpg", colours, 6},
        {"grey.jpg", greys, 4},
        {"lossy.webp", colours, 12},
        {"lossless_alpha.webp", colours, 0},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct sdw_image image;
        struct sdw_error err = {0};
        if (decode_data(&image, cases[i].name, 3, &err))
            fail_msg("%s: %s", cases[i].name, err.message);
        assert_int_equal(image.width, WIDTH);
        assert_int_equal(image.height, HEIGHT);
        for (int quarter = 0; quarter < 4; quarter++)
            check_quarter(&image, quarter, cases[i].want[quarter], cases[i].tolerance,
                          cases[i].name);
        sdw_image_free(&image);
    }
}

static void masks_are_luminance_over_black(void **state)
{
    (void)state;
    static const uint8_t want[4] = {76, 150, 29, 0}; /* red, green, blue, clear */
    struct sdw_image mask;
    assert_int_equal(decode_data(&mask, "rgba8.png", 1, NULL), SDW_OK);
    for (int quarter = 0; quarter < 4; quarter++)
        check_quarter(&mask, quarter, &want[quarter], 0, "rgba8.png");
    sdw_image_free(&mask);
}

static void broken_files(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        enum sdw_status status;
        const char *words;
    } cases[] = {
        {"cut.png", SDW_INVALID, "PNG is broken"},
        {"header_only.png", SDW_INVALID, "ends too early"},
        {"bad_crc.png", SDW_INVALID, "PNG is broken"},
        {"huge.png", SDW_TOO_LARGE, "16000 x 16000"},
        {"wide.png", SDW_INVALID, "PNG is broken"},
        {"cut.jpg", SDW_INVALID, "JPEG is broken"},
        {"cut.webp", SDW_INVALID, "broken or cut off"},
        {"other.gif", SDW_INVALID, "no PNG, JPEG or WebP"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct sdw_image image;
        struct sdw_error err = {0};
        enum sdw_status status = decode_data(&image, cases[i].name, 3, &err);
        if (status != cases[i].status || !strstr(err.message, cases[i].words))
            fail_msg("%s: %s \"%s\"", cases[i].name, sdw_status_code(status), err.message);
        assert_null(image.pixels);
    }
    struct sdw_image image;
    assert_int_equal(sdw_image_decode(&image, "", 0, 3, NULL), SDW_INVALID);
}

/* Every prefix of every kind of file is an error or an image, and nothing worse. */
static void every_prefix(void **state)
{
    (void)state;
    static const char *const names[] = {"rgba8.png",       "palette_clear.png",  "exif6.png",
                                        "progressive.jpg", "exif5.jpg",          "cmyk.jpg",
                                        "lossy.webp",      "lossless_alpha.webp"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        struct sdw_text text = read_data(names[i]);
        for (size_t length = 0; length < text.length; length++) {
            struct sdw_image image;
            char *exact = malloc(length + 1); /* so that a sanitizer sees a read past the end */
            memcpy(exact, text.data, length);
            if (sdw_image_decode(&image, exact, length, 3, NULL) == SDW_OK)
                sdw_image_free(&image);
            free(exact);
        }
        sdw_text_free(&text);
    }
}

static struct sdw_image ramp(int width, int height, int channels)
{
    struct sdw_image image;
    assert_int_equal(sdw_image_new(&image, width, height, channels, NULL), SDW_OK);
    for (size_t i = 0; i < sdw_image_bytes(&image); i++)
        image.pixels[i] = (uint8_t)(i * 37 + i / 11);
    return image;
}

static void png_goes_out_and_comes_back(void **state)
{
    (void)state;
    static const struct sdw_png_text texts[] = {
        {SDW_PNG_KEY_PARAMETERS, "a cat\nSteps: 20, Seed: 42"},
        {SDW_PNG_KEY_WORKER, "{\"prompt\":\"caf\xc3\xa9\"}"},
    };
    for (int channels = 1; channels <= 3; channels += 2) {
        struct sdw_image image = ramp(65, 33, channels), back;
        struct sdw_text first, second;
        sdw_text_init(&first, 1 << 20);
        sdw_text_init(&second, 1 << 20);
        assert_int_equal(sdw_png_encode(&first, &image, texts, 2, NULL), SDW_OK);
        assert_int_equal(sdw_png_encode(&second, &image, texts, 2, NULL), SDW_OK);
        assert_int_equal(first.length, second.length);
        assert_memory_equal(first.data, second.data, first.length);
        assert_non_null(memmem(first.data, first.length, "tEXtparameters\0a cat\nSteps", 26));
        assert_non_null(memmem(first.data, first.length, "iTXtsd-worker\0", 14));
        assert_int_equal(sdw_image_decode(&back, first.data, first.length, channels, NULL), SDW_OK);
        assert_memory_equal(back.pixels, image.pixels, sdw_image_bytes(&image));
        sdw_image_free(&back);
        sdw_text_free(&first);
        sdw_text_free(&second);
        sdw_image_free(&image);
    }
}

static void png_into_a_full_buffer(void **state)
{
    (void)state;
    struct sdw_image image = ramp(65, 33, 3);
    struct sdw_text out;
    struct sdw_error err = {0};
    sdw_text_init(&out, 100);
    assert_int_equal(sdw_text_append(&out, "before", 6, NULL), SDW_OK);
    assert_int_equal(sdw_png_encode(&out, &image, NULL, 0, &err), SDW_TOO_LARGE);
    assert_string_equal(out.data, "before"); /* as it was */
    sdw_text_free(&out);
    sdw_image_free(&image);
}

static void resizing(void **state)
{
    (void)state;
    static const int sizes[][4] = {
        {64, 48, 64, 48}, {64, 48, 32, 16}, {5, 3, 64, 40}, {1, 1, 8, 8}, {300, 7, 8, 80}};
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        struct sdw_image image = ramp(sizes[i][0], sizes[i][1], 3), to;
        bool same = sizes[i][0] == sizes[i][2] && sizes[i][1] == sizes[i][3];
        if (!same)
            memset(image.pixels, 200, sdw_image_bytes(&image)); /* stays flat */
        assert_int_equal(sdw_image_resize(&to, &image, sizes[i][2], sizes[i][3], NULL), SDW_OK);
        assert_int_equal(to.width, sizes[i][2]);
        assert_int_equal(to.height, sizes[i][3]);
        for (size_t k = 0; k < sdw_image_bytes(&to); k++)
            assert_int_equal(to.pixels[k], same ? image.pixels[k] : 200);
        sdw_image_free(&image);
        sdw_image_free(&to);
    }
    assert_int_equal(sdw_image_fit(3), 8);
    assert_int_equal(sdw_image_fit(519), 512);
    struct sdw_image small = ramp(2, 2, 1), to;
    assert_int_equal(sdw_image_resize(&to, &small, 100000, 8, NULL), SDW_TOO_LARGE);
    sdw_image_free(&small);
}

/* Against the definition, in double precision: a step edge halved in width. */
static void resizing_a_step(void **state)
{
    (void)state;
    struct sdw_image image, to;
    assert_int_equal(sdw_image_new(&image, 32, 1, 1, NULL), SDW_OK);
    for (int x = 0; x < 32; x++)
        image.pixels[x] = x < 16 ? 50 : 180;
    assert_int_equal(sdw_image_resize(&to, &image, 16, 1, NULL), SDW_OK);
    for (int x = 0; x < 16; x++) {
        double sum = 0, all = 0;
        for (int k = 0; k < 32; k++) {
            double d = (k + 0.5 - (x + 0.5) * 2) / 2 * M_PI;
            double w = fabs(d) >= 3 * M_PI ? 0 : sin(d) / d * sin(d / 3) / (d / 3);
            sum += w * image.pixels[k];
            all += w;
        }
        double want = fmin(fmax(sum / all, 0), 255);
        assert_true(fabs(to.pixels[x] - want) <= 0.51);
    }
    sdw_image_free(&image);
    sdw_image_free(&to);
}

static void masks(void **state)
{
    (void)state;
    struct sdw_image mask;
    assert_int_equal(sdw_image_new(&mask, 24, 16, 1, NULL), SDW_OK);
    for (int y = 0; y < 16; y++)
        for (int x = 0; x < 24; x++)
            mask.pixels[y * 24 + x] = x < 8 ? 127 : x < 12 ? 128 : 255;
    sdw_mask_binarise(&mask);
    float latent[6], want[6] = {0, 1, 1, 0, 1, 1};
    sdw_mask_to_latent(latent, &mask, 8, 0);
    assert_memory_equal(latent, want, sizeof want);

    float *pixels = malloc(24 * 16 * 3 * sizeof *pixels);
    struct sdw_image image = ramp(24, 16, 3);
    sdw_image_to_floats(pixels, &image);
    sdw_mask_hide(pixels, &mask);
    for (int i = 0; i < 24 * 16; i++)
        for (int c = 0; c < 3; c++) {
            float unit = (float)image.pixels[i * 3 + c] / 127.5f - 1.0f;
            assert_true(pixels[i * 3 + c] == (mask.pixels[i] ? 0 : unit));
        }
    assert_int_equal(sdw_mask_blur(&mask, 3, NULL), SDW_OK);
    for (int x = 1; x < 24; x++) /* the step has become a slope, the same in every row */
        assert_true(mask.pixels[x] >= mask.pixels[x - 1] && mask.pixels[x] == mask.pixels[240 + x]);
    assert_in_range(mask.pixels[7], 90, 127);
    assert_in_range(mask.pixels[8], 128, 165);
    free(pixels);
    sdw_image_free(&image);
    sdw_image_free(&mask);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_kind_of_file),
        cmocka_unit_test(masks_are_luminance_over_black),
        cmocka_unit_test(broken_files),
        cmocka_unit_test(every_prefix),
        cmocka_unit_test(png_goes_out_and_comes_back),
        cmocka_unit_test(png_into_a_full_buffer),
        cmocka_unit_test(resizing),
        cmocka_unit_test(resizing_a_step),
        cmocka_unit_test(masks),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
