/* cache.c: see cache.h. */
#include "hub/cache.h"

#include <dirent.h>
#include <errno.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define DESCRIPTORS_MAX 16 /* that a walk through a folder may hold open */

static const char prefix[] = "models--", separator[] = "--";

bool sdw_repository_valid(const char *name)
{
    static const char allowed[] =
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.";
    size_t owner = strspn(name, allowed);
    if (owner == 0 || name[0] == '.' || name[owner] != '/' || strlen(name) >= SDW_REPOSITORY_MAX)
        return false;
    const char *rest = name + owner + 1;
    return *rest && *rest != '.' && rest[strspn(rest, allowed)] == 0;
}

const char *sdw_repository_of(const char *model)
{
    const struct sdw_catalogue_row *row = sdw_catalogue_find(model);
    return row ? row->repository : sdw_repository_valid(model) ? model : NULL;
}

void sdw_cache_folder(char *path)
{
    const char *cache = getenv("HF_HUB_CACHE"), *home = getenv("HF_HOME"), *user = getenv("HOME");
    if (cache && *cache)
        snprintf(path, SDW_MODEL_PATH_MAX, "%s", cache);
    else if (home && *home)
        snprintf(path, SDW_MODEL_PATH_MAX, "%s/hub", home);
    else
        snprintf(path, SDW_MODEL_PATH_MAX, "%s/.cache/huggingface/hub", user ? user : ".");
}

void sdw_cache_repository(char *path, const char *repository)
{
    char cache[SDW_MODEL_PATH_MAX];
    int owner = (int)strcspn(repository, "/");
    sdw_cache_folder(cache);
    snprintf(path, SDW_MODEL_PATH_MAX, "%s/%s%.*s%s%s", cache, prefix, owner, repository, separator,
             repository + owner + 1);
}

/* nftw gives its callbacks no context; a sum is all they need. */
static _Thread_local int64_t walked_bytes;

static int count_bytes(const char *path, const struct stat *info, int kind, struct FTW *where)
{
    (void)path, (void)where;
    if (kind == FTW_F)
        walked_bytes += info->st_size;
    return 0;
}

static int remove_entry(const char *path, const struct stat *info, int kind, struct FTW *where)
{
    if (remove(path))
        return errno;
    return count_bytes(path, info, kind, where);
}

static int64_t folder_bytes(const char *path)
{
    walked_bytes = 0;
    nftw(path, count_bytes, DESCRIPTORS_MAX, FTW_PHYS);
    return walked_bytes;
}

/* models--OWNER--NAME back to OWNER/NAME: an owner has no "--" in it. */
static bool repository_from_folder(char *repository, const char *folder)
{
    if (strncmp(folder, prefix, strlen(prefix)) != 0)
        return false;
    folder += strlen(prefix);
    const char *split = strstr(folder, separator);
    if (!split || strlen(folder) >= SDW_REPOSITORY_MAX)
        return false;
    snprintf(repository, SDW_REPOSITORY_MAX, "%.*s/%s", (int)(split - folder), folder,
             split + strlen(separator));
    return sdw_repository_valid(repository);
}

enum sdw_status sdw_cache_list(void (*tell)(void *context, const struct sdw_cached_model *model),
                               void *context, struct sdw_error *err)
{
    char cache[SDW_MODEL_PATH_MAX], path[SDW_MODEL_PATH_MAX], reference[SDW_MODEL_PATH_MAX + 16];
    sdw_cache_folder(cache);
    DIR *folder = opendir(cache);
    if (!folder && errno == ENOENT)
        return SDW_OK;
    if (!folder)
        return sdw_fail_errno(err, "cannot read the hub cache %s", cache);
    for (struct dirent *entry; (entry = readdir(folder));) {
        struct sdw_cached_model model;
        if (!repository_from_folder(model.repository, entry->d_name))
            continue;
        sdw_cache_repository(path, model.repository);
        snprintf(reference, sizeof reference, "%s/refs/main", path);
        model.complete = access(reference, R_OK) == 0;
        model.bytes = folder_bytes(path);
        tell(context, &model);
    }
    closedir(folder);
    return SDW_OK;
}

enum sdw_status sdw_cache_remove(const char *model, int64_t *bytes, struct sdw_error *err)
{
    char path[SDW_MODEL_PATH_MAX], reference[SDW_MODEL_PATH_MAX + 16];
    const char *repository = sdw_repository_of(model);
    if (!repository)
        return sdw_fail(err, SDW_INVALID, "\"%s\" is neither a known name nor owner/name", model);
    sdw_cache_repository(path, repository);
    if (access(path, F_OK))
        return sdw_fail(err, SDW_NOT_FOUND, "%s is not in the hub cache: no folder %s", repository,
                        path);
    /* The reference first: what is half removed is not a model. */
    snprintf(reference, sizeof reference, "%s/refs/main", path);
    unlink(reference);
    walked_bytes = 0;
    errno = nftw(path, remove_entry, DESCRIPTORS_MAX, FTW_PHYS | FTW_DEPTH);
    if (errno)
        return sdw_fail_errno(err, "cannot remove %s", path);
    *bytes = walked_bytes;
    return SDW_OK;
}
