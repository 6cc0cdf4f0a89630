/* params.c: the table of parameters, and the readers that it drives. */
#include "pipeline/params.h"

#include <errno.h>
#include <jansson.h>
#include <math.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define AT(field) offsetof(struct sdw_params, field)

#define BIG_INTEGER_DIGITS 19 /* the first number that jansson refuses has that many */

/* clang-format off */
const struct sdw_param_row sdw_param_rows[] = {
    {"prompt", SDW_PARAM_TEXT, AT(prompt), 0, 1, SDW_PARAMS_TEXT_MAX, true, NULL, "what to draw"},
    {"negative_prompt", SDW_PARAM_TEXT, AT(negative_prompt), 0, 0, SDW_PARAMS_TEXT_MAX, false, "none", "what to stay away from"},
    {"steps", SDW_PARAM_INTEGER, AT(steps), 0, 1, SDW_PARAMS_STEPS_MAX, false, "the model's", "denoising steps"},
    {"guidance_scale", SDW_PARAM_REAL, AT(guidance_scale), AT(guidance_given), 0, 30, false, "the model's", "how strongly the prompt pulls; guidance runs when over 1"},
    {"seed", SDW_PARAM_SEED, AT(seed), AT(seed_given), 0, 0x1p64, false, "drawn", "where the noise starts; -1 draws one"},
    {"width", SDW_PARAM_INTEGER, AT(width), 0, SDW_PARAMS_SIDE_MIN, SDW_PARAMS_SIDE_MAX, false, "the model's", "pixels, a multiple of 8"},
    {"height", SDW_PARAM_INTEGER, AT(height), 0, SDW_PARAMS_SIDE_MIN, SDW_PARAMS_SIDE_MAX, false, "the model's", "pixels, a multiple of 8"},
    {"strength", SDW_PARAM_REAL, AT(strength), AT(strength_given), 0, 1, false, "0.8", "image to image: 0 gives the input back, 1 starts from noise"},
    {"clip_skip", SDW_PARAM_INTEGER, AT(clip_skip), 0, 0, 11, false, "0", "layers of the text encoder left out at its end"},
    {"sampler", SDW_PARAM_TEXT, AT(sampler), 0, 1, 64, false, "the model's", "a name of GET /v1/samplers"},
    {"schedule", SDW_PARAM_TEXT, AT(schedule), 0, 1, 32, false, "the model's", "noise levels of the sampler: normal or karras"},
    {"preview", SDW_PARAM_FLAG, AT(preview), 0, 0, 1, false, "false", "send previews of the latents besides"},
    {"cancel_on_disconnect", SDW_PARAM_FLAG, AT(cancel_on_disconnect), 0, 0, 1, false, "false", "end the job when its last reader leaves"},
};
/* clang-format on */
const int sdw_param_count = sizeof sdw_param_rows / sizeof sdw_param_rows[0];

/* Keys that orchestrators send and that mean nothing here. */
static const char *const accepted_keys[] = {"hive_id", "model", "worker_id", "operation"};

/* Keys that would change the picture and that this worker does not know: drawing without them would
 * be another picture than the one that was asked for. */
static const char *const refused_keys[] = {"init_image", "input_image", "image", "mask_image",
                                           "mask"};

static bool is_among(const char *key, const char *const *keys, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (strcmp(key, keys[i]) == 0)
            return true;
    return false;
}
#define IS_AMONG(key, keys) is_among(key, keys, sizeof keys / sizeof keys[0])

void sdw_params_free(struct sdw_params *params)
{
    free(params->prompt);
    free(params->negative_prompt);
    free(params->sampler);
    free(params->schedule);
    *params = (struct sdw_params){0};
}

/* Notes a fault; `value` is JSON text, cut to its room. */
__attribute__((format(printf, 5, 6))) static void note(struct sdw_faults *faults, const char *field,
                                                       const char *constraint, const char *value,
                                                       const char *format, ...)
{
    if (faults->count == SDW_PARAMS_FAULTS_MAX)
        return;
    struct sdw_fault *fault = &faults->fault[faults->count++];
    va_list args;
    va_start(args, format);
    vsnprintf(fault->message, sizeof fault->message, format, args);
    va_end(args);
    snprintf(fault->field, sizeof fault->field, "%s", field);
    snprintf(fault->constraint, sizeof fault->constraint, "%s", constraint);
    /* Half a JSON text would be no JSON: what does not fit is left out. */
    snprintf(fault->value, sizeof fault->value, "%s",
             strlen(value) < sizeof fault->value ? value : "");
}

static void *field_of(struct sdw_params *params, size_t offset)
{
    return (char *)params + offset;
}

static void note_range(struct sdw_faults *faults, const struct sdw_param_row *row,
                       const char *value)
{
    char constraint[48];
    snprintf(constraint, sizeof constraint, "range(%.0f..=%.0f)", row->min, row->max);
    note(faults, row->name, constraint, value, "%s must be between %.0f and %.0f, got %.60s",
         row->name, row->min, row->max, value);
}

static void set_text(struct sdw_params *params, const struct sdw_param_row *row, const char *text,
                     size_t length, struct sdw_faults *faults)
{
    char **field = field_of(params, row->offset);
    if ((double)length < row->min)
        note(faults, row->name, "not_empty", "\"\"", "%s must not be empty", row->name);
    else if ((double)length > row->max)
        note(faults, row->name, "max_length", "", "%s must have at most %.0f bytes, got %zu",
             row->name, row->max, length);
    else if (memchr(text, 0, length))
        note(faults, row->name, "no_nul", "", "%s must not contain a NUL character", row->name);
    else {
        free(*field);
        *field = strndup(text, length);
    }
}

/* `value` is the number's text, for the message. */
static void set_number(struct sdw_params *params, const struct sdw_param_row *row, double number,
                       const char *value, struct sdw_faults *faults)
{
    if (!(number >= row->min && number <= row->max)) {
        note_range(faults, row, value);
        return;
    }
    if (row->kind == SDW_PARAM_INTEGER && number != floor(number)) {
        note(faults, row->name, "integer", value, "%s must be a whole number, got %.60s", row->name,
             value);
        return;
    }
    if (row->kind == SDW_PARAM_INTEGER)
        *(int *)field_of(params, row->offset) = (int)number;
    else
        *(double *)field_of(params, row->offset) = number;
    if (row->given)
        *(bool *)field_of(params, row->given) = true;
}

/* Decimal digits up to 2^64-1, or -1. */
static bool parse_seed(const char *text, uint64_t *seed, bool *drawn)
{
    *drawn = strcmp(text, "-1") == 0;
    if (*drawn)
        return true;
    if (!*text || text[strspn(text, "0123456789")])
        return false;
    errno = 0;
    *seed = strtoull(text, NULL, 10);
    return errno == 0;
}

/* `text` holds the number, `value` is it as JSON. */
static void set_seed(struct sdw_params *params, const char *text, const char *value,
                     struct sdw_faults *faults)
{
    bool drawn;
    if (!parse_seed(text, &params->seed, &drawn))
        note(
            faults, "seed", "range(0..=18446744073709551615)", value,
            "seed must be a whole number from 0 to 18446744073709551615, or -1 to draw one, got %.60s",
            value);
    else
        params->seed_given = !drawn;
}

static void note_type(struct sdw_faults *faults, const struct sdw_param_row *row, const char *type,
                      const char *value)
{
    char constraint[48];
    snprintf(constraint, sizeof constraint, "type(%s)", type);
    note(faults, row->name, constraint, value, "%s must be a %s, got %.60s", row->name, type,
         value);
}

/* A whole number of so many digits that jansson would refuse the body; see quote_big_integers. */
static bool is_quoted_integer(const json_t *value)
{
    const char *text = json_is_string(value) ? json_string_value(value) : "";
    size_t sign = *text == '-', digits = strspn(text + sign, "0123456789");
    return digits >= BIG_INTEGER_DIGITS && !text[sign + digits] && text[sign] != '0';
}

static void set_number_from_json(struct sdw_params *params, const struct sdw_param_row *row,
                                 const json_t *value, const char *shown, struct sdw_faults *faults)
{
    bool big = is_quoted_integer(value);
    if (!big && !json_is_number(value))
        note_type(faults, row, row->kind == SDW_PARAM_REAL ? "number" : "whole number", shown);
    else if (big)
        set_number(params, row, strtod(json_string_value(value), NULL), json_string_value(value),
                   faults);
    else
        set_number(params, row, json_number_value(value), shown, faults);
}

static void set_from_json(struct sdw_params *params, const struct sdw_param_row *row,
                          const json_t *value, struct sdw_faults *faults)
{
    char *text = json_dumps(value, JSON_ENCODE_ANY | JSON_COMPACT | JSON_ENSURE_ASCII |
                                       JSON_REAL_PRECISION(15));
    const char *shown = text ? text : "";
    char whole[32];
    switch (row->kind) {
    case SDW_PARAM_TEXT:
        if (json_is_string(value))
            set_text(params, row, json_string_value(value), json_string_length(value), faults);
        else
            note_type(faults, row, "string", shown);
        break;
    case SDW_PARAM_SEED:
        if (is_quoted_integer(value))
            set_seed(params, json_string_value(value), json_string_value(value), faults);
        else if (json_is_real(value) && fabs(json_real_value(value)) < 0x1p53 &&
                 json_real_value(value) == floor(json_real_value(value))) {
            snprintf(whole, sizeof whole, "%.0f", json_real_value(value));
            set_seed(params, whole, shown, faults);
        } else if (json_is_number(value))
            set_seed(params, shown, shown, faults);
        else
            note_type(faults, row, "whole number", shown);
        break;
    case SDW_PARAM_FLAG:
        if (json_is_boolean(value))
            *(bool *)field_of(params, row->offset) = json_is_true(value);
        else
            note_type(faults, row, "boolean", shown);
        break;
    default: set_number_from_json(params, row, value, shown, faults);
    }
    free(text);
}

/* jansson's integers have 63 bits and a sign, a seed has 64 bits, and a body with a larger number
 * is no JSON to it: whole numbers of many digits are put in quotes, wherever they stand outside of
 * strings. Returns a copy of the body, or NULL when there is no memory. */
static char *quote_big_integers(const char *json, size_t length, size_t *quoted_length)
{
    char *copy = malloc(length + length / BIG_INTEGER_DIGITS * 2 + 1), *to = copy;
    bool inside = false; /* a string */
    if (!copy)
        return NULL;
    for (size_t i = 0; i < length;) {
        size_t end = i + (json[i] == '-');
        while (end < length && json[end] >= '0' && json[end] <= '9')
            end++;
        size_t digits = end - i - (json[i] == '-');
        bool whole = end == length || !strchr(".eE", json[end]) || !json[end];
        if (inside || digits == 0) {
            if (inside && json[i] == '\\' && i + 1 < length)
                *to++ = json[i++];
            else if (json[i] == '"')
                inside = !inside;
            *to++ = json[i++];
            continue;
        }
        /* A zero in front is no JSON: left for jansson to refuse. */
        bool quote = digits >= BIG_INTEGER_DIGITS && whole && json[end - digits] != '0';
        if (quote)
            *to++ = '"';
        to = (char *)memcpy(to, json + i, end - i) + (end - i);
        if (quote)
            *to++ = '"';
        i = end;
        if (!whole) /* the rest of a real number: its digits are no integer */
            while (i < length && json[i] && strchr("0123456789.eE+-", json[i]))
                *to++ = json[i++];
    }
    *quoted_length = (size_t)(to - copy);
    return copy;
}

static const struct sdw_param_row *find_row(const char *name)
{
    for (int i = 0; i < sdw_param_count; i++) {
        const char *a = sdw_param_rows[i].name, *b = name;
        while (*a && (*a == *b || (*a == '_' && *b == '-')))
            a++, b++;
        if (*a == *b)
            return &sdw_param_rows[i];
    }
    return NULL;
}

static void read_members(struct sdw_params *params, const json_t *body, struct sdw_faults *faults)
{
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)body, key, value)
    {
        const struct sdw_param_row *row = find_row(key);
        if (json_is_null(value))
            continue;
        if (row && !strchr(key, '-')) {
            set_from_json(params, row, value, faults);
            continue;
        }
        if (IS_AMONG(key, refused_keys))
            note(faults, key, "unsupported", "", "%s is not supported by this worker", key);
        else if (!IS_AMONG(key, accepted_keys) && faults->unknown < SDW_PARAMS_UNKNOWN_MAX)
            snprintf(faults->unknown_key[faults->unknown++], sizeof faults->unknown_key[0], "%s",
                     key);
    }
    const json_t *operation = json_object_get(body, "operation");
    if (!operation || json_is_null(operation) ||
        (json_is_string(operation) &&
         strcmp(json_string_value(operation), "image_generation") == 0))
        return;
    char *shown = json_dumps(operation, JSON_ENCODE_ANY | JSON_COMPACT | JSON_ENSURE_ASCII);
    note(faults, "operation", "one_of(image_generation)", shown ? shown : "",
         "operation must be \"image_generation\", got %.60s", shown ? shown : "");
    free(shown);
}

static enum sdw_status first_fault(const struct sdw_faults *faults, struct sdw_error *err)
{
    if (faults->count == 0)
        return SDW_OK;
    return sdw_fail(err, SDW_INVALID, "%s", faults->fault[0].message);
}

static bool has_fault(const struct sdw_faults *faults, const char *field)
{
    for (int i = 0; i < faults->count; i++)
        if (strcmp(faults->fault[i].field, field) == 0)
            return true;
    return false;
}

static void check_multiple(int value, const char *field, int multiple, struct sdw_faults *faults)
{
    char shown[16], constraint[32];
    if (value % multiple == 0)
        return;
    snprintf(shown, sizeof shown, "%d", value);
    snprintf(constraint, sizeof constraint, "multiple_of(%d)", multiple);
    note(faults, field, constraint, shown, "%s must be a multiple of %d, got %d", field, multiple,
         value);
}

static void check_name(const char *name, const char *field, bool (*known)(const char *name),
                       struct sdw_faults *faults)
{
    if (!name || !known || known(name))
        return;
    json_t *text = json_string(name);
    char *shown = json_dumps(text, JSON_ENCODE_ANY | JSON_ENSURE_ASCII);
    note(faults, field, "one_of(GET /v1/samplers)", shown ? shown : "",
         "%s %.60s is unknown; GET /v1/samplers lists them", field, shown ? shown : "");
    free(shown);
    json_decref(text);
}

enum sdw_status sdw_params_check(const struct sdw_params *params,
                                 const struct sdw_params_defaults *defaults,
                                 struct sdw_faults *faults, struct sdw_error *err)
{
    if (!params->prompt && !has_fault(faults, "prompt"))
        note(faults, "prompt", "required", "", "prompt is required");
    check_multiple(params->width, "width", defaults->multiple, faults);
    check_multiple(params->height, "height", defaults->multiple, faults);
    check_name(params->sampler, "sampler", defaults->sampler_known, faults);
    check_name(params->schedule, "schedule", defaults->schedule_known, faults);
    return first_fault(faults, err);
}

enum sdw_status sdw_params_parse(struct sdw_params *params, const char *json, size_t length,
                                 const struct sdw_params_defaults *defaults,
                                 struct sdw_faults *faults, struct sdw_error *err)
{
    *params = (struct sdw_params){0};
    faults->count = faults->unknown = 0;
    size_t quoted_length;
    char *quoted = quote_big_integers(json, length, &quoted_length);
    if (!quoted)
        return sdw_fail(err, SDW_MEMORY, "no memory for a body of %zu bytes", length);
    json_error_t fault;
    json_t *body = json_loadb(quoted, quoted_length, JSON_REJECT_DUPLICATES, &fault);
    free(quoted);
    if (!json_is_object(body)) {
        note(faults, "body", "json_object", "", "the body is not a JSON object: %s",
             body ? "it is another JSON type" : fault.text);
        json_decref(body);
        return first_fault(faults, err);
    }
    read_members(params, body, faults);
    json_decref(body);
    enum sdw_status status = sdw_params_check(params, defaults, faults, err);
    if (status)
        sdw_params_free(params);
    return status;
}

bool sdw_params_set(struct sdw_params *params, const char *name, const char *value,
                    struct sdw_faults *faults)
{
    const struct sdw_param_row *row = find_row(name);
    if (!row)
        return false;
    char *end;
    switch (row->kind) {
    case SDW_PARAM_TEXT: set_text(params, row, value, strlen(value), faults); break;
    case SDW_PARAM_SEED: set_seed(params, value, value, faults); break;
    case SDW_PARAM_FLAG: *(bool *)field_of(params, row->offset) = strcmp(value, "true") == 0; break;
    default: {
        double number = strtod(value, &end);
        if (end == value || *end)
            note_type(faults, row, "number", value);
        else
            set_number(params, row, number, value, faults);
    }
    }
    return true;
}

void sdw_params_complete(struct sdw_params *params, const struct sdw_params_defaults *defaults)
{
    if (params->steps == 0)
        params->steps = defaults->steps;
    if (params->width == 0)
        params->width = defaults->width;
    if (params->height == 0)
        params->height = defaults->height;
    if (!params->guidance_given)
        params->guidance_scale = defaults->guidance_scale;
    if (!params->sampler && defaults->sampler)
        params->sampler = strdup(defaults->sampler);
    if (!params->seed_given) /* 32 bits: any program can read them, and the noise uses no more */
        params->seed = randombytes_random();
    params->guidance_given = params->seed_given = true;
}
