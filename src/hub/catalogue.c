/* catalogue.c: the table of known models, and the hub cache's layout:
 * models--OWNER--NAME/refs/main holds a commit, whose files lie in
 * models--OWNER--NAME/snapshots/COMMIT/. */
#include "hub/catalogue.h"

#include "hub/cache.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>

const struct sdw_catalogue_row sdw_catalogue[] = {
    {"sd-v1-5 sd1.5 v1-5 v1.5 1.5 stable-diffusion-v1-5",
     "stable-diffusion-v1-5/stable-diffusion-v1-5", 512, 20, 7.5},
    {"sd-v1-5-inpaint v1-5-inpaint", "stable-diffusion-v1-5/stable-diffusion-inpainting", 512, 20,
     7.5},
    {"sd-v2-1 sd2.1 v2-1 2.1", "stabilityai/stable-diffusion-2-1", 768, 20, 7.5},
    {"sd-v2-inpaint v2-inpaint", "stabilityai/stable-diffusion-2-inpainting", 512, 20, 7.5},
    {"sd-turbo", "stabilityai/sd-turbo", 512, 1, 0},
    {"sd-xl sdxl xl", "stabilityai/stable-diffusion-xl-base-1.0", 1024, 20, 7.5},
    {"sd-xl-inpaint xl-inpaint", "diffusers/stable-diffusion-xl-1.0-inpainting-0.1", 1024, 20, 7.5},
    {"sdxl-turbo turbo", "stabilityai/sdxl-turbo", 512, 4, 0},
};
const int sdw_catalogue_count = sizeof sdw_catalogue / sizeof sdw_catalogue[0];

static int has_alias(const char *aliases, const char *name)
{
    size_t length = strlen(name);
    for (const char *word = aliases; *word; word += strspn(word, " ")) {
        size_t n = strcspn(word, " ");
        if (n == length && strncasecmp(word, name, n) == 0)
            return 1;
        word += n;
    }
    return 0;
}

const struct sdw_catalogue_row *sdw_catalogue_find(const char *name)
{
    for (int i = 0; i < sdw_catalogue_count; i++)
        if (has_alias(sdw_catalogue[i].aliases, name) ||
            strcasecmp(sdw_catalogue[i].repository, name) == 0)
            return &sdw_catalogue[i];
    return NULL;
}

static enum sdw_status locate_in_cache(char *path, const char *model, const char *repository,
                                       struct sdw_error *err)
{
    char cache[SDW_MODEL_PATH_MAX], folder[SDW_MODEL_PATH_MAX], reference[SDW_MODEL_PATH_MAX];
    sdw_cache_folder(cache);
    sdw_cache_repository(folder, repository);
    snprintf(reference, sizeof reference, "%s/refs/main", folder);

    char commit[128] = "";
    FILE *file = fopen(reference, "r");
    if (file) {
        if (!fgets(commit, sizeof commit, file))
            commit[0] = 0;
        fclose(file);
        commit[strcspn(commit, "\r\n")] = 0;
    }
    if (!commit[0] || strchr(commit, '/'))
        return sdw_fail(
            err, SDW_NOT_FOUND,
            "model %s (%s) is not on this machine: no folder of that name, and not in the hub cache %s; "
            "`pull %s` downloads it, --model-path names a folder",
            model, repository, cache, model);
    int n = snprintf(path, SDW_MODEL_PATH_MAX, "%s/snapshots/%s", folder, commit);
    if (n >= SDW_MODEL_PATH_MAX)
        return sdw_fail(err, SDW_INVALID, "the path of model %s in %s is too long", model, cache);
    return SDW_OK;
}

enum sdw_status sdw_model_locate(char *path, const char *model, struct sdw_error *err)
{
    struct stat info;
    if (strlen(model) >= SDW_MODEL_PATH_MAX)
        return sdw_fail(err, SDW_INVALID, "the model's name has %zu bytes, the limit is %d",
                        strlen(model), SDW_MODEL_PATH_MAX - 1);
    if (stat(model, &info) == 0) {
        strcpy(path, model);
        return SDW_OK;
    }
    const struct sdw_catalogue_row *row = sdw_catalogue_find(model);
    if (row)
        return locate_in_cache(path, model, row->repository, err);
    if (sdw_repository_valid(model))
        return locate_in_cache(path, model, model, err);
    return sdw_fail(
        err, SDW_NOT_FOUND,
        "model \"%s\" is neither a file or folder, nor a known name, nor a hub repository (owner/name); "
        "known names: sd-v1-5, sd-v2-1, sd-turbo, sd-xl, sdxl-turbo, ...",
        model);
}
