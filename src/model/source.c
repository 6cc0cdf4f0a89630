/* source.c: see source.h. What differs from the files of a folder is kept as JSON under their
 * names, and looked for first: all of a checkpoint's, and of a folder what the user overrules. */
#include "model/source.h"

#include "model/files.h"
#include "model/recognise.h"
#include "weights/checkpoint.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const char scheduler_name[] = "scheduler/scheduler_config.json";
static const char vae_name[] = "vae/config.json";

struct sdw_model_source {
    char path[SDW_MODEL_PATH_MAX];
    struct sdw_weights *file;            /* the whole checkpoint, or NULL */
    struct sdw_weights *vae;             /* the whole file of another VAE, or NULL */
    char vae_folder[SDW_MODEL_PATH_MAX]; /* of another VAE, or "" */
    json_t *described;                   /* file name -> its content */
};

const char *sdw_model_source_path(const struct sdw_model_source *source)
{
    return source->path;
}

bool sdw_model_source_is_file(const struct sdw_model_source *source)
{
    return source->file != NULL;
}

void sdw_model_source_name(char *path, const struct sdw_model_source *source, const char *name)
{
    if (source->file)
        snprintf(path, SDW_MODEL_PATH_MAX, "%s (as %s)", source->path, name);
    else
        snprintf(path, SDW_MODEL_PATH_MAX, "%s/%s", source->path, name);
}

enum sdw_status sdw_model_source_text(struct sdw_text *text, const struct sdw_model_source *source,
                                      const char *name, struct sdw_error *err)
{
    char path[SDW_MODEL_PATH_MAX];
    const json_t *described = json_object_get(source->described, name);
    sdw_model_source_name(path, source, name);
    if (!described && source->file)
        return sdw_fail(err, SDW_NOT_FOUND, "%s: a checkpoint has none", path);
    if (!described)
        return sdw_text_read_file(text, path, err);
    char *dump = json_dumps(described, JSON_ENCODE_ANY);
    enum sdw_status status = dump ? sdw_text_append(text, dump, strlen(dump), err)
                                  : sdw_fail(err, SDW_MEMORY, "no memory for %s", path);
    free(dump);
    return status;
}

enum sdw_status sdw_model_source_weights(struct sdw_weights **weights,
                                         const struct sdw_model_source *source,
                                         const char *component, struct sdw_error *err)
{
    bool vae = strcmp(component, "vae") == 0;
    if (vae && source->vae)
        return sdw_checkpoint_part(weights, source->vae, component, err);
    if (vae && *source->vae_folder)
        return sdw_model_weights_open(weights, source->vae_folder, "", err);
    if (source->file)
        return sdw_checkpoint_part(weights, source->file, component, err);
    return sdw_model_weights_open(weights, source->path, component, err);
}

/* ---- what the user overrules ---- */

/* The content of a JSON file; the caller's. Not JSON, or no object: NULL without an error, for
 * whoever reads it as a configuration says that best. */
static enum sdw_status load(json_t **root, const struct sdw_model_source *source, const char *name,
                            struct sdw_error *err)
{
    struct sdw_text text;
    sdw_text_init(&text, SDW_CONFIG_BYTES_MAX);
    enum sdw_status status = sdw_model_source_text(&text, source, name, err);
    *root = status ? NULL : json_loadb(text.data ? text.data : "", text.length, 0, NULL);
    sdw_text_free(&text);
    return status;
}

static enum sdw_status set_prediction(struct sdw_model_source *source, const char *type,
                                      struct sdw_error *err)
{
    json_t *scheduler;
    enum sdw_status status = load(&scheduler, source, scheduler_name, err);
    if (scheduler) {
        json_object_set_new(scheduler, "prediction_type", json_string(type));
        json_object_set_new(source->described, scheduler_name, scheduler);
    }
    return status;
}

static bool has_file(const char *folder, const char *name)
{
    char path[SDW_MODEL_PATH_MAX];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    return access(path, F_OK) == 0;
}

/* Another VAE's folder is taken with its own configuration: DIR, or DIR/vae of a whole model. */
static enum sdw_status set_vae_folder(struct sdw_model_source *source, const char *folder,
                                      struct sdw_error *err)
{
    struct sdw_model_source other = {0};
    json_t *config;
    bool whole = has_file(folder, vae_name);
    snprintf(other.path, sizeof other.path, "%s", folder);
    snprintf(source->vae_folder, sizeof source->vae_folder, "%s%s", folder, whole ? "/vae" : "");
    enum sdw_status status = load(&config, &other, whole ? vae_name : "config.json", err);
    if (!status && !json_is_object(config))
        status = sdw_fail(err, SDW_FORMAT, "--vae: %s/config.json is not a JSON object",
                          source->vae_folder);
    if (status)
        json_decref(config);
    else
        json_object_set_new(source->described, vae_name, config);
    return status;
}

/* A file says its geometry; the rest stays the model's own. */
static enum sdw_status set_vae_file(struct sdw_model_source *source, const char *path,
                                    struct sdw_error *err)
{
    struct sdw_weights *part = NULL;
    json_t *config = NULL;
    struct sdw_error cause = {0};
    enum sdw_status status = sdw_weights_open(&source->vae, path, &cause);
    if (!status)
        status = sdw_checkpoint_part(&part, source->vae, "vae", &cause);
    if (!status)
        status = load(&config, source, vae_name, &cause);
    if (!status && config) {
        sdw_recognise_vae(config, part);
        json_object_set_new(source->described, vae_name, config);
    }
    sdw_weights_close(part);
    return status ? sdw_fail(err, status, "--vae: %s", cause.message) : SDW_OK;
}

static bool is_folder(const char *path)
{
    struct stat info;
    return stat(path, &info) == 0 && S_ISDIR(info.st_mode);
}

static enum sdw_status open_checkpoint(struct sdw_model_source *source, struct sdw_error *err)
{
    enum sdw_status status = sdw_weights_open(&source->file, source->path, err);
    return status ? status : sdw_recognise_checkpoint(source->described, source->file, err);
}

static enum sdw_status open_source(struct sdw_model_source *source,
                                   const struct sdw_model_source_options *options,
                                   struct sdw_error *err)
{
    /* Room for what is appended: the longest name in a model's folder has 40 bytes. */
    if (strlen(options->path) > SDW_MODEL_PATH_MAX - 64 ||
        (options->vae && strlen(options->vae) > SDW_MODEL_PATH_MAX - 64))
        return sdw_fail(err, SDW_TOO_LARGE, "the path of a model is longer than %d bytes",
                        SDW_MODEL_PATH_MAX - 64);
    snprintf(source->path, sizeof source->path, "%s", options->path);
    source->described = json_object();
    if (!source->described)
        return sdw_fail(err, SDW_MEMORY, "no memory to open %s", options->path);
    if (access(options->path, F_OK) != 0)
        return sdw_fail_errno(err, "cannot open %s", options->path);
    enum sdw_status status = is_folder(options->path) ? SDW_OK : open_checkpoint(source, err);
    if (!status && source->file && !options->vae &&
        !json_object_get(json_object_get(source->described, vae_name), "block_out_channels"))
        return sdw_fail(err, SDW_MODEL, "%s has no VAE in it: --vae FILE brings one",
                        options->path);
    if (!status && options->prediction_type)
        status = set_prediction(source, options->prediction_type, err);
    if (!status && options->vae)
        status = is_folder(options->vae) ? set_vae_folder(source, options->vae, err)
                                         : set_vae_file(source, options->vae, err);
    return status;
}

enum sdw_status sdw_model_source_open(struct sdw_model_source **source,
                                      const struct sdw_model_source_options *options,
                                      struct sdw_error *err)
{
    struct sdw_model_source *opened = calloc(1, sizeof *opened);
    *source = NULL;
    if (!opened)
        return sdw_fail(err, SDW_MEMORY, "no memory to open %s", options->path);
    enum sdw_status status = open_source(opened, options, err);
    if (status)
        sdw_model_source_close(opened);
    else
        *source = opened;
    return status;
}

void sdw_model_source_close(struct sdw_model_source *source)
{
    if (!source)
        return;
    sdw_weights_close(source->file);
    sdw_weights_close(source->vae);
    json_decref(source->described);
    free(source);
}
