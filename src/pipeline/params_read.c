/* params_read.c: a request from JSON or from the command line, driven by the table. */
#include "pipeline/params_internal.h"

#include "image/decode.h"

#include <errno.h>
#include <jansson.h>
#include <math.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BIG_INTEGER_DIGITS 19 /* the first number that jansson refuses has that many */

/* Keys that orchestrators send and that mean nothing here. */
static const char *const accepted_keys[] = {"hive_id", "model", "worker_id"};

static bool is_accepted(const char *key)
{
    for (size_t i = 0; i < sizeof accepted_keys / sizeof accepted_keys[0]; i++)
        if (strcmp(key, accepted_keys[i]) == 0)
            return true;
    return false;
}

static void note_range(struct sdw_faults *faults, const struct sdw_param_row *row,
                       const char *value)
{
    char constraint[48];
    snprintf(constraint, sizeof constraint, "range(%.0f..=%.0f)", row->min, row->max);
    sdw_params_note(faults, row->name, constraint, value,
                    "%s must be between %.0f and %.0f, got %.60s", row->name, row->min, row->max,
                    value);
}

static bool is_choice(const struct sdw_param_row *row, const char *text, size_t length)
{
    for (int i = 0; i < SDW_PARAM_NAMES_MAX && row->choices[i]; i++)
        if (strlen(row->choices[i]) == length && memcmp(row->choices[i], text, length) == 0)
            return true;
    return false;
}

/* "one_of(a, b)" and "x must be one of a, b; got ...". */
static void note_choice(struct sdw_faults *faults, const struct sdw_param_row *row,
                        const char *text)
{
    char names[96] = "", constraint[110];
    for (int i = 0; i < SDW_PARAM_NAMES_MAX && row->choices[i]; i++) {
        size_t length = strlen(names);
        snprintf(names + length, sizeof names - length, "%s%s", i ? ", " : "", row->choices[i]);
    }
    snprintf(constraint, sizeof constraint, "one_of(%s)", names);
    json_t *value = json_string(text);
    char *shown = json_dumps(value, JSON_ENCODE_ANY | JSON_ENSURE_ASCII);
    sdw_params_note(faults, row->name, constraint, shown ? shown : "",
                    "%s must be one of %s; got %.40s", row->name, names, shown ? shown : "");
    free(shown);
    json_decref(value);
}

static void set_text(struct sdw_params *params, const struct sdw_param_row *row, const char *text,
                     size_t length, struct sdw_faults *faults)
{
    char **field = sdw_param_field(params, row->offset);
    if ((double)length < row->min)
        sdw_params_note(faults, row->name, "not_empty", "\"\"", "%s must not be empty", row->name);
    else if ((double)length > row->max)
        sdw_params_note(faults, row->name, "max_length", "",
                        "%s must have at most %.0f bytes, got %zu", row->name, row->max, length);
    else if (memchr(text, 0, length))
        sdw_params_note(faults, row->name, "no_nul", "", "%s must not contain a NUL character",
                        row->name);
    else if (row->choices[0] && !is_choice(row, text, length))
        note_choice(faults, row, text);
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
        sdw_params_note(faults, row->name, "integer", value, "%s must be a whole number, got %.60s",
                        row->name, value);
        return;
    }
    if (row->kind == SDW_PARAM_INTEGER)
        *(int *)sdw_param_field(params, row->offset) = (int)number;
    else
        *(double *)sdw_param_field(params, row->offset) = number;
    if (row->given)
        *(bool *)sdw_param_field(params, row->given) = true;
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
        sdw_params_note(
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
    sdw_params_note(faults, row->name, constraint, value, "%s must be a %s, got %.60s", row->name,
                    type, value);
}

/* Takes the file over. */
static void set_image(struct sdw_params *params, const struct sdw_param_row *row, uint8_t *bytes,
                      size_t length, struct sdw_faults *faults)
{
    struct sdw_params_image *field = sdw_param_field(params, row->offset);
    struct sdw_image image;
    struct sdw_error err;
    int channels = row->offset == offsetof(struct sdw_params, mask_image) ? 1 : 3;
    if (sdw_image_decode(&image, bytes, length, channels, &err)) {
        sdw_params_note(faults, row->name, "image(png, jpeg, webp)", "", "%s: %s", row->name,
                        err.message);
        free(bytes);
        return;
    }
    free(field->bytes);
    *field = (struct sdw_params_image){bytes, length, image.width, image.height};
    sdw_image_free(&image);
}

static bool is_image_length(const struct sdw_param_row *row, size_t length,
                            struct sdw_faults *faults)
{
    if (length <= SDW_PARAMS_IMAGE_BYTES_MAX)
        return true;
    char constraint[48];
    snprintf(constraint, sizeof constraint, "max_length(%u)", SDW_PARAMS_IMAGE_BYTES_MAX);
    sdw_params_note(faults, row->name, constraint, "", "%s must have at most %u bytes, got %zu",
                    row->name, SDW_PARAMS_IMAGE_BYTES_MAX, length);
    return false;
}

/* Base64 of either alphabet's usual form, with or without padding, white space and a
 * "data:...;base64," prefix. */
static void set_image_from_base64(struct sdw_params *params, const struct sdw_param_row *row,
                                  const char *text, size_t length, struct sdw_faults *faults)
{
    static const int variants[] = {
        sodium_base64_VARIANT_ORIGINAL, sodium_base64_VARIANT_ORIGINAL_NO_PADDING,
        sodium_base64_VARIANT_URLSAFE, sodium_base64_VARIANT_URLSAFE_NO_PADDING};
    const char *comma = strncmp(text, "data:", 5) == 0 ? strchr(text, ',') : NULL;
    if (comma) {
        length -= (size_t)(comma + 1 - text);
        text = comma + 1;
    }
    if (!is_image_length(row, length / 4 * 3, faults))
        return;
    size_t size = length / 4 * 3 + 3, written = 0;
    uint8_t *bytes = malloc(size);
    bool ok = false;
    for (size_t i = 0; bytes && !ok && i < sizeof variants / sizeof variants[0]; i++)
        ok = sodium_base642bin(bytes, size, text, length, " \t\r\n", &written, NULL, variants[i]) ==
             0;
    if (ok) {
        set_image(params, row, bytes, written, faults);
        return;
    }
    free(bytes);
    sdw_params_note(faults, row->name, "base64", "", "%s must be the base64 text of an image file",
                    row->name);
}

static void set_image_from_file(struct sdw_params *params, const struct sdw_param_row *row,
                                const char *path, struct sdw_faults *faults)
{
    struct sdw_text file;
    struct sdw_error err;
    sdw_text_init(&file, SDW_PARAMS_IMAGE_BYTES_MAX);
    if (sdw_text_read_file(&file, path, &err) == SDW_OK) {
        set_image(params, row, (uint8_t *)file.data, file.length, faults);
        return;
    }
    sdw_params_note(faults, row->name, "file", "", "%s", err.message);
    sdw_text_free(&file);
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

static void set_flag(struct sdw_params *params, const struct sdw_param_row *row, bool value)
{
    *(bool *)sdw_param_field(params, row->offset) = value;
    if (row->given)
        *(bool *)sdw_param_field(params, row->given) = true;
}

static void set_from_json(struct sdw_params *params, const struct sdw_param_row *row,
                          const json_t *value, struct sdw_faults *faults)
{
    bool image = row->kind == SDW_PARAM_IMAGE && json_is_string(value); /* too long to be shown */
    char *text = image ? NULL
                       : json_dumps(value, JSON_ENCODE_ANY | JSON_COMPACT | JSON_ENSURE_ASCII |
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
            set_flag(params, row, json_is_true(value));
        else
            note_type(faults, row, "boolean", shown);
        break;
    case SDW_PARAM_IMAGE:
        if (json_is_string(value))
            set_image_from_base64(params, row, json_string_value(value), json_string_length(value),
                                  faults);
        else
            note_type(faults, row, "string", shown);
        break;
    default: set_number_from_json(params, row, value, shown, faults);
    }
    free(text);
}

/* jansson's integers have 63 bits and a sign, a seed has 64 bits, and a body with a larger number
 * is no JSON to it: whole numbers of many digits are put in quotes, wherever they stand outside of
 * strings. Returns a copy of the body, or NULL when there is no memory; *marks counts what begins
 * or separates its values. */
static char *quote_big_integers(const char *json, size_t length, size_t *quoted_length,
                                size_t *marks)
{
    char *copy = malloc(length + length / BIG_INTEGER_DIGITS * 2 + 1), *to = copy;
    bool inside = false; /* a string */
    *marks = 0;
    if (!copy)
        return NULL;
    for (size_t i = 0; i < length;) {
        if (inside) { /* digits here are not looked at, let alone counted from each to the last */
            if (json[i] == '\\' && i + 1 < length)
                *to++ = json[i++];
            else
                inside = json[i] != '"';
            *to++ = json[i++];
            continue;
        }
        size_t end = i + (json[i] == '-');
        while (end < length && json[end] >= '0' && json[end] <= '9')
            end++;
        size_t digits = end - i - (json[i] == '-');
        bool whole = end == length || !strchr(".eE", json[end]) || !json[end];
        if (digits == 0) {
            inside = json[i] == '"';
            *marks += json[i] == ',' || json[i] == '[' || json[i] == '{';
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

static bool is_name(const char *name, const char *given)
{
    while (*name && (*name == *given || (*name == '_' && *given == '-')))
        name++, given++;
    return *name == *given;
}

const struct sdw_param_row *sdw_params_row(const char *name)
{
    for (int i = 0; i < sdw_param_count; i++) {
        const struct sdw_param_row *row = &sdw_param_rows[i];
        if (is_name(row->name, name))
            return row;
        for (int k = 0; k < SDW_PARAM_NAMES_MAX && row->aliases[k]; k++)
            if (is_name(row->aliases[k], name))
                return row;
    }
    return NULL;
}

static void read_members(struct sdw_params *params, const json_t *body, struct sdw_faults *faults)
{
    const char *key;
    json_t *value;
    uint64_t seen = 0; /* a bit for each row */
    json_object_foreach((json_t *)body, key, value)
    {
        const struct sdw_param_row *row = strchr(key, '-') ? NULL : sdw_params_row(key);
        if (json_is_null(value))
            continue;
        if (row) {
            uint64_t bit = (uint64_t)1 << (row - sdw_param_rows);
            if (seen & bit)
                sdw_params_note(faults, row->name, "once", "",
                                "%s is given twice: %s is another name of it", row->name, key);
            else
                set_from_json(params, row, value, faults);
            seen |= bit;
        } else if (!is_accepted(key) && faults->unknown < SDW_PARAMS_UNKNOWN_MAX) {
            snprintf(faults->unknown_key[faults->unknown++], sizeof faults->unknown_key[0], "%s",
                     key);
        }
    }
}

enum sdw_status sdw_params_parse(struct sdw_params *params, const char *json, size_t length,
                                 const struct sdw_params_defaults *defaults,
                                 struct sdw_faults *faults, struct sdw_error *err)
{
    *params = (struct sdw_params){0};
    faults->count = faults->unknown = 0;
    size_t quoted_length, marks;
    char *quoted = quote_big_integers(json, length, &quoted_length, &marks);
    if (!quoted)
        return sdw_fail(err, SDW_MEMORY, "no memory for a body of %zu bytes", length);
    json_error_t fault = {.text = "it holds too many values"};
    json_t *body = marks > SDW_PARAMS_VALUES_MAX
                       ? NULL /* each would cost a hundred bytes */
                       : json_loadb(quoted, quoted_length, JSON_REJECT_DUPLICATES, &fault);
    free(quoted);
    if (!json_is_object(body)) {
        sdw_params_note(faults, "body", "json_object", "", "the body is not a JSON object: %s",
                        body ? "it is another JSON type" : fault.text);
        json_decref(body);
        return sdw_params_first_fault(faults, err);
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
    const struct sdw_param_row *row = sdw_params_row(name);
    if (!row)
        return false;
    char *end;
    switch (row->kind) {
    case SDW_PARAM_TEXT: set_text(params, row, value, strlen(value), faults); break;
    case SDW_PARAM_SEED: set_seed(params, value, value, faults); break;
    case SDW_PARAM_FLAG: set_flag(params, row, strcmp(value, "true") == 0); break;
    case SDW_PARAM_IMAGE: set_image_from_file(params, row, value, faults); break;
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
