/* list.c: which tensors a component's file has. The models' own loader is asked, on a device that
 * computes nothing, so that no second description of them can go stale. */
#include "make_model.h"

#include "model/clip_text.h"
#include "model/unet.h"
#include "model/vae.h"
#include "nn/loader.h"

#include <jansson.h>
#include <stdio.h>
#include <string.h>

struct listening {
    struct make_file *file;
    bool conv_projections; /* SD 1.x keeps proj_in and proj_out as 1x1 convolutions */
    bool good;
};

static bool contains(const char *name, const char *part)
{
    return strstr(name, part) != NULL;
}

/* A tensor that the loader asked for. Linear layers that files keep as 1x1 convolutions get their
 * two more dimensions. */
static void heard(void *context, const char *name, int rank, const int64_t *dim)
{
    struct listening *listening = context;
    int64_t shape[SDW_RANK_MAX] = {1, 1, 1, 1};
    memcpy(shape, dim, (size_t)rank * sizeof *dim);
    bool conv = contains(name, "conv_shortcut.") || contains(name, "quant_conv.") ||
                (listening->conv_projections &&
                 (contains(name, ".proj_in.") || contains(name, ".proj_out.")));
    listening->good = listening->good && make_file_add(listening->file, name, "F16",
                                                       rank == 2 && conv ? 4 : rank, shape);
}

static bool linear_projections(const char *folder)
{
    char path[4096];
    snprintf(path, sizeof path, "%s/unet/config.json", folder);
    json_t *config = json_load_file(path, 0, NULL);
    bool linear = json_is_true(json_object_get(config, "use_linear_projection"));
    json_decref(config);
    return linear;
}

/* Opens the component without weights, and closes it. */
static enum sdw_status open_component(const char *component, struct sdw_device *dev,
                                      const struct sdw_model_config *config, struct sdw_error *err)
{
    struct sdw_clip_text *text = NULL;
    struct sdw_unet *unet = NULL;
    struct sdw_vae *vae = NULL;
    enum sdw_status status = SDW_OK;
    for (int i = 0; i < config->texts; i++)
        if (strcmp(component, config->text_component[i]) == 0)
            status = sdw_clip_text_open(&text, dev, NULL, &config->text[i], err);
    if (strcmp(component, "unet") == 0)
        status = sdw_unet_open(&unet, dev, NULL, &config->unet, err);
    if (strcmp(component, "vae") == 0)
        status = sdw_vae_open(&vae, dev, NULL, &config->vae, SDW_VAE_BOTH, err);
    sdw_clip_text_close(text);
    sdw_unet_close(unet);
    sdw_vae_close(vae);
    return status;
}

bool make_file_list(struct make_file *file, struct sdw_device *dev,
                    const struct sdw_model_config *config)
{
    struct listening listening = {file, !linear_projections(config->path), true};
    struct sdw_loader_listener listener = {heard, &listening};
    struct sdw_error err = {0};
    sdw_loader_listen(&listener);
    enum sdw_status status = open_component(file->component, dev, config, &err);
    sdw_loader_listen(NULL);
    if (status)
        fprintf(stderr, "make_model: %s\n", err.message);
    return !status && listening.good;
}
