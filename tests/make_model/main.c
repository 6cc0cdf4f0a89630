/* make_model: diffusers folders with pseudo-random weights, computed from the tensors' names alone
 * as golden/README.md describes, so that anyone can check and measure without a download.
 *
 *   make_model golden FROM OUT        the tiny models of FROM/models/manifest.json, to OUT/models
 *   make_model NAME OUT [TOKENIZER]   a full-size model (tests/model/geometry/NAME), in f16, with
 *                                     the vocab.json and merges.txt of TOKENIZER; without that,
 *                                     with a vocabulary of single bytes
 *   make_model original FOLDER FILE   a diffusers folder as one file of the original names, by its
 *                                     ending .safetensors or .ckpt, or the .yaml beside it
 *   make_model vocabulary OUT         a vocabulary of single bytes
 *
 * What tensors a full-size model has, the program learns from its own loader. */
#include "make_model.h"
#include "original.h"

#include "backend/registry.h"
#include "base/clock.h"
#include "model/config.h"

#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const char usage[] = "usage: make_model golden FROM OUT\n"
                            "       make_model sd15|sd15-inpaint|sd21|sdxl OUT [TOKENIZER_DIR]\n"
                            "       make_model original FOLDER FILE.safetensors|.ckpt|.yaml\n"
                            "       make_model vocabulary OUT\n";

/* Creates the folders of `path` up to its last slash. */
static void make_folders(const char *path)
{
    char part[4096];
    snprintf(part, sizeof part, "%s", path);
    for (char *slash = strchr(part + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
        *slash = '\0';
        mkdir(part, 0777); /* what fails here fails again where a file is created */
        *slash = '/';
    }
}

/* Copies a file; false only when it is there and cannot be copied. */
static bool copy_file(const char *from_folder, const char *to_folder, const char *name)
{
    char from[4096], to[4096], chunk[65536];
    snprintf(from, sizeof from, "%s/%s", from_folder, name);
    snprintf(to, sizeof to, "%s/%s", to_folder, name);
    FILE *in = fopen(from, "rb");
    if (!in)
        return true;
    make_folders(to);
    FILE *out = fopen(to, "wb");
    bool good = out != NULL;
    for (size_t n; good && (n = fread(chunk, 1, sizeof chunk, in)) > 0;)
        good = fwrite(chunk, 1, n, out) == n;
    good = out && fclose(out) == 0 && good && !ferror(in);
    fclose(in);
    if (!good)
        perror(to);
    return good;
}

static bool copy_configs(const char *from, const char *to)
{
    static const char *const names[] = {
        "model_index.json",
        "scheduler/scheduler_config.json",
        "unet/config.json",
        "vae/config.json",
        "text_encoder/config.json",
        "text_encoder_2/config.json",
        "tokenizer/tokenizer_config.json",
        "tokenizer/special_tokens_map.json",
        "tokenizer_2/tokenizer_config.json",
        "tokenizer_2/special_tokens_map.json",
    };
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        if (!copy_file(from, to, names[i]))
            return false;
    return true;
}

/* ---- the tiny models, from a manifest ---- */

static bool make_component(const char *out, const char *model, const char *component, json_t *entry)
{
    struct make_file file = {.model = model, .component = component};
    const char *name;
    json_t *value;
    json_object_foreach(json_object_get(entry, "tensors"), name, value)
    {
        int64_t dim[SDW_RANK_MAX];
        json_t *shape = json_array_get(value, 1), *size;
        size_t rank = json_array_size(shape), i;
        json_array_foreach(shape, i, size) if (i < SDW_RANK_MAX) dim[i] = json_integer_value(size);
        if (!make_file_add(&file, name, json_string_value(json_array_get(value, 0)), (int)rank,
                           dim))
            return false;
    }
    char path[4096];
    snprintf(path, sizeof path, "%s/models/%s/%s/%s", out, model, component,
             json_string_value(json_object_get(entry, "file")));
    make_folders(path);
    return make_file_write(&file, path);
}

static bool make_golden(const char *from, const char *out)
{
    char path[4096];
    snprintf(path, sizeof path, "%s/models/manifest.json", from);
    json_error_t fault;
    json_t *manifest = json_load_file(path, 0, &fault), *components, *entry;
    if (!manifest) {
        fprintf(stderr, "make_model: %s: %s\n", path, fault.text);
        return false;
    }
    const char *model, *component;
    bool good = true;
    json_object_foreach(json_object_get(manifest, "models"), model, components)
    {
        char source[4096], target[4096];
        snprintf(source, sizeof source, "%s/models/%s", from, model);
        snprintf(target, sizeof target, "%s/models/%s", out, model);
        good = good && copy_configs(source, target);
        json_object_foreach(components, component, entry) good =
            good && make_component(out, model, component, entry);
    }
    json_decref(manifest);
    return good;
}

/* ---- full-size models, from their geometry ---- */

static bool make_listened(const char *out, const char *model, const char *component,
                          struct sdw_device *dev, const struct sdw_model_config *config)
{
    struct make_file file = {.model = model, .component = component};
    bool good = make_file_list(&file, dev, config);
    bool text = strncmp(component, "text_encoder", 12) == 0;
    printf("%s: %" PRId64 " parameters\n", component, make_file_parameters(&file));
    if (text && good)
        good = make_file_add(&file, "text_model.embeddings.position_ids", "I64", 2,
                             (int64_t[]){1, config->text[0].positions});
    char path[4096];
    snprintf(path, sizeof path, "%s/%s/%s.safetensors", out, component,
             text ? "model" : "diffusion_pytorch_model");
    make_folders(path);
    return good && make_file_write(&file, path);
}

/* The vocabulary of `from`, or one of single bytes when that is NULL. */
static bool make_tokenizer(const char *to, const char *from)
{
    static const char *const names[] = {"vocab.json", "merges.txt"};
    char path[4096];
    snprintf(path, sizeof path, "%s/", to);
    make_folders(path);
    for (int i = 0; from && i < 2; i++) {
        snprintf(path, sizeof path, "%s/%s", from, names[i]);
        if (access(path, R_OK) != 0) {
            perror(path);
            return false;
        }
        if (!copy_file(from, to, names[i]))
            return false;
    }
    return from || make_vocabulary_write(to);
}

static bool make_full(const char *name, const char *out, const char *tokenizer)
{
    static struct sdw_model_config config;
    char folder[4096];
    struct sdw_error err = {0};
    struct sdw_device *dev = NULL;
    struct sdw_device_options options = {.dtype = SDW_F16};
    snprintf(folder, sizeof folder, "%s/tests/model/geometry/%s", SDW_SOURCE_DIR, name);
    if (sdw_model_config_read(&config, folder, &err) != SDW_OK ||
        sdw_device_open(&dev, "trace", &options, &err) != SDW_OK) {
        fprintf(stderr, "make_model: %s\n%s", err.message, usage);
        return false;
    }
    bool good = copy_configs(folder, out);
    for (int i = 0; i < config.texts; i++) {
        char to[4096];
        snprintf(to, sizeof to, "%s/%s", out, config.tokenizer[i]);
        good = good && make_listened(out, name, config.text_component[i], dev, &config);
        good = good && make_tokenizer(to, tokenizer);
    }
    good = good && make_listened(out, name, "unet", dev, &config) &&
           make_listened(out, name, "vae", dev, &config);
    sdw_device_close(dev);
    return good;
}

int main(int argc, char **argv)
{
    if (argc < 3 || argc > 4) {
        fputs(usage, stderr);
        return 2;
    }
    double start = sdw_clock_seconds();
    const char *command = argv[1], *out = argc == 4 ? argv[3] : NULL;
    bool good;
    if (strcmp(command, "golden") == 0 && argc == 4)
        good = make_golden(argv[2], argv[3]);
    else if (strcmp(command, "original") == 0 && argc == 4)
        good = original_convert(argv[2], argv[3]);
    else if (strcmp(command, "vocabulary") == 0)
        good = make_tokenizer(out = argv[2], NULL);
    else
        good = make_full(command, out = argv[2], argv[3]);
    if (good)
        printf("%s: made in %.1f s\n", out, sdw_clock_seconds() - start);
    return good ? 0 : 1;
}
