/* cgroup.c: reads the few small files (docs.kernel.org/admin-guide/cgroup-v2.html, "Memory
 * Interface Files"). Pages of files that nobody used lately count as used there, but go when they
 * are in the way: a model that was just read would else look like memory that is gone. */
#include "base/cgroup.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#define PATH_MAX_BYTES 1024

/* The first number of FOLDER/NAME that follows `key`, which may be empty; SIZE_MAX where there is
 * none: no such file, or "max". */
static size_t number_in(const char *folder, const char *name, const char *key)
{
    char path[PATH_MAX_BYTES + 32], line[128];
    size_t number = SIZE_MAX, length = strlen(key);
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *file = fopen(path, "r");
    while (file && fgets(line, sizeof line, file))
        if (strncmp(line, key, length) == 0) {
            if (sscanf(line + length, "%zu", &number) != 1)
                number = SIZE_MAX;
            break;
        }
    if (file)
        fclose(file);
    return number;
}

static size_t group_free(const char *folder)
{
    size_t most = number_in(folder, "memory.max", ""),
           used = number_in(folder, "memory.current", ""),
           files = number_in(folder, "memory.stat", "inactive_file ");
    if (most == SIZE_MAX || used == SIZE_MAX)
        return SIZE_MAX;
    if (files != SIZE_MAX)
        used -= files < used ? files : used;
    return most > used ? most - used : 0;
}

size_t sdw_cgroup_memory_free(const char *membership, const char *mount)
{
    char line[PATH_MAX_BYTES / 2], folder[PATH_MAX_BYTES];
    bool found = false;
    FILE *file = fopen(membership, "r");
    while (file && !found && fgets(line, sizeof line, file))
        found = strncmp(line, "0::/", 4) == 0; /* version 2; 1 numbers its lines from 1 */
    if (file)
        fclose(file);
    if (!found)
        return SIZE_MAX;
    line[strcspn(line, "\n")] = '\0';
    snprintf(folder, sizeof folder, "%s%s", mount, line + 3);
    size_t left = SIZE_MAX;
    for (size_t root = strlen(mount); strlen(folder) >= root;) {
        size_t here = group_free(folder);
        left = here < left ? here : left;
        char *last = strrchr(folder, '/');
        if (!last || last < folder + root)
            break;
        *last = '\0';
    }
    return left;
}
