/* files.c: the names under which the hub's repositories keep a component's weights. */
#include "model/files.h"

#include <stdio.h>
#include <unistd.h>

#define PATH_MAX_BYTES 4096

/* In order of preference; text encoders come from transformers, the others from diffusers. */
static const char *const names[] = {
    "diffusion_pytorch_model.safetensors",
    "diffusion_pytorch_model.fp16.safetensors",
    "diffusion_pytorch_model.safetensors.index.json",
    "model.safetensors",
    "model.fp16.safetensors",
    "model.safetensors.index.json",
};

enum sdw_status sdw_model_weights_open(struct sdw_weights **weights, const char *folder,
                                       const char *component, struct sdw_error *err)
{
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        char path[PATH_MAX_BYTES];
        snprintf(path, sizeof path, "%s/%s%s%s", folder, component, *component ? "/" : "",
                 names[i]);
        if (access(path, F_OK) == 0)
            return sdw_weights_open(weights, path, err);
    }
    return sdw_fail(err, SDW_NOT_FOUND,
                    "%s%s%s has no weights: none of diffusion_pytorch_model.safetensors, "
                    "model.safetensors, their .fp16 variants or an index of shards",
                    folder, *component ? "/" : "", component);
}
