/* demo.h: the demo model behind a runner, in f32, and small pictures to feed it with. */
#ifndef SDW_TESTS_PIPELINE_DEMO_H
#define SDW_TESTS_PIPELINE_DEMO_H

#include "backend/registry.h"
#include "image/decode.h"
#include "image/png.h"
#include "pipeline/engine.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define DEMO_SIDE 128 /* pixels */

static struct sdw_device *demo_device;
static struct sdw_engine *demo_engine;

static inline int demo_open(void **state)
{
    (void)state;
    struct sdw_error err;
    struct sdw_device_options device = {.dtype = SDW_F32};
    struct sdw_engine_options options = {
        .source = {.path = "models/demo"}, .model_id = "demo", .guidance_scale = -1};
    if (sdw_device_open(&demo_device, "cpu", &device, &err) ||
        sdw_engine_open(&demo_engine, demo_device, &options, &err))
        fail_msg("%s", err.message);
    return 0;
}

static inline int demo_close(void **state)
{
    (void)state;
    sdw_engine_close(demo_engine);
    sdw_device_close(demo_device);
    return 0;
}

/* A picture of the demo's size: a slope of colours for three channels, white on the right for one.
 */
static inline struct sdw_params_image demo_file(int channels)
{
    struct sdw_image image;
    struct sdw_text png;
    sdw_text_init(&png, SDW_PNG_BYTES_MAX);
    assert_int_equal(sdw_image_new(&image, DEMO_SIDE, DEMO_SIDE, channels, NULL), SDW_OK);
    for (int y = 0; y < DEMO_SIDE; y++)
        for (int x = 0; x < DEMO_SIDE; x++)
            for (int c = 0; c < channels; c++)
                image.pixels[(y * DEMO_SIDE + x) * channels + c] =
                    (uint8_t)(channels == 1 ? (x >= DEMO_SIDE / 2 ? 255 : 0)
                                            : (x * (c + 1) + 3 * y) & 255);
    assert_int_equal(sdw_png_encode(&png, &image, NULL, 0, NULL), SDW_OK);
    sdw_image_free(&image);
    return (struct sdw_params_image){(uint8_t *)png.data, png.length, DEMO_SIDE, DEMO_SIDE};
}

/* Runs and decodes; the caller frees both pictures. Steps, size and seed are set where they are 0.
 */
static inline void demo_draw(struct sdw_image *image, struct sdw_text *png,
                             struct sdw_params *params, const struct sdw_progress *progress)
{
    struct sdw_error err = {0};
    struct sdw_result result = {0};
    params->steps = params->steps ? params->steps : 4;
    params->width = params->height = DEMO_SIDE;
    params->seed = params->seed ? params->seed : 7;
    params->seed_given = true;
    sdw_params_complete(params, sdw_engine_defaults(demo_engine));
    sdw_text_init(&result.png, SDW_PNG_BYTES_MAX);
    struct sdw_runner runner = sdw_engine_runner(demo_engine);
    if (runner.run(runner.context, params, progress, &result, &err) ||
        sdw_image_decode(image, result.png.data, result.png.length, 3, &err))
        fail_msg("%s", err.message);
    free(result.report);
    if (png)
        *png = result.png;
    else
        sdw_text_free(&result.png);
}

#endif
