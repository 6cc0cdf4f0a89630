/* json.c: see json.h. Reading is jansson's; it cannot write numbers over 2^63, which seeds are. */
#include "base/json.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

void sdw_json_init(struct sdw_json *json, struct sdw_text *text)
{
    *json = (struct sdw_json){.text = text, .status = SDW_OK};
}

static void put(struct sdw_json *json, const char *bytes, size_t length)
{
    if (!json->status)
        json->status = sdw_text_append(json->text, bytes, length, NULL);
}

/* Bytes of the UTF-8 character at `s`, or 0 when it is none (RFC 3629: no overlong forms, no
 * surrogates, nothing over U+10FFFF). Ends at a NUL by itself, which continues no character. */
static size_t utf8_length(const unsigned char *s)
{
    size_t length = s[0] < 0x80 ? 1 : s[0] < 0xc2 ? 0 : s[0] < 0xe0 ? 2 : s[0] < 0xf0 ? 3 : 4;
    if (length == 0 || s[0] > 0xf4)
        return 0;
    for (size_t i = 1; i < length; i++)
        if ((s[i] & 0xc0) != 0x80)
            return 0;
    if ((s[0] == 0xe0 && s[1] < 0xa0) || (s[0] == 0xed && s[1] > 0x9f) ||
        (s[0] == 0xf0 && s[1] < 0x90) || (s[0] == 0xf4 && s[1] > 0x8f))
        return 0;
    return length;
}

static void put_quoted(struct sdw_json *json, const char *value)
{
    static const char escapes[] = "\"\"\\\\\bb\ff\nn\rr\tt"; /* pairs: the byte, its letter */
    const unsigned char *s = (const unsigned char *)value;
    put(json, "\"", 1);
    while (*s) {
        const unsigned char *plain = s;
        size_t length = 0;
        while (*s >= 0x20 && *s != '"' && *s != '\\' && (length = utf8_length(s)) > 0)
            s += length;
        put(json, (const char *)plain, (size_t)(s - plain));
        if (!*s)
            break;
        if (*s >= 0x80) {
            put(json, "\\ufffd", 6);
        } else if (*s == '"' || *s == '\\' || *s < 0x20) {
            char escape[8];
            const char *pair = escapes;
            while (*pair && (unsigned char)*pair != *s)
                pair += 2;
            snprintf(escape, sizeof escape, *pair ? "\\%c" : "\\u%04x", *pair ? pair[1] : *s);
            put(json, escape, strlen(escape));
        }
        s++;
    }
    put(json, "\"", 1);
}

static void begin(struct sdw_json *json, const char *key)
{
    if (json->comma)
        put(json, ",", 1);
    json->comma = true;
    if (key) {
        put_quoted(json, key);
        put(json, ":", 1);
    }
}

void sdw_json_open(struct sdw_json *json, const char *key, char bracket)
{
    begin(json, key);
    put(json, &bracket, 1);
    json->comma = false;
}

void sdw_json_close(struct sdw_json *json, char bracket)
{
    put(json, &bracket, 1);
    json->comma = true;
}

void sdw_json_raw(struct sdw_json *json, const char *key, const char *value)
{
    begin(json, key);
    put(json, value, strlen(value));
}

void sdw_json_null(struct sdw_json *json, const char *key)
{
    sdw_json_raw(json, key, "null");
}

void sdw_json_string(struct sdw_json *json, const char *key, const char *value)
{
    if (!value) {
        sdw_json_null(json, key);
        return;
    }
    begin(json, key);
    put_quoted(json, value);
}

void sdw_json_integer(struct sdw_json *json, const char *key, int64_t value)
{
    char number[32];
    snprintf(number, sizeof number, "%lld", (long long)value);
    sdw_json_raw(json, key, number);
}

void sdw_json_unsigned(struct sdw_json *json, const char *key, uint64_t value)
{
    char number[32];
    snprintf(number, sizeof number, "%llu", (unsigned long long)value);
    sdw_json_raw(json, key, number);
}

void sdw_json_real(struct sdw_json *json, const char *key, double value, int digits)
{
    char number[352]; /* the longest finite double has 309 digits before the point */
    snprintf(number, sizeof number, "%.*f", digits, value);
    sdw_json_raw(json, key, isfinite(value) ? number : "null");
}

void sdw_json_flag(struct sdw_json *json, const char *key, bool value)
{
    sdw_json_raw(json, key, value ? "true" : "false");
}
