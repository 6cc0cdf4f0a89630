/* check_golden: compares every room of the program with what diffusers computed, and prints a line
 * a case with the largest error and its tolerance. */
#include "golden.h"

#include "backend/registry.h"
#include "base/text.h"
#include "cuda_host/device.h"
#include "metal_host/device.h"
#include "model/config.h"
#include "tensor/backend.h"

#include <dirent.h>
#include <getopt.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

bool golden_wanted(const struct golden *g, const char *name)
{
    return !g->filter || strstr(name, g->filter);
}

void golden_report(struct golden *g, const char *name, double error, double tolerance)
{
    bool pass = error <= tolerance; /* false for NaN */
    printf("%s  %-60s error %.2e, tolerance %.2e\n", pass ? "pass" : "FAIL", name, error,
           tolerance);
    *(pass ? &g->passed : &g->failed) += 1;
}

static void line(const char *verdict, const char *name, const char *format, va_list args)
{
    printf("%s  %-60s ", verdict, name);
    vprintf(format, args);
    putchar('\n');
}

void golden_fail(struct golden *g, const char *name, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    line("FAIL", name, format, args);
    va_end(args);
    g->failed++;
}

void golden_skip(struct golden *g, const char *name, const char *format, ...)
{
    if (!golden_wanted(g, name))
        return;
    va_list args;
    va_start(args, format);
    line("skip", name, format, args);
    va_end(args);
    g->skipped++;
}

struct sdw_weights *golden_open(struct golden *g, const char *path)
{
    char full[4096];
    snprintf(full, sizeof full, "%s/%s", g->dir, path);
    if (access(full, F_OK) != 0)
        return NULL;
    struct sdw_weights *file = NULL;
    struct sdw_error err;
    if (sdw_weights_open(&file, full, &err) != SDW_OK)
        golden_fail(g, path, "%s", err.message);
    return file;
}

float *golden_floats(const struct sdw_weights *file, int64_t *count, const char *format, ...)
{
    char name[512];
    va_list args;
    va_start(args, format);
    vsnprintf(name, sizeof name, format, args);
    va_end(args);
    struct sdw_array array;
    if (!sdw_weights_find(file, name, &array))
        return NULL;
    int64_t n = sdw_array_count(&array);
    float *values = malloc((size_t)n * sizeof *values);
    if (values)
        sdw_array_to_f32(values, &array, 0, n);
    if (count)
        *count = n;
    return values;
}

double golden_relative_error(const float *got, const float *want, int64_t count)
{
    double error = 0, scale = 0;
    for (int64_t i = 0; i < count; i++) {
        double difference = fabs((double)got[i] - want[i]);
        if (!(difference <= error)) /* NaN wins */
            error = difference;
        if (fabs(want[i]) > scale)
            scale = fabs(want[i]);
    }
    return scale > 0 ? error / scale : error;
}

void golden_report_psnr(struct golden *g, const char *name, const float *got, const float *want,
                        int64_t count, double peak)
{
    double sum = 0;
    for (int64_t i = 0; i < count; i++)
        sum += ((double)got[i] - want[i]) * ((double)got[i] - want[i]);
    double db = 10 * log10(peak * peak * (double)count / fmax(sum, 1e-30));
    bool pass = db >= GOLDEN_DB_MIN; /* false for NaN */
    printf("%s  %-60s %.1f dB, at least %d dB\n", pass ? "pass" : "FAIL", name, db, GOLDEN_DB_MIN);
    *(pass ? &g->passed : &g->failed) += 1;
}

void golden_compare(struct golden *g, const char *name, const float *got, const float *want,
                    int64_t count, double tolerance)
{
    double peak = 0;
    for (int64_t i = 0; i < count; i++)
        peak = fmax(peak, fabs(want[i]));
    if (g->tolerance_factor > 0)
        golden_report(g, name, golden_relative_error(got, want, count),
                      tolerance * g->tolerance_factor);
    else
        golden_report_psnr(g, name, got, want, count, peak);
}

bool golden_model(struct golden *g, const char *name, struct sdw_model_config *config)
{
    char folder[SDW_MODEL_PATH_MAX];
    snprintf(folder, sizeof folder, "%s/%s", g->models, name);
    struct sdw_error err = {0};
    if (sdw_model_config_read(config, folder, &err) == SDW_OK)
        return true;
    golden_fail(g, name, "%s", err.message);
    return false;
}

void golden_each_file(struct golden *g, const char *section,
                      void (*check)(struct golden *g, const char *stem,
                                    const struct sdw_weights *file))
{
    static const char ending[] = ".safetensors";
    char folder[4096];
    struct dirent **entries = NULL;
    snprintf(folder, sizeof folder, "%s/%s", g->dir, section);
    int count = scandir(folder, &entries, NULL, alphasort);
    if (count < 0)
        golden_skip(g, section, "no folder %s", folder);
    for (int i = 0; i < count; i++) {
        char path[512], stem[256];
        snprintf(path, sizeof path, "%s/%s", section, entries[i]->d_name);
        snprintf(stem, sizeof stem, "%s", entries[i]->d_name);
        free(entries[i]);
        char *end = strstr(stem, ending);
        if (!end || strcmp(end, ending) != 0)
            continue;
        *end = '\0';
        struct sdw_weights *file = golden_open(g, path);
        if (file)
            check(g, stem, file);
        sdw_weights_close(file);
    }
    free(entries);
}

static const char usage[] =
    "usage: check_golden [--models DIR] [--device cpu] [--dtype f32|bf16|f16] [--isa NAME]\n"
    "                    [--tolerance FACTOR] DIR [FILTER]\n"
    "DIR      any folder laid out as golden/README.md says\n"
    "FILTER   only cases whose name contains it, e.g. unet/tiny-sdxl\n"
    "Models are read from DIR/models/NAME, or from --models. f32 holds the README's tolerances,\n"
    "times --tolerance; the other types hold a PSNR of 40 dB, or a --tolerance where one is given.\n";

static bool parse(struct golden *g, const char **device, struct sdw_device_options *options,
                  int argc, char **argv)
{
    static const struct option names[] = {
        {"models", required_argument, NULL, 'm'},    {"device", required_argument, NULL, 'b'},
        {"dtype", required_argument, NULL, 'd'},     {"isa", required_argument, NULL, 'i'},
        {"tolerance", required_argument, NULL, 't'}, {NULL, 0, NULL, 0}};
    int option;
    while ((option = getopt_long(argc, argv, "", names, NULL)) >= 0) {
        if (option == 'm') {
            g->models = optarg;
        } else if (option == 'b') {
            *device = metal_host_device(optarg);
        } else if (option == 'i') {
            options->isa = optarg;
        } else if (option == 't') {
            g->tolerance_factor = strtod(optarg, NULL);
        } else if (option == 'd') {
            options->dtype = SDW_F32;
            while (options->dtype <= SDW_BF16 && strcmp(sdw_dtype_name(options->dtype), optarg))
                options->dtype++;
            if (options->dtype > SDW_BF16)
                return false;
        } else {
            return false;
        }
    }
    if (argc - optind < 1 || argc - optind > 2)
        return false;
    g->dir = argv[optind];
    g->filter = argv[optind + 1]; /* NULL when there is none */
    return access(g->dir, R_OK) == 0;
}

static const struct {
    const char *name;
    void (*run)(struct golden *g);
} sections[] = {
    {"tokenizer", golden_tokenizer}, {"noise", golden_noise}, {"sched", golden_sched},
    {"text", golden_text},           {"unet", golden_unet},   {"vae", golden_vae},
    {"pipe", golden_pipe},
};

int main(int argc, char **argv)
{
    struct golden g = {.tolerance_factor = -1};
    struct sdw_device_options options = {.dtype = SDW_F32};
    const char *device = "cpu";
    if (!parse(&g, &device, &options, argc, argv)) {
        fputs(usage, stderr);
        return 2;
    }
    char models[4096];
    snprintf(models, sizeof models, "%s/models", g.dir);
    if (!g.models)
        g.models = models;
    struct sdw_error err = {0};
    device = cuda_host_device(device, &options);
    if (sdw_device_open(&g.dev, device, &options, &err) != SDW_OK) {
        fprintf(stderr, "check_golden: skipped: %s\n", err.message);
        return 77; /* ctest's word for a test that cannot run here */
    }
    if (g.tolerance_factor < 0)
        g.tolerance_factor = g.dev->compute == SDW_F32 ? 1 : 0;
    sdw_scratch_reserve(g.dev, (size_t)1 << 30);
    printf("%s, %s\n", g.dev->description, sdw_dtype_name(g.dev->compute));
    for (size_t i = 0; i < sizeof sections / sizeof sections[0]; i++)
        sections[i].run(&g);
    sdw_device_close(g.dev);
    printf("%d passed, %d failed, %d skipped\n", g.passed, g.failed, g.skipped);
    return g.failed > 0 || g.passed + g.skipped == 0;
}
