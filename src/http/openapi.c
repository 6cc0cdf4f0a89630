/* openapi.c: /openapi.json (OpenAPI 3.0), from the table of routes and the table of parameters. */
#include "http/internal.h"

#include <string.h>
#include <strings.h>

static void put_parameter(struct sdw_json *json, const struct sdw_param_row *row,
                          int prompt_bytes_max)
{
    static const char *const types[] = {
        [SDW_PARAM_TEXT] = "string",  [SDW_PARAM_INTEGER] = "integer", [SDW_PARAM_REAL] = "number",
        [SDW_PARAM_SEED] = "integer", [SDW_PARAM_FLAG] = "boolean",    [SDW_PARAM_IMAGE] = "string",
    };
    sdw_json_open(json, row->name, '{');
    sdw_json_string(json, "type", types[row->kind]);
    sdw_json_string(json, "description", row->help);
    sdw_json_flag(json, "nullable", !row->required);
    if (row->fallback) /* in words: some depend on the model */
        sdw_json_string(json, "x-default", row->fallback);
    if (row->aliases[0]) {
        sdw_json_open(json, "x-aliases", '[');
        for (int i = 0; i < SDW_PARAM_NAMES_MAX && row->aliases[i]; i++)
            sdw_json_string(json, NULL, row->aliases[i]);
        sdw_json_close(json, ']');
    }
    if (row->choices[0]) {
        sdw_json_open(json, "enum", '[');
        for (int i = 0; i < SDW_PARAM_NAMES_MAX && row->choices[i]; i++)
            sdw_json_string(json, NULL, row->choices[i]);
        sdw_json_close(json, ']');
    } else if (row->kind == SDW_PARAM_IMAGE) {
        sdw_json_string(json, "format", "byte");
    } else if (row->kind == SDW_PARAM_TEXT) {
        sdw_json_integer(json, "minLength", (int64_t)row->min);
        sdw_json_integer(json, "maxLength",
                         row->max == SDW_PARAMS_TEXT_MAX ? prompt_bytes_max : (int64_t)row->max);
    } else if (row->kind == SDW_PARAM_INTEGER || row->kind == SDW_PARAM_REAL) {
        sdw_json_real(json, "minimum", row->min, 0);
        sdw_json_real(json, "maximum", row->max, 0);
    } else if (row->kind == SDW_PARAM_SEED) {
        sdw_json_integer(json, "minimum", -1);
        sdw_json_unsigned(json, "maximum", UINT64_MAX);
    }
    sdw_json_close(json, '}');
}

static void put_schemas(struct sdw_json *json, int prompt_bytes_max)
{
    sdw_json_open(json, "schemas", '{');
    sdw_json_open(json, "Job", '{');
    sdw_json_string(json, "type", "object");
    sdw_json_open(json, "required", '[');
    for (int i = 0; i < sdw_param_count; i++)
        if (sdw_param_rows[i].required)
            sdw_json_string(json, NULL, sdw_param_rows[i].name);
    sdw_json_close(json, ']');
    sdw_json_open(json, "properties", '{');
    for (int i = 0; i < sdw_param_count; i++)
        put_parameter(json, &sdw_param_rows[i], prompt_bytes_max);
    sdw_json_close(json, '}');
    sdw_json_close(json, '}');
    sdw_json_close(json, '}');
}

static void put_body(struct sdw_json *json)
{
    sdw_json_open(json, "requestBody", '{');
    sdw_json_flag(json, "required", true);
    sdw_json_open(json, "content", '{');
    sdw_json_open(json, "application/json", '{');
    sdw_json_open(json, "schema", '{');
    sdw_json_string(json, "$ref", "#/components/schemas/Job");
    for (int i = 0; i < 4; i++)
        sdw_json_close(json, '}');
}

static void put_operation(struct sdw_json *json, const struct route *route)
{
    char method[8] = "";
    for (size_t i = 0; route->method[i] && i + 1 < sizeof method; i++)
        method[i] = (char)(route->method[i] | 0x20); /* ASCII to lower case */
    sdw_json_open(json, method, '{');
    sdw_json_string(json, "summary", route->help);
    if (route->access == ACCESS_OPEN) {
        sdw_json_open(json, "security", '[');
        sdw_json_close(json, ']');
    }
    if (strstr(route->pattern, "{id}")) {
        sdw_json_open(json, "parameters", '[');
        sdw_json_raw(json, NULL,
                     "{\"name\":\"id\",\"in\":\"path\",\"required\":true,\"schema\":{\"type\":"
                     "\"string\"}}");
        sdw_json_close(json, ']');
    }
    if (route->handler == sdw_handle_submit)
        put_body(json);
    sdw_json_raw(json, "responses",
                 "{\"200\":{\"description\":\"done\"},\"default\":{"
                 "\"description\":\"an error with a code and a sentence\"}}");
    sdw_json_close(json, '}');
}

/* The routes of one path stand together, under the first of them. */
static void put_paths(struct sdw_json *json)
{
    sdw_json_open(json, "paths", '{');
    for (int i = 0; i < sdw_route_count; i++) {
        int first = 0;
        while (strcmp(sdw_routes[first].pattern, sdw_routes[i].pattern) != 0)
            first++;
        if (first < i)
            continue;
        sdw_json_open(json, sdw_routes[i].pattern, '{');
        for (int k = i; k < sdw_route_count; k++)
            if (strcmp(sdw_routes[k].pattern, sdw_routes[i].pattern) == 0)
                put_operation(json, &sdw_routes[k]);
        sdw_json_close(json, '}');
    }
    sdw_json_close(json, '}');
}

enum MHD_Result sdw_handle_openapi(struct request *request)
{
    struct sdw_text text;
    struct sdw_json json;
    sdw_answer_begin(&json, &text);
    sdw_json_string(&json, "openapi", "3.0.3");
    sdw_json_open(&json, "info", '{');
    sdw_json_string(&json, "title", "sd-worker");
    sdw_json_string(&json, "version", request->server->options.version);
    sdw_json_close(&json, '}');
    put_paths(&json);
    sdw_json_open(&json, "components", '{');
    put_schemas(&json, request->server->options.prompt_bytes_max);
    sdw_json_raw(&json, "securitySchemes", "{\"key\":{\"type\":\"http\",\"scheme\":\"bearer\"}}");
    sdw_json_close(&json, '}');
    if (request->server->options.api_keys)
        sdw_json_raw(&json, "security", "[{\"key\":[]}]");
    return sdw_answer_json(request, 200, &json);
}
