/* golden_noise.c: a seed's numbers. PyTorch's on a CPU bit for bit, a GPU's within the last bits.
 */
#include "golden.h"

#include "sample/noise.h"

#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PHILOX_TOLERANCE 2e-6

static void check_call(struct golden *g, const struct sdw_weights *file, struct sdw_noise *noise,
                       const char *test, const char *call)
{
    char name[128];
    snprintf(name, sizeof name, "noise/%s.%s", test, call);
    int64_t count = 0;
    float *want = golden_floats(file, &count, "%s.%s", test, call);
    float *got = want ? malloc((size_t)count * sizeof *got) : NULL;
    if (!want || !got) {
        golden_fail(g, name, want ? "out of memory" : "no tensor of that name");
        free(want);
        return;
    }
    sdw_noise_fill(noise, got, count);
    double error = 0;
    for (int64_t i = 0; i < count; i++)
        if (!(fabs((double)got[i] - want[i]) <= error))
            error = fabs((double)got[i] - want[i]);
    if (golden_wanted(g, name))
        golden_report(g, name, error, noise->kind == SDW_NOISE_PHILOX ? PHILOX_TOLERANCE : 0);
    free(got);
    free(want);
}

void golden_noise(struct golden *g)
{
    char path[4096];
    snprintf(path, sizeof path, "%s/noise/noise.json", g->dir);
    json_t *tests = json_load_file(path, 0, NULL), *test;
    struct sdw_weights *file = golden_open(g, "noise/noise.safetensors");
    size_t i;
    if (!json_is_array(tests) || !file)
        golden_skip(g, "noise", "no noise/noise.json and .safetensors in %s", g->dir);
    else
        json_array_foreach(tests, i, test)
        {
            const char *name = json_string_value(json_object_get(test, "name"));
            json_int_t seed = json_integer_value(json_object_get(test, "seed"));
            if (!name)
                continue;
            struct sdw_noise noise;
            sdw_noise_seed(&noise,
                           strncmp(name, "philox", 6) ? SDW_NOISE_TORCH_CPU : SDW_NOISE_PHILOX,
                           (uint64_t)seed);
            check_call(g, file, &noise, name, "first");
            check_call(g, file, &noise, name, "second");
        }
    sdw_weights_close(file);
    json_decref(tests);
}
