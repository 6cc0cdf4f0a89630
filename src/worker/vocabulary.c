/* vocabulary.c: see vocabulary.h. All models here use the vocabulary published with CLIP, so any
 * copy of it will do; it is known by its special tokens. */
#include "worker/vocabulary.h"

#include "base/log.h"
#include "hub/cache.h"
#include "text/tokenizer.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define CLIP_REPOSITORY "openai/clip-vit-large-patch14"
#define CLIP_START      49406
#define CLIP_END        49407

static bool has_files(const char *folder)
{
    static const char *const names[] = {"vocab.json", "merges.txt"};
    for (int i = 0; i < 2; i++) {
        char path[SDW_MODEL_PATH_MAX];
        snprintf(path, sizeof path, "%s/%s", folder, names[i]);
        if (access(path, R_OK) != 0)
            return false;
    }
    return true;
}

enum sdw_status sdw_vocabulary_in(char *folder, const char *dir, struct sdw_error *err)
{
    static const char *const inner[] = {"", "/tokenizer"};
    for (int i = 0; i < 2; i++) {
        snprintf(folder, SDW_MODEL_PATH_MAX, "%s%s", dir, inner[i]);
        if (has_files(folder))
            return SDW_OK;
    }
    return sdw_fail(err, SDW_NOT_FOUND,
                    "%s has no vocab.json and merges.txt, nor has a folder tokenizer in it", dir);
}

static bool is_clip(char *folder, const char *dir)
{
    struct sdw_tokenizer *tokenizer;
    if (sdw_vocabulary_in(folder, dir, NULL) || sdw_tokenizer_open(&tokenizer, folder, NULL))
        return false;
    bool same = sdw_tokenizer_start(tokenizer) == CLIP_START &&
                sdw_tokenizer_end(tokenizer) == CLIP_END &&
                sdw_tokenizer_size(tokenizer) == CLIP_END + 1;
    sdw_tokenizer_close(tokenizer);
    return same;
}

static bool is_clip_cached(char *folder, const char *repository)
{
    char snapshot[SDW_MODEL_PATH_MAX];
    return sdw_model_locate(snapshot, repository, NULL) == SDW_OK && is_clip(folder, snapshot);
}

struct cached {
    char repository[SDW_REPOSITORY_MAX]; /* the first by name: the same one every time */
};

static void consider(void *context, const struct sdw_cached_model *model)
{
    struct cached *cached = context;
    char folder[SDW_MODEL_PATH_MAX];
    if ((!*cached->repository || strcmp(model->repository, cached->repository) < 0) &&
        is_clip_cached(folder, model->repository))
        snprintf(cached->repository, sizeof cached->repository, "%s", model->repository);
}

/* Models that are known first, then any. */
static bool find_cached(char *folder)
{
    struct cached cached = {""};
    if (is_clip_cached(folder, CLIP_REPOSITORY))
        return true;
    for (int i = 0; i < sdw_catalogue_count; i++)
        if (is_clip_cached(folder, sdw_catalogue[i].repository))
            return true;
    return sdw_cache_list(consider, &cached, NULL) == SDW_OK && *cached.repository &&
           is_clip_cached(folder, cached.repository);
}

enum sdw_status sdw_vocabulary_find(char *folder, const char *path, struct sdw_error *err)
{
    char beside[SDW_MODEL_PATH_MAX], cache[SDW_MODEL_PATH_MAX];
    const char *slash = strrchr(path, '/');
    snprintf(beside, sizeof beside, "%.*s", slash ? (int)(slash - path) : 1, slash ? path : ".");
    if (is_clip(folder, beside) || find_cached(folder)) {
        sdw_log_info("%s brings no vocabulary: taken from %s", path, folder);
        return SDW_OK;
    }
    sdw_cache_folder(cache);
    return sdw_fail(
        err, SDW_NOT_FOUND,
        "%s is one file, which brings no vocabulary, and CLIP's vocab.json and "
        "merges.txt are neither beside it nor in the hub cache %.120s: `pull " CLIP_REPOSITORY
        "` fetches them (1.5 MB), or --tokenizer DIR names their "
        "folder",
        path, cache);
}
