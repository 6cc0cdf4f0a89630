/* The demo model draws what it is asked for: of twelve objects the nearest is the one of the
 * prompt, and the background has its colour. A broken tokenizer, text encoder, guidance or decoder
 * fails here.
 *
 * The objects come from tests/data/demo, small and on two grounds (tools/train_demo/thumbnails), so
 * that they can be put on any colour. */
#include "demo.h"

#include <float.h>

#define SMALL   32 /* side at which pictures are compared */
#define OBJECTS 12

static const char *const names[OBJECTS] = {"cat",    "panda",     "frog",  "apple",
                                           "banana", "hamburger", "star",  "rocket",
                                           "house",  "snowman",   "robot", "guitar"};

static const struct {
    const char *name;
    double rgb[3];
} grounds[] = {
    {"white", {250, 250, 250}}, {"black", {20, 20, 24}},    {"gray", {128, 128, 132}},
    {"red", {214, 40, 46}},     {"orange", {245, 140, 40}}, {"yellow", {252, 220, 70}},
    {"green", {60, 160, 75}},   {"cyan", {80, 205, 225}},   {"blue", {45, 90, 215}},
    {"purple", {120, 55, 165}}, {"pink", {250, 160, 195}},  {"brown", {105, 65, 40}},
};
#define GROUNDS ((int)(sizeof grounds / sizeof grounds[0]))

static struct sdw_image on_white, on_black;

static int open_all(void **state)
{
    const char *const paths[] = {"tests/data/demo/objects-on-white.png",
                                 "tests/data/demo/objects-on-black.png"};
    struct sdw_image *const images[] = {&on_white, &on_black};
    for (int i = 0; i < 2; i++) {
        struct sdw_text file;
        sdw_text_init(&file, 1 << 20);
        assert_int_equal(sdw_text_read_file(&file, paths[i], NULL), SDW_OK);
        assert_int_equal(sdw_image_decode(images[i], file.data, file.length, 3, NULL), SDW_OK);
        sdw_text_free(&file);
    }
    return demo_open(state);
}

static int close_all(void **state)
{
    sdw_image_free(&on_white);
    sdw_image_free(&on_black);
    return demo_close(state);
}

/* Means of blocks: [SMALL,SMALL,3], 0..255. */
static void shrink(double *small, const struct sdw_image *image)
{
    int block = image->width / SMALL;
    memset(small, 0, SMALL * SMALL * 3 * sizeof *small);
    for (int y = 0; y < SMALL * block; y++)
        for (int x = 0; x < SMALL * block; x++)
            for (int c = 0; c < 3; c++)
                small[(y / block * SMALL + x / block) * 3 + c] +=
                    (double)image->pixels[(y * image->width + x) * 3 + c] / (block * block);
}

/* Squared distance to object `object` on ground `ground`. */
static double distance(const double *small, int object, int ground)
{
    double sum = 0;
    for (int y = 0; y < SMALL; y++)
        for (int x = 0; x < SMALL; x++)
            for (int c = 0; c < 3; c++) {
                int at = (y * on_white.width + object * SMALL + x) * 3 + c;
                double black = on_black.pixels[at], through = (on_white.pixels[at] - black) / 255;
                double d =
                    black + through * grounds[ground].rgb[c] - small[(y * SMALL + x) * 3 + c];
                sum += d * d;
            }
    return sum;
}

/* Of the upper corner, which no object of the plain layout reaches. */
static int ground_of(const double *small)
{
    int nearest = 0;
    double least = DBL_MAX;
    for (int i = 0; i < GROUNDS; i++) {
        double sum = 0;
        for (int c = 0; c < 3; c++)
            sum += (small[c] - grounds[i].rgb[c]) * (small[c] - grounds[i].rgb[c]);
        if (sum < least) {
            least = sum;
            nearest = i;
        }
    }
    return nearest;
}

static int object_of(const double *small, int ground)
{
    int nearest = 0;
    for (int i = 1; i < OBJECTS; i++)
        if (distance(small, i, ground) < distance(small, nearest, ground))
            nearest = i;
    return nearest;
}

static void draws_what_is_asked(const char *object, const char *ground)
{
    char prompt[96];
    double small[SMALL * SMALL * 3];
    struct sdw_error err = {0};
    struct sdw_result result = {0};
    struct sdw_image drawn;
    snprintf(prompt, sizeof prompt, "a %s on a %s background", object, ground);
    struct sdw_params params = {.prompt = strdup(prompt), .seed = 11, .seed_given = true};
    sdw_params_complete(&params, sdw_engine_defaults(demo_engine));
    sdw_text_init(&result.png, SDW_PNG_BYTES_MAX);
    struct sdw_runner runner = sdw_engine_runner(demo_engine);
    if (runner.run(runner.context, &params, NULL, &result, &err) ||
        sdw_image_decode(&drawn, result.png.data, result.png.length, 3, &err))
        fail_msg("%s", err.message);
    shrink(small, &drawn);
    int saw_ground = ground_of(small), saw = object_of(small, saw_ground);
    if (strcmp(names[saw], object) != 0 || strcmp(grounds[saw_ground].name, ground) != 0)
        fail_msg("\"%s\" drew a %s on %s", prompt, names[saw], grounds[saw_ground].name);
    sdw_image_free(&drawn);
    sdw_result_free(&result);
    sdw_params_free(&params);
}

static void four_prompts(void **state)
{
    (void)state;
    draws_what_is_asked("cat", "blue");
    draws_what_is_asked("panda", "yellow");
    draws_what_is_asked("snowman", "red");
    draws_what_is_asked("banana", "purple");
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(four_prompts)};
    return cmocka_run_group_tests(tests, open_all, close_all);
}
