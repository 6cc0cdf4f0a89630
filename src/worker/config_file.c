/* config_file.c: see config_file.h. libyaml turns the file into events; a flat mapping needs only
 * three of them. */
#include "worker/config_file.h"

#include "base/text.h"

#include <stdio.h>
#include <string.h>
#include <yaml.h>

/* The events of one mapping: key, value, key, value, ... until its end. */
static enum sdw_status read_mapping(yaml_parser_t *parser, struct sdw_options *options,
                                    const char *path, struct sdw_error *err)
{
    char key[128] = "";
    for (;;) {
        yaml_event_t event;
        if (!yaml_parser_parse(parser, &event))
            return sdw_fail(err, SDW_USAGE, "%s line %zu: %s", path, parser->problem_mark.line + 1,
                            parser->problem ? parser->problem : "not YAML");
        size_t line = event.start_mark.line + 1;
        enum sdw_status status = SDW_OK;
        bool end = event.type == YAML_MAPPING_END_EVENT;
        if (!end && event.type != YAML_SCALAR_EVENT) {
            status = sdw_fail(err, SDW_USAGE, "%s line %zu: %s%smust be a plain value", path, line,
                              key, key[0] ? " " : "a key ");
        } else if (!end && !key[0]) {
            snprintf(key, sizeof key, "%s", (const char *)event.data.scalar.value);
        } else if (!end) {
            char source[SDW_ERROR_MAX / 2];
            snprintf(source, sizeof source, "%s line %zu", path, line);
            status =
                sdw_option_set(options, key, (const char *)event.data.scalar.value, source, err);
            key[0] = 0;
        }
        yaml_event_delete(&event);
        if (status || end)
            return status;
    }
}

static enum sdw_status parse(yaml_parser_t *parser, struct sdw_options *options, const char *path,
                             struct sdw_error *err)
{
    for (;;) {
        yaml_event_t event;
        if (!yaml_parser_parse(parser, &event))
            return sdw_fail(err, SDW_USAGE, "%s line %zu: %s", path, parser->problem_mark.line + 1,
                            parser->problem ? parser->problem : "not YAML");
        yaml_event_type_t type = event.type;
        size_t line = event.start_mark.line + 1;
        yaml_event_delete(&event);
        if (type == YAML_MAPPING_START_EVENT)
            return read_mapping(parser, options, path, err);
        if (type == YAML_STREAM_END_EVENT)
            return SDW_OK; /* an empty file sets nothing */
        if (type == YAML_SCALAR_EVENT || type == YAML_SEQUENCE_START_EVENT)
            return sdw_fail(err, SDW_USAGE, "%s line %zu: expected \"key: value\" lines", path,
                            line);
    }
}

enum sdw_status sdw_config_file_read(struct sdw_options *options, const char *path,
                                     struct sdw_error *err)
{
    struct sdw_text text;
    sdw_text_init(&text, SDW_OPTIONS_BYTES_MAX);
    struct sdw_error cause;
    enum sdw_status status = sdw_text_read_file(&text, path, &cause);
    if (status) {
        sdw_text_free(&text);
        return sdw_fail(err, SDW_USAGE, "--config: %s", cause.message);
    }
    yaml_parser_t parser;
    if (!yaml_parser_initialize(&parser)) {
        sdw_text_free(&text);
        return sdw_fail(err, SDW_MEMORY, "no memory to read %s", path);
    }
    yaml_parser_set_input_string(&parser, (const unsigned char *)text.data, text.length);
    status = parse(&parser, options, path, err);
    yaml_parser_delete(&parser);
    sdw_text_free(&text);
    return status;
}
