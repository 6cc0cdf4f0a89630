/* profile.c: a small table, searched from the start: it is in use only when somebody asks for it.
 */
#include "tensor/profile.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char *const sdw_profile_stages[SDW_STAGE_COUNT] = {"text", "unet", "vae"};

void sdw_profile_enter(struct sdw_profile *profile, enum sdw_profile_stage stage)
{
    if (profile)
        profile->stage = stage;
}

void sdw_profile_add(struct sdw_profile *profile, const struct sdw_profile_row *more)
{
    const char *name = more->name;
    int i = 0;
    while (i < profile->count &&
           (profile->row[i].stage != profile->stage || strcmp(profile->row[i].name, name) != 0))
        i++;
    if (i == SDW_PROFILE_ROWS_MAX) {
        name = "other";
        i = SDW_PROFILE_ROWS_MAX - 1;
    }
    struct sdw_profile_row *row = &profile->row[i];
    snprintf(row->name, sizeof row->name, "%s", name);
    if (i == profile->count)
        profile->count++;
    row->stage = profile->stage;
    row->calls += more->calls;
    row->seconds += more->seconds;
    row->operations += more->operations;
    row->bytes += more->bytes;
}

static int slower_first(const void *a, const void *b)
{
    double x = ((const struct sdw_profile_row *)a)->seconds;
    double y = ((const struct sdw_profile_row *)b)->seconds;
    return (x < y) - (x > y);
}

void sdw_profile_sort(struct sdw_profile *profile)
{
    qsort(profile->row, (size_t)profile->count, sizeof profile->row[0], slower_first);
}
