/* Image to image and inpainting on the demo model: what changes, and what must not. */
#include "demo.h"

#include <math.h>

static double difference(const struct sdw_image *a, const struct sdw_image *b)
{
    double sum = 0;
    assert_int_equal(sdw_image_bytes(a), sdw_image_bytes(b));
    for (size_t i = 0; i < sdw_image_bytes(a); i++)
        sum += abs(a->pixels[i] - b->pixels[i]);
    return sum / (double)sdw_image_bytes(a);
}

static struct sdw_params request(const char *prompt, double strength, bool mask)
{
    struct sdw_params params = {
        .prompt = strdup(prompt), .strength = strength, .strength_given = true};
    params.init_image = demo_file(3);
    if (mask)
        params.mask_image = demo_file(1);
    return params;
}

static struct sdw_image input_of(const struct sdw_params *params)
{
    struct sdw_image input;
    assert_int_equal(
        sdw_image_decode(&input, params->init_image.bytes, params->init_image.length, 3, NULL),
        SDW_OK);
    return input;
}

static void strength_decides(void **state)
{
    (void)state;
    static const double strengths[] = {0, 0.3, 0.8, 1};
    double distance[4];
    for (int i = 0; i < 4; i++) {
        struct sdw_image drawn;
        struct sdw_params params = request("a cat on a blue background", strengths[i], false);
        struct sdw_image input = input_of(&params);
        demo_draw(&drawn, NULL, &params, NULL);
        distance[i] = difference(&drawn, &input);
        if (strengths[i] == 1) { /* as if there were no input */
            struct sdw_image plain;
            struct sdw_params generation = {.prompt = strdup("a cat on a blue background")};
            demo_draw(&plain, NULL, &generation, NULL);
            assert_true(difference(&drawn, &plain) == 0);
            sdw_image_free(&plain);
            sdw_params_free(&generation);
        }
        sdw_image_free(&drawn);
        sdw_image_free(&input);
        sdw_params_free(&params);
    }
    assert_true(distance[0] == 0);
    assert_true(distance[1] > 0 && distance[1] < distance[2]);
}

static void kept_pixels_are_kept(void **state)
{
    (void)state;
    static const struct {
        double strength;
        const char *method;
        int blur;
    } cases[] = {{1, NULL, 0}, {0.75, NULL, 0}, {0.75, "legacy", 0}, {1, NULL, 4}};
    for (size_t k = 0; k < sizeof cases / sizeof cases[0]; k++) {
        struct sdw_image drawn;
        struct sdw_params params = request("a red apple", cases[k].strength, true);
        params.inpaint_method = cases[k].method ? strdup(cases[k].method) : NULL;
        params.mask_blur = cases[k].blur;
        struct sdw_image input = input_of(&params);
        demo_draw(&drawn, NULL, &params, NULL);
        int changed = 0;
        for (int y = 0; y < DEMO_SIDE; y++)
            for (int x = 0; x < DEMO_SIDE; x++) {
                bool same = memcmp(drawn.pixels + (y * DEMO_SIDE + x) * 3,
                                   input.pixels + (y * DEMO_SIDE + x) * 3, 3) == 0;
                /* A blur reaches three times its radius over the seam. */
                if (x < DEMO_SIDE / 2 - 3 * cases[k].blur)
                    assert_true(same);
                changed += !same;
            }
        assert_true(changed > DEMO_SIDE * DEMO_SIDE / 4);
        sdw_image_free(&drawn);
        sdw_image_free(&input);
        sdw_params_free(&params);
    }
}

static void without_paste_back_the_seam_is_the_model_s(void **state)
{
    (void)state;
    struct sdw_image drawn;
    struct sdw_params params = request("a red apple", 1, true);
    params.paste_back_given = true;
    struct sdw_image input = input_of(&params);
    demo_draw(&drawn, NULL, &params, NULL);
    assert_true(memcmp(drawn.pixels, input.pixels, 3 * DEMO_SIDE / 2) != 0);
    sdw_image_free(&drawn);
    sdw_image_free(&input);
    sdw_params_free(&params);
}

static void generators_differ(void **state)
{
    (void)state;
    struct sdw_image drawn[2];
    for (int i = 0; i < 2; i++) {
        struct sdw_params params = {.prompt = strdup("a cat"), .rng = i ? strdup("philox") : NULL};
        demo_draw(&drawn[i], NULL, &params, NULL);
        sdw_params_free(&params);
    }
    assert_true(difference(&drawn[0], &drawn[1]) > 1);
    sdw_image_free(&drawn[0]);
    sdw_image_free(&drawn[1]);
}

/* The PNG says how it was made, for people and for programs. */
static void the_file_tells(void **state)
{
    (void)state;
    struct sdw_image drawn;
    struct sdw_text png;
    struct sdw_params params = request("a \"red\" apple", 0.5, true);
    demo_draw(&drawn, &png, &params, NULL);
    static const char *const told[] = {
        "Denoising strength: 0.5",  "Steps: 4, Sampler: ", "\"prompt\":\"a \\\"red\\\" apple\"",
        "\"init_image_sha256\":\"", "\"seed\":7",          "\"model\":\"demo\""};
    for (size_t i = 0; i < sizeof told / sizeof told[0]; i++)
        assert_non_null(memmem(png.data, png.length, told[i], strlen(told[i])));
    sdw_text_free(&png);
    sdw_image_free(&drawn);
    sdw_params_free(&params);
}

/* Three images of one job are those of three jobs, seed by seed. */
static void images_of_a_batch(void **state)
{
    (void)state;
    struct sdw_text batch, one;
    struct sdw_image drawn;
    size_t at = 0;
    struct sdw_params params = {.prompt = strdup("a cat"), .n = 3, .seed = UINT64_MAX};
    demo_draw(&drawn, &batch, &params, NULL);
    sdw_image_free(&drawn);
    for (int i = 0; i < 3; i++) {
        params.n = 1;
        params.seed = UINT64_MAX + (uint64_t)i;
        size_t length = sdw_png_length(batch.data + at, batch.length - at);
        if (params.seed) { /* demo_draw takes 0 for none */
            demo_draw(&drawn, &one, &params, NULL);
            sdw_image_free(&drawn);
            assert_int_equal(length, one.length);
            assert_memory_equal(batch.data + at, one.data, length);
            sdw_text_free(&one);
        }
        at += length;
    }
    assert_int_equal(at, batch.length);
    sdw_text_free(&batch);
    sdw_params_free(&params);
}

struct seen {
    int previews;
    struct sdw_image last;
};

static void look(void *context, int step, int total, const struct sdw_text *png)
{
    struct seen *seen = context;
    assert_int_equal(step, ++seen->previews);
    assert_int_equal(total, 8);
    sdw_image_free(&seen->last);
    assert_int_equal(sdw_image_decode(&seen->last, png->data, png->length, 3, NULL), SDW_OK);
}

/* The last preview is the picture, small: the colours agree. */
static void previews_look_like_the_picture(void **state)
{
    (void)state;
    struct seen seen = {0};
    struct sdw_image drawn;
    struct sdw_params params = {
        .prompt = strdup("a cat on a red background"), .steps = 8, .preview = true};
    struct sdw_progress progress = {.preview = look, .context = &seen};
    demo_draw(&drawn, NULL, &params, &progress);
    assert_int_equal(seen.previews, 8);
    int factor = DEMO_SIDE / seen.last.width;
    double error = 0;
    for (int y = 0; y < seen.last.height; y++)
        for (int x = 0; x < seen.last.width; x++)
            for (int c = 0; c < 3; c++) {
                double sum = 0;
                for (int k = 0; k < factor * factor; k++)
                    sum += drawn.pixels[((y * factor + k / factor) * DEMO_SIDE + x * factor +
                                         k % factor) *
                                            3 +
                                        c];
                error += fabs(sum / (factor * factor) -
                              seen.last.pixels[(y * seen.last.width + x) * 3 + c]);
            }
    error /= seen.last.width * seen.last.height * 3;
    print_message("mean difference of colours: %.1f levels\n", error);
    assert_true(error < 40);
    sdw_image_free(&seen.last);
    sdw_image_free(&drawn);
    sdw_params_free(&params);
}

/* The fit has a picture of its own to encode, in what memory the device has for it. */
static void previews_before_anything_else(void **state)
{
    (void)state;
    struct sdw_error err;
    struct seen seen = {0};
    struct sdw_image drawn;
    struct sdw_device *device = demo_device;
    struct sdw_engine *engine = demo_engine;
    struct sdw_device_options wanted = {.dtype = SDW_BF16};
    struct sdw_engine_options options = {
        .source = {.path = "models/demo"}, .model_id = "demo", .guidance_scale = -1};
    struct sdw_params params = {.prompt = strdup("a cat"), .steps = 8, .preview = true};
    struct sdw_progress progress = {.preview = look, .context = &seen};
    if (sdw_device_open(&demo_device, "cpu", &wanted, &err)) { /* no bf16 here */
        wanted.dtype = SDW_F32;
        assert_int_equal(sdw_device_open(&demo_device, "cpu", &wanted, &err), SDW_OK);
    }
    assert_int_equal(sdw_engine_open(&demo_engine, demo_device, &options, &err), SDW_OK);
    demo_draw(&drawn, NULL, &params, &progress);
    assert_int_equal(seen.previews, 8);
    sdw_engine_close(demo_engine);
    sdw_device_close(demo_device);
    demo_engine = engine;
    demo_device = device;
    sdw_image_free(&seen.last);
    sdw_image_free(&drawn);
    sdw_params_free(&params);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(strength_decides),
                                       cmocka_unit_test(kept_pixels_are_kept),
                                       cmocka_unit_test(without_paste_back_the_seam_is_the_model_s),
                                       cmocka_unit_test(generators_differ),
                                       cmocka_unit_test(the_file_tells),
                                       cmocka_unit_test(images_of_a_batch),
                                       cmocka_unit_test(previews_look_like_the_picture),
                                       cmocka_unit_test(previews_before_anything_else)};
    return cmocka_run_group_tests(tests, demo_open, demo_close);
}
