/* checkpoint.c: any tensors as a checkpoint, and any bytes as the .yaml beside it. The input is a
 * line for each tensor, "name size size ...", then 0x1e and the .yaml. What is recognised is a
 * configuration like any other, and its parts can be read. */
#include "weights.h"

#include "base/log.h"
#include "base/text.h"
#include "model/config.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#define SEPARATOR  0x1e
#define DATA_MAX   (INT64_C(1) << 24) /* a hole */
#define HEADER_MAX (1u << 20)

static char checkpoint[64], yaml[64];

static void write_file(const char *path, const void *bytes, size_t size, int64_t hole)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    FUZZ_CHECK(fd >= 0 && write(fd, bytes, size) == (ssize_t)size);
    FUZZ_CHECK(ftruncate(fd, (off_t)size + hole) == 0);
    close(fd);
}

/* Appends a tensor to the header; a line that describes none is left out. */
static void add_line(struct sdw_text *header, char *line, int64_t *at)
{
    char *name = strsep(&line, " "), *word, shape[256] = "";
    int64_t bytes = 2;
    if (!*name || strpbrk(name, "\"\\"))
        return;
    for (const char *c = name; *c; c++)
        if (*c < '!' || *c > '~')
            return;
    for (int i = 0; i < SDW_RANK_MAX && (word = strsep(&line, " ")); i++) {
        int64_t size = strtol(word, NULL, 10);
        if (size < 0 || __builtin_mul_overflow(bytes, size, &bytes) || bytes > DATA_MAX - *at)
            return;
        snprintf(shape + strlen(shape), sizeof shape - strlen(shape), "%s%" PRId64, i ? "," : "",
                 size);
    }
    sdw_text_printf(header, NULL,
                    "%s\"%s\":{\"dtype\":\"F16\",\"shape\":[%s],\"data_offsets\":[%" PRId64
                    ",%" PRId64 "]}",
                    header->length > 9 ? "," : "", name, shape, *at, *at + bytes);
    *at += bytes;
}

static void write_checkpoint(const uint8_t *data, size_t size)
{
    struct sdw_text header;
    int64_t at = 0;
    uint64_t length = 0;
    char *lines = strndup((const char *)data, size), *rest = lines;
    sdw_text_init(&header, HEADER_MAX);
    sdw_text_append(&header, &length, 8, NULL);
    sdw_text_printf(&header, NULL, "{");
    for (char *line; (line = strsep(&rest, "\n"));)
        add_line(&header, line, &at);
    sdw_text_printf(&header, NULL, "}");
    length = header.length - 8;
    memcpy(header.data, &length, 8);
    write_file(checkpoint, header.data, header.length, at);
    sdw_text_free(&header);
    free(lines);
}

static void read_parts(const struct sdw_model_source *source)
{
    static const char *const components[] = {"unet", "vae", "text_encoder", "text_encoder_2"};
    for (int i = 0; i < 4; i++) {
        struct sdw_weights *weights;
        struct sdw_error err = {0};
        if (sdw_model_source_weights(&weights, source, components[i], &err) == SDW_OK)
            sdw_weights_close(weights);
        else
            FUZZ_CHECK(strlen(err.message) > 8);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct sdw_model_config config;
    struct sdw_model_source *source;
    struct sdw_error err = {0};
    if (!*checkpoint) {
        sdw_log_level_set(SDW_LOG_ERROR);
        snprintf(checkpoint, sizeof checkpoint, "/dev/shm/sdw-fuzz-%d.safetensors", (int)getpid());
        snprintf(yaml, sizeof yaml, "/dev/shm/sdw-fuzz-%d.yaml", (int)getpid());
    }
    const uint8_t *end = size ? memchr(data, SEPARATOR, size) : NULL;
    write_checkpoint(data, end ? (size_t)(end - data) : size);
    if (end)
        write_file(yaml, end + 1, size - (size_t)(end + 1 - data), 0);
    else
        unlink(yaml);
    struct sdw_model_source_options options = {.path = checkpoint};
    enum sdw_status status = sdw_model_source_open(&source, &options, &err);
    if (!status) {
        status = sdw_model_config_from(&config, source, &err);
        read_parts(source);
    }
    FUZZ_CHECK(!status || (err.status == status && strlen(err.message) > 8));
    sdw_model_source_close(source);
    return 0;
}
