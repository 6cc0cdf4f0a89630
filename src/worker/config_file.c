/* config_file.c: see config_file.h. */
#include "worker/config_file.h"

#include "base/yaml.h"

#include <stdio.h>
#include <string.h>

struct reading {
    struct sdw_options *options;
    const char *path;
};

static enum sdw_status take(void *context, const struct sdw_yaml_value *value,
                            struct sdw_error *err)
{
    const struct reading *reading = context;
    char source[SDW_ERROR_MAX / 2];
    snprintf(source, sizeof source, "%s line %zu", reading->path, value->line);
    if (!value->text)
        return sdw_fail(err, SDW_USAGE, "%s: %s must be a plain value", source, value->path);
    return sdw_option_set(reading->options, value->path, value->text, source, err);
}

enum sdw_status sdw_config_file_read(struct sdw_options *options, const char *path,
                                     struct sdw_error *err)
{
    struct reading reading = {options, path};
    struct sdw_error cause;
    enum sdw_status status = sdw_yaml_read(path, SDW_OPTIONS_BYTES_MAX, take, &reading, &cause);
    if (!status)
        return SDW_OK;
    bool read = status == SDW_USAGE || status == SDW_FORMAT; /* then it names file and line */
    return sdw_fail(err, SDW_USAGE, "%s%s", read ? "" : "--config: ", cause.message);
}
