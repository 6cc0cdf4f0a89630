/* folder.c: any bytes as the JSON files of a model folder: its index, its configurations, and the
 * index of sharded weights. The input is their texts, one after the other, with a 0x1e between. */
#include "weights.h"

#include "model/config.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#define SEPARATOR 0x1e

static const char *const files[] = {"model_index.json",
                                    "unet/config.json",
                                    "vae/config.json",
                                    "text_encoder/config.json",
                                    "text_encoder_2/config.json",
                                    "scheduler/scheduler_config.json",
                                    "model.safetensors.index.json"};
#define FILES (sizeof files / sizeof files[0])

static char folder[64];

static void write_file(const char *name, const void *bytes, size_t size)
{
    char path[128];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    FUZZ_CHECK(fd >= 0 && write(fd, bytes, size) == (ssize_t)size);
    close(fd);
}

/* A folder of this process, with one small shard for the index to find. */
static void make_folder(void)
{
    static const char *const parts[] = {
        "", "/unet", "/vae", "/text_encoder", "/text_encoder_2", "/scheduler", "/tokenizer"};
    static const char shard[] =
        "\x3a\0\0\0\0\0\0\0{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}    \0\0\0\0";
    char path[128];
    snprintf(folder, sizeof folder, "/dev/shm/sdw-fuzz-%d", (int)getpid());
    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++) {
        snprintf(path, sizeof path, "%s%s", folder, parts[i]);
        mkdir(path, 0700);
    }
    write_file("one.safetensors", shard, sizeof shard - 1);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct sdw_model_config config;
    struct sdw_weights *weights = NULL;
    struct sdw_error err = {0};
    char path[128];
    if (!*folder)
        make_folder();
    for (size_t i = 0; i < FILES; i++) {
        const uint8_t *end = size ? memchr(data, SEPARATOR, size) : NULL;
        size_t length = end ? (size_t)(end - data) : size;
        write_file(files[i], data, length);
        data += end ? length + 1 : length;
        size -= end ? length + 1 : length;
    }
    if (sdw_model_config_read(&config, folder, &err) != SDW_OK)
        FUZZ_CHECK(err.status != SDW_OK && strlen(err.message) > 8);
    snprintf(path, sizeof path, "%s/%s", folder, files[FILES - 1]);
    err = (struct sdw_error){0};
    if (sdw_weights_open(&weights, path, &err) == SDW_OK)
        fuzz_read_all(weights);
    else
        FUZZ_CHECK(err.status != SDW_OK && strlen(err.message) > 8);
    sdw_weights_close(weights);
    return 0;
}
