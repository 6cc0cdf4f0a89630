/* bench_limit.c: sums a profile by stage, and by kind or shape of operator. Products and
 * convolutions are held against the multiply-adds of the device, all else against its memory. */
#include "worker/bench_limit.h"

#include <stdio.h>
#include <string.h>

/* "conv2d 3x3/1" of "conv2d 3x3/1 [2,64,64,320] -> 320". */
static void shorten(char *name)
{
    char *shape = strstr(name, " [");
    if (shape)
        *shape = '\0';
}

/* The rows of one stage, alike ones summed when shapes do not matter. */
static void gather(struct sdw_profile *sums, const struct sdw_profile *profile,
                   enum sdw_profile_stage stage, bool each_shape)
{
    *sums = (struct sdw_profile){.stage = stage};
    for (int i = 0; i < profile->count; i++) {
        struct sdw_profile_row row = profile->row[i];
        if (row.stage != stage)
            continue;
        if (!each_shape)
            shorten(row.name);
        sdw_profile_add(sums, &row);
    }
    sdw_profile_sort(sums);
}

static json_t *operator_row(const struct sdw_profile_row *row, const struct sdw_limits *limits,
                            double stage_s, int runs)
{
    bool product = row->operations > 0;
    double rate = (product ? row->operations : row->bytes) / row->seconds;
    double limit = product ? limits->compute_operations : limits->read_bytes;
    return json_pack("{s:s, s:f, s:f, s:f, s:f, s:f}", "name", row->name, "calls",
                     (double)row->calls / runs, "seconds", row->seconds / runs, "share",
                     row->seconds / runs / stage_s, product ? "gflops" : "gbytes", rate / 1e9,
                     "peak", rate / limit);
}

static json_t *stage_row(const struct sdw_profile *sums, const struct sdw_limits *limits,
                         double stage_s, int runs)
{
    double operations = 0, seconds = 0;
    json_t *operators = json_array();
    for (int i = 0; i < sums->count; i++) {
        operations += sums->row[i].operations / runs;
        seconds += sums->row[i].seconds / runs;
        json_array_append_new(operators, operator_row(&sums->row[i], limits, stage_s, runs));
    }
    double floor_s = operations / limits->compute_operations;
    return json_pack("{s:s, s:f, s:f, s:f, s:f, s:o}", "stage", sdw_profile_stages[sums->stage],
                     "seconds", stage_s, "floor_s", floor_s, "times_floor", stage_s / floor_s,
                     "accounted", seconds / stage_s, "operators", operators);
}

json_t *sdw_bench_limit(const struct sdw_profile *profile, const struct sdw_limits *limits,
                        const struct sdw_result *result, bool each_shape)
{
    const int runs[SDW_STAGE_COUNT] = {1, result->evaluations, 1};
    const double seconds[SDW_STAGE_COUNT] = {result->text_s, result->unet_s, result->vae_s};
    struct sdw_profile *sums = malloc(sizeof *sums);
    json_t *stages = json_array();
    for (int stage = 0; stage < SDW_STAGE_COUNT && sums; stage++) {
        gather(sums, profile, (enum sdw_profile_stage)stage, each_shape);
        if (sums->count)
            json_array_append_new(
                stages, stage_row(sums, limits, seconds[stage] / runs[stage], runs[stage]));
    }
    free(sums);
    return json_pack("{s:{s:f, s:f, s:f}, s:o}", "limits", "f32_gflops",
                     limits->f32_operations / 1e9, "compute_gflops",
                     limits->compute_operations / 1e9, "read_gbytes", limits->read_bytes / 1e9,
                     "stages", stages);
}

static double number(const json_t *object, const char *key)
{
    return json_number_value(json_object_get(object, key));
}

static const char *words(const json_t *object, const char *key)
{
    return json_string_value(json_object_get(object, key));
}

void sdw_bench_limit_print(const json_t *report)
{
    const json_t *limits = json_object_get(report, "limits"), *stage, *row;
    size_t i, j;
    printf(
        "limits           %.0f GF/s in f32, %.0f GF/s in the compute type, %.1f GB/s from memory\n",
        number(limits, "f32_gflops"), number(limits, "compute_gflops"),
        number(limits, "read_gbytes"));
    json_array_foreach(json_object_get(report, "stages"), i, stage)
    {
        printf("%-16s %.3f s%s, %.2f times the direct floor of %.3f s; operators took %.1f %%\n",
               words(stage, "stage"), number(stage, "seconds"),
               strcmp(words(stage, "stage"), "unet") == 0 ? " an evaluation" : "",
               number(stage, "times_floor"), number(stage, "floor_s"),
               100 * number(stage, "accounted"));
        json_array_foreach(json_object_get(stage, "operators"), j, row)
        {
            bool product = json_object_get(row, "gflops") != NULL;
            printf("  %-62s %5.0f x %9.3f ms %5.1f %% %7.1f %s/s %4.0f %% of peak\n",
                   words(row, "name"), number(row, "calls"),
                   1e3 * number(row, "seconds") / number(row, "calls"), 100 * number(row, "share"),
                   number(row, product ? "gflops" : "gbytes"), product ? "GF" : "GB",
                   100 * number(row, "peak"));
        }
    }
}
