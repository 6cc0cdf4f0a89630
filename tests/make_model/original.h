/* original.h: diffusers models as single-file checkpoints: the tests' own way there, which shares
 * nothing with the reader's way back (src/weights/checkpoint.c). */
#ifndef SDW_TESTS_ORIGINAL_H
#define SDW_TESTS_ORIGINAL_H

#include "model/config.h"
#include "tensor/tensor.h"

#include <stdbool.h>
#include <stdio.h>

#define ORIGINAL_NAME_MAX 256 /* bytes of a tensor's name, its NUL included */

/* ---- names ---- */

/* What the numbers in original names depend on. */
struct original_geometry {
    int unet_layers;      /* at each resolution */
    bool up_attention[8]; /* of up block i */
    int vae_levels;
};

/* The original name, without its component's prefix, of a tensor that diffusers calls `name`. */
void original_unet(char *to, const char *name, const struct original_geometry *geometry);
void original_vae(char *to, const char *name, const struct original_geometry *geometry);
/* Queries, keys and values are one tensor there, which q_proj stands for. */
void original_open_clip(char *to, const char *name);
/* The VAE's attention as diffusers calls it now: published files of 1.x have older names. */
void original_modern(char *to, const char *name);

/* ---- a file to be ---- */

struct original_tensor {
    char name[ORIGINAL_NAME_MAX];
    struct sdw_array shape;   /* as in the file; no data */
    struct sdw_array part[3]; /* its numbers: one array, or queries, keys and values */
    int parts;
    bool turned; /* stored by columns */
};

/* Zeroed at first; `tensor` is the caller's to free. Arrays stay the caller's, and may be without
 * data: then the file is written as a hole of the right size. */
struct original_file {
    struct original_tensor *tensor;
    int count, capacity;
};

/* The tensor of that original name, prefix included; a new one without a shape when there is none.
 * NULL without memory. */
struct original_tensor *original_get(struct original_file *file, const char *name);
/* Adds a tensor of a component under diffusers' name. Errors of all these are printed. */
bool original_add(struct original_file *file, const struct sdw_model_config *config,
                  const char *component, const char *name, const struct sdw_array *array);
/* Adds what only such files have: the last layer of 2.x's text encoder, which nobody reads. */
bool original_finish(struct original_file *file, const struct sdw_model_config *config);

/* The bytes of a tensor, as in the file; NULL without memory. The caller frees them. */
void *original_bytes(const struct original_tensor *tensor, size_t *bytes);

bool original_write_safetensors(const struct original_file *file, const char *path);
bool original_write_pickle(const struct original_file *file, FILE *out); /* as torch.save does */
/* The .yaml that says what the tensors of such a model do not show. */
bool original_write_yaml(const struct sdw_model_config *config, FILE *out);

/* A diffusers folder as the file that the ending of `path` names: .safetensors, .ckpt, .yaml. */
bool original_convert(const char *folder, const char *path);

#endif
