/* check_golden DIR [FILTER]: compares every room of the program with what diffusers computed. DIR
 * is any folder laid out as ../shared/golden. Prints a line a case with the largest error and its
 * tolerance. */
#include "golden.h"

#include "base/text.h"

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
