/* original.c: see original.h. */
#include "original.h"

#include "base/text.h"
#include "model/files.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define HEADER_BYTES_MAX (16u << 20)

static bool begins(const char *name, const char *with)
{
    return strncmp(name, with, strlen(with)) == 0;
}

static struct original_geometry geometry_of(const struct sdw_model_config *config)
{
    const struct sdw_unet_config *unet = &config->unet;
    struct original_geometry geometry = {.unet_layers = unet->level[0].layers,
                                         .vae_levels = config->vae.levels};
    for (int i = 0; i < unet->levels; i++)
        geometry.up_attention[i] = unet->level[unet->levels - 1 - i].up_attention;
    return geometry;
}

/* The prefix of a text encoder's tensors. */
static const char *text_prefix(const struct sdw_model_config *config, const char *component,
                               bool *open_clip)
{
    bool second = strcmp(component, "text_encoder_2") == 0;
    *open_clip = config->text[second && config->texts == 2].act == SDW_ACT_GELU;
    if (config->texts == 2)
        return second ? "conditioner.embedders.1.model." : "conditioner.embedders.0.transformer.";
    if (second)
        return "conditioner.embedders.0.model."; /* the refiner */
    return *open_clip ? "cond_stage_model.model." : "cond_stage_model.transformer.";
}

struct original_tensor *original_get(struct original_file *file, const char *name)
{
    for (int i = file->count - 1; i >= 0; i--)
        if (strcmp(file->tensor[i].name, name) == 0)
            return &file->tensor[i];
    if (file->count == file->capacity) {
        int more = file->capacity ? 2 * file->capacity : 1024;
        struct original_tensor *grown = realloc(file->tensor, (size_t)more * sizeof *grown);
        if (!grown)
            return NULL;
        file->tensor = grown;
        file->capacity = more;
    }
    struct original_tensor *tensor = &file->tensor[file->count++];
    *tensor = (struct original_tensor){.parts = 0};
    snprintf(tensor->name, sizeof tensor->name, "%s", name);
    return tensor;
}

/* Which third of attn.in_proj a tensor is; 0 for every other one, too. Makes its name q_proj's. */
static int third_of(char *name)
{
    static const char *const parts[] = {"self_attn.q_proj.", "self_attn.k_proj.",
                                        "self_attn.v_proj."};
    for (int i = 1; i < 3; i++) {
        char *at = strstr(name, parts[i]);
        if (at) {
            memcpy(at, parts[0], strlen(parts[0]));
            return i;
        }
    }
    return 0;
}

bool original_add(struct original_file *file, const struct sdw_model_config *config,
                  const char *component, const char *name, const struct sdw_array *array)
{
    struct original_geometry geometry = geometry_of(config);
    char from[ORIGINAL_NAME_MAX], to[ORIGINAL_NAME_MAX], full[2 * ORIGINAL_NAME_MAX];
    const char *prefix = "model.diffusion_model.";
    bool open_clip = false;
    int part = 0;
    original_modern(from, name);
    if (strcmp(component, "unet") == 0) {
        original_unet(to, from, &geometry);
    } else if (strcmp(component, "vae") == 0) {
        prefix = "first_stage_model.";
        original_vae(to, from, &geometry);
    } else {
        prefix = text_prefix(config, component, &open_clip);
        if (open_clip && strstr(name, "position_ids"))
            return true; /* not there */
        part = open_clip ? third_of(from) : 0;
        snprintf(to, sizeof to, "%s", from);
        if (open_clip)
            original_open_clip(to, from);
    }
    snprintf(full, sizeof full, "%s%s", prefix, to);
    struct original_tensor *tensor = original_get(file, full);
    if (!tensor)
        return false;
    bool first = tensor->parts == 0;
    tensor->part[part] = *array;
    tensor->parts++;
    int64_t rows = first ? 0 : tensor->shape.dim[0];
    tensor->shape = *array;
    tensor->shape.data = NULL;
    tensor->shape.dim[0] += rows;
    if (strstr(to, "mid.attn_1.") && array->rank == 2) { /* 1x1 convolutions */
        tensor->shape.rank = 4;
        tensor->shape.dim[2] = tensor->shape.dim[3] = 1;
    }
    tensor->turned = open_clip && strcmp(to, "text_projection") == 0;
    if (tensor->turned) {
        tensor->shape.dim[0] = array->dim[1];
        tensor->shape.dim[1] = array->dim[0];
    }
    return true;
}

bool original_finish(struct original_file *file, const struct sdw_model_config *config)
{
    char last[ORIGINAL_NAME_MAX], name[ORIGINAL_NAME_MAX];
    int length = snprintf(last, sizeof last, "cond_stage_model.model.transformer.resblocks.%d.",
                          config->text[0].layers - 1);
    for (int i = 0, count = file->count; i < count; i++) {
        if (!begins(file->tensor[i].name, last))
            continue;
        snprintf(name, sizeof name, "cond_stage_model.model.transformer.resblocks.%d.%s",
                 config->text[0].layers, file->tensor[i].name + length);
        struct original_tensor *copy = original_get(file, name);
        if (!copy)
            return false;
        *copy = file->tensor[i];
        snprintf(copy->name, sizeof copy->name, "%s", name);
    }
    return true;
}

/* ---- safetensors ---- */

static size_t bytes_of(const struct sdw_array *array)
{
    return (size_t)sdw_array_count(array) * sdw_dtype_bytes(array->dtype);
}

void *original_bytes(const struct original_tensor *tensor, size_t *bytes)
{
    *bytes = bytes_of(&tensor->shape);
    char *all = malloc(*bytes + 1), *to = all;
    if (!all)
        return NULL;
    size_t each = sdw_dtype_bytes(tensor->shape.dtype);
    for (int i = 0; i < tensor->parts && !tensor->turned; i++) {
        memcpy(to, tensor->part[i].data, bytes_of(&tensor->part[i]));
        to += bytes_of(&tensor->part[i]);
    }
    size_t rows = (size_t)tensor->part[0].dim[0], columns = *bytes / each / (rows ? rows : 1);
    for (size_t i = 0; i < rows * columns && tensor->turned; i++)
        memcpy(to + (i % columns * rows + i / columns) * each,
               (const char *)tensor->part[0].data + i * each, each);
    return all;
}

static bool write_header(const struct original_file *file, FILE *out, uint64_t *data_bytes)
{
    static const char *const types[SDW_DTYPE_COUNT] = {
        [SDW_F32] = "F32", [SDW_F16] = "F16", [SDW_BF16] = "BF16", [SDW_I64] = "I64"};
    struct sdw_text text;
    sdw_text_init(&text, HEADER_BYTES_MAX);
    sdw_text_printf(&text, NULL, "{");
    uint64_t at = 0;
    for (int i = 0; i < file->count; i++) {
        const struct sdw_array *shape = &file->tensor[i].shape;
        uint64_t end = at + bytes_of(shape);
        sdw_text_printf(&text, NULL, "%s\"%s\":{\"dtype\":\"%s\",\"shape\":[", i ? "," : "",
                        file->tensor[i].name, types[shape->dtype]);
        for (int d = 0; d < shape->rank; d++)
            sdw_text_printf(&text, NULL, "%s%" PRId64, d ? "," : "", shape->dim[d]);
        sdw_text_printf(&text, NULL, "],\"data_offsets\":[%" PRIu64 ",%" PRIu64 "]}", at, end);
        at = end;
    }
    bool good = sdw_text_printf(&text, NULL, "}") == SDW_OK;
    while (good && text.length % 8 != 0)
        good = sdw_text_printf(&text, NULL, " ") == SDW_OK;
    uint64_t length = text.length;
    good = good && fwrite(&length, 8, 1, out) == 1 &&
           fwrite(text.data, 1, text.length, out) == text.length;
    sdw_text_free(&text);
    *data_bytes = at;
    return good;
}

bool original_write_safetensors(const struct original_file *file, const char *path)
{
    FILE *out = fopen(path, "wb");
    uint64_t data_bytes;
    bool good = out && write_header(file, out, &data_bytes);
    bool hole = file->count > 0 && !file->tensor[0].part[0].data;
    if (good && hole)
        good = fflush(out) == 0 && ftruncate(fileno(out), ftell(out) + (off_t)data_bytes) == 0;
    for (int i = 0; i < file->count && good && !hole; i++) {
        size_t bytes;
        void *data = original_bytes(&file->tensor[i], &bytes);
        good = data && fwrite(data, 1, bytes, out) == bytes;
        free(data);
    }
    good = (out && fclose(out) == 0) && good;
    if (!good)
        perror(path);
    return good;
}

/* ---- a folder ---- */

static bool add_component(struct original_file *file, const struct sdw_model_config *config,
                          const char *component, struct sdw_weights **weights)
{
    struct sdw_error err;
    if (sdw_model_weights_open(weights, config->path, component, &err)) {
        fprintf(stderr, "make_model: %s\n", err.message);
        return false;
    }
    bool good = true;
    for (int i = 0; i < sdw_weights_count(*weights) && good; i++) {
        struct sdw_array array;
        const char *name = sdw_weights_name(*weights, i);
        good = sdw_weights_find(*weights, name, &array) &&
               original_add(file, config, component, name, &array);
    }
    return good;
}

static bool write_file(const struct original_file *file, const char *path)
{
    if (strstr(path, ".safetensors"))
        return original_write_safetensors(file, path);
    FILE *out = fopen(path, "wb");
    bool good = out && original_write_pickle(file, out);
    good = (out && fclose(out) == 0) && good;
    if (!good)
        perror(path);
    return good;
}

static bool write_yaml(const struct sdw_model_config *config, const char *path)
{
    FILE *out = fopen(path, "w");
    bool good = out && original_write_yaml(config, out);
    good = (out && fclose(out) == 0) && good;
    if (!good)
        perror(path);
    return good;
}

bool original_convert(const char *folder, const char *path)
{
    static struct sdw_model_config config;
    struct sdw_error err;
    if (sdw_model_config_read(&config, folder, &err)) {
        fprintf(stderr, "make_model: %s\n", err.message);
        return false;
    }
    if (strstr(path, ".yaml"))
        return write_yaml(&config, path);
    const char *const components[] = {"unet", "vae", config.text_component[0],
                                      config.texts == 2 ? config.text_component[1] : NULL};
    struct sdw_weights *weights[4] = {NULL};
    struct original_file file = {.count = 0};
    bool good = true;
    for (int i = 0; i < 4 && components[i] && good; i++)
        good = add_component(&file, &config, components[i], &weights[i]);
    good = good && original_finish(&file, &config) && write_file(&file, path);
    for (int i = 0; i < 4; i++)
        sdw_weights_close(weights[i]);
    free(file.tensor);
    return good;
}
