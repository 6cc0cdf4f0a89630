/* yaml.c: see yaml.h. libyaml turns the file into events; a stack of what is open, and one text
 * that grows and shrinks with it, make each value's path. */
#include "base/yaml.h"

#include "base/text.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <yaml.h>

struct reader {
    yaml_parser_t parser;
    const char *file;
    sdw_yaml_take *take;
    void *context;
    char path[SDW_YAML_PATH_MAX];
    struct level {
        bool list;
        bool keyed;    /* a mapping's key was read, its value comes next */
        int next;      /* place in a list */
        size_t length; /* of the path up to here */
    } level[SDW_YAML_DEPTH_MAX];
    int depth;
};

static enum sdw_status fault(const struct reader *reader, size_t line, const char *sentence,
                             struct sdw_error *err)
{
    return sdw_fail(err, SDW_FORMAT, "%s line %zu: %s", reader->file, line, sentence);
}

/* The path of what comes next in the innermost level, which is `name` there. */
static enum sdw_status set_path(struct reader *reader, const char *name, size_t line,
                                struct sdw_error *err)
{
    size_t at = reader->level[reader->depth - 1].length, room = sizeof reader->path - at;
    int n = snprintf(reader->path + at, room, "%s%s", at ? "." : "", name);
    if ((size_t)n >= room)
        return fault(reader, line, "keys nested here are too long", err);
    return SDW_OK;
}

/* A value begins: takes its place in the level around it, and is told. */
static enum sdw_status begin_value(struct reader *reader, const char *text, size_t line,
                                   struct sdw_error *err)
{
    struct level *level = &reader->level[reader->depth - 1];
    if (level->list) {
        char place[16];
        snprintf(place, sizeof place, "%d", level->next++);
        enum sdw_status status = set_path(reader, place, line, err);
        if (status)
            return status;
    } else if (!level->keyed) {
        return fault(reader, line, "a key must be a plain value", err);
    }
    level->keyed = false;
    return reader->take(reader->context, &(struct sdw_yaml_value){reader->path, text, line}, err);
}

static enum sdw_status open_level(struct reader *reader, bool list, size_t line,
                                  struct sdw_error *err)
{
    size_t length = 0;
    if (reader->depth > 0) {
        enum sdw_status status = begin_value(reader, NULL, line, err);
        if (status)
            return status;
        length = strlen(reader->path);
    } else if (list) {
        return fault(reader, line, "expected \"key: value\" lines", err);
    }
    if (reader->depth == SDW_YAML_DEPTH_MAX)
        return fault(reader, line, "nested too deeply", err);
    reader->level[reader->depth++] = (struct level){.list = list, .length = length};
    return SDW_OK;
}

static enum sdw_status take_scalar(struct reader *reader, const char *text, size_t line,
                                   struct sdw_error *err)
{
    if (reader->depth == 0)
        return fault(reader, line, "expected \"key: value\" lines", err);
    struct level *level = &reader->level[reader->depth - 1];
    if (level->list || level->keyed)
        return begin_value(reader, text, line, err);
    level->keyed = true;
    return set_path(reader, text, line, err);
}

static enum sdw_status take_event(struct reader *reader, const yaml_event_t *event,
                                  struct sdw_error *err)
{
    size_t line = event->start_mark.line + 1;
    switch (event->type) {
    case YAML_MAPPING_START_EVENT:
    case YAML_SEQUENCE_START_EVENT:
        return open_level(reader, event->type == YAML_SEQUENCE_START_EVENT, line, err);
    case YAML_MAPPING_END_EVENT:
    case YAML_SEQUENCE_END_EVENT: reader->depth--; return SDW_OK;
    case YAML_SCALAR_EVENT:
        return take_scalar(reader, (const char *)event->data.scalar.value, line, err);
    case YAML_ALIAS_EVENT: return fault(reader, line, "an alias (*name) is not read here", err);
    default: return SDW_OK;
    }
}

static enum sdw_status read_events(struct reader *reader, struct sdw_error *err)
{
    for (;;) {
        yaml_event_t event;
        if (!yaml_parser_parse(&reader->parser, &event))
            return fault(reader, reader->parser.problem_mark.line + 1,
                         reader->parser.problem ? reader->parser.problem : "not YAML", err);
        yaml_event_type_t type = event.type;
        enum sdw_status status = take_event(reader, &event, err);
        yaml_event_delete(&event);
        if (status || type == YAML_DOCUMENT_END_EVENT || type == YAML_STREAM_END_EVENT)
            return status;
    }
}

enum sdw_status sdw_yaml_read(const char *path, size_t bytes_max, sdw_yaml_take *take,
                              void *context, struct sdw_error *err)
{
    struct sdw_text text;
    struct reader reader = {.file = path, .take = take, .context = context};
    sdw_text_init(&text, bytes_max);
    enum sdw_status status = sdw_text_read_file(&text, path, err);
    if (!status && !yaml_parser_initialize(&reader.parser)) {
        status = sdw_fail(err, SDW_MEMORY, "no memory to read %s", path);
    } else if (!status) {
        yaml_parser_set_input_string(&reader.parser, (const unsigned char *)text.data, text.length);
        status = read_events(&reader, err);
        yaml_parser_delete(&reader.parser);
    }
    sdw_text_free(&text);
    return status;
}
