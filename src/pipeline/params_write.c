/* params_write.c: a request as JSON. What params_read.c reads back is the same request, to the last
 * bit of its numbers. */
#include "pipeline/params_internal.h"

#include "base/json.h"

#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>

static enum sdw_status write_image(struct sdw_json *json, const char *name,
                                   const struct sdw_params_image *image, struct sdw_error *err)
{
    size_t size = sodium_base64_encoded_len(image->length, sodium_base64_VARIANT_ORIGINAL);
    char *text = malloc(size);
    if (!text)
        return sdw_fail(err, SDW_MEMORY, "no memory to write an image of %zu bytes", image->length);
    sodium_bin2base64(text, size, image->bytes, image->length, sodium_base64_VARIANT_ORIGINAL);
    sdw_json_string(json, name, text);
    free(text);
    return SDW_OK;
}

static void write_digest(struct sdw_json *json, const char *name,
                         const struct sdw_params_image *image)
{
    unsigned char hash[crypto_hash_sha256_BYTES];
    char hex[2 * sizeof hash + 1], key[64];
    crypto_hash_sha256(hash, image->bytes, image->length);
    sodium_bin2hex(hex, sizeof hex, hash, sizeof hash);
    snprintf(key, sizeof key, "%s_sha256", name);
    sdw_json_string(json, key, hex);
}

static void write_real(struct sdw_json *json, const char *name, double value)
{
    char text[32];
    for (int digits = 6; digits <= 17; digits += 11) { /* the short form where it is exact */
        snprintf(text, sizeof text, "%.*g", digits, value);
        if (strtod(text, NULL) == value)
            break;
    }
    sdw_json_raw(json, name, text);
}

static enum sdw_status write_row(struct sdw_json *json, const struct sdw_param_row *row,
                                 const void *field, bool digests, struct sdw_error *err)
{
    const struct sdw_params_image *image = field;
    switch (row->kind) {
    case SDW_PARAM_TEXT:
        if (*(char *const *)field)
            sdw_json_string(json, row->name, *(char *const *)field);
        break;
    case SDW_PARAM_INTEGER:
        if (*(const int *)field)
            sdw_json_integer(json, row->name, *(const int *)field);
        break;
    case SDW_PARAM_REAL:
        if (row->given || *(const double *)field != 0)
            write_real(json, row->name, *(const double *)field);
        break;
    case SDW_PARAM_SEED: sdw_json_unsigned(json, row->name, *(const uint64_t *)field); break;
    case SDW_PARAM_FLAG:
        if (row->given || *(const bool *)field)
            sdw_json_flag(json, row->name, *(const bool *)field);
        break;
    case SDW_PARAM_IMAGE:
        if (image->bytes && digests)
            write_digest(json, row->name, image);
        else if (image->bytes)
            return write_image(json, row->name, image, err);
        break;
    }
    return SDW_OK;
}

enum sdw_status sdw_params_write(struct sdw_text *out, const struct sdw_params *params,
                                 bool digests, struct sdw_error *err)
{
    struct sdw_json json;
    enum sdw_status status = SDW_OK;
    sdw_json_init(&json, out);
    sdw_json_open(&json, NULL, '{');
    for (int i = 0; i < sdw_param_count && !status; i++) {
        const struct sdw_param_row *row = &sdw_param_rows[i];
        const char *base = (const char *)params;
        if (!row->given || *(const bool *)(base + row->given))
            status = write_row(&json, row, base + row->offset, digests, err);
    }
    sdw_json_close(&json, '}');
    if (status || !json.status)
        return status;
    return sdw_fail(err, json.status, "the request does not fit in %zu bytes", out->bytes_max);
}
