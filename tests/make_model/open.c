/* open.c: which model a component is. */
#include "make_model.h"

#include "model/clip_text.h"
#include "model/unet.h"
#include "model/vae.h"

#include <stdio.h>
#include <string.h>

bool make_model_open(const char *component, struct sdw_device *dev,
                     const struct sdw_model_config *config)
{
    struct sdw_clip_text *text = NULL;
    struct sdw_unet *unet = NULL;
    struct sdw_vae *vae = NULL;
    struct sdw_error err = {0};
    enum sdw_status status = SDW_OK;
    for (int i = 0; i < config->texts; i++)
        if (strcmp(component, config->text_component[i]) == 0)
            status = sdw_clip_text_open(&text, dev, NULL, &config->text[i], &err);
    if (strcmp(component, "unet") == 0)
        status = sdw_unet_open(&unet, dev, NULL, &config->unet, &err);
    if (strcmp(component, "vae") == 0)
        status = sdw_vae_open(&vae, dev, NULL, &config->vae, SDW_VAE_BOTH, &err);
    if (status)
        fprintf(stderr, "make_model: %s\n", err.message);
    sdw_clip_text_close(text);
    sdw_unet_close(unet);
    sdw_vae_close(vae);
    return !status;
}
