/* golden_tokenizer.c: prompts and ids. The vocabulary of CLIP is not in the repository: without it
 * the section skips. */
#include "golden.h"

#include "base/text.h"
#include "text/tokenizer.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define LENGTH 77

static bool equals(const struct sdw_tokens *tokens, const struct sdw_tokenizer *tokenizer,
                   const json_t *ids)
{
    size_t n = json_array_size(ids);
    if (n != (size_t)tokens->count + 2)
        return false;
    for (size_t i = 0; i < n; i++) {
        json_int_t want = json_integer_value(json_array_get(ids, i));
        json_int_t got = i == 0       ? sdw_tokenizer_start(tokenizer)
                         : i == n - 1 ? sdw_tokenizer_end(tokenizer)
                                      : tokens->id[i - 1];
        if (got != want)
            return false;
    }
    return true;
}

/* The reference's ids, or any variant that golden/README accepts. */
static bool accepted(const struct sdw_tokens *tokens, const struct sdw_tokenizer *tokenizer,
                     json_t *test, bool *variant)
{
    *variant = false;
    if (equals(tokens, tokenizer, json_object_get(test, "ids")))
        return true;
    const char *name;
    json_t *ids;
    *variant = true;
    json_object_foreach(json_object_get(test, "also"), name,
                        ids) if (equals(tokens, tokenizer, ids)) return true;
    return false;
}

static bool framed_as(const struct sdw_tokens *tokens, const struct sdw_tokenizer *tokenizer,
                      const json_t *test)
{
    int32_t ids[LENGTH], zero_padded[LENGTH];
    const json_t *want = json_object_get(test, "ids77");
    const json_t *pad0 = json_object_get(test, "pad0_from");
    sdw_tokens_frame(ids, LENGTH, tokens, tokenizer, sdw_tokenizer_end(tokenizer));
    sdw_tokens_frame(zero_padded, LENGTH, tokens, tokenizer, 0);
    for (int i = 0; i < LENGTH; i++) {
        json_int_t id = json_integer_value(json_array_get(want, (size_t)i));
        if (ids[i] != id || (pad0 && zero_padded[i] != (i >= json_integer_value(pad0) ? 0 : id)))
            return false;
    }
    return true;
}

static void check(struct golden *g, const struct sdw_tokenizer *tokenizer, json_t *test,
                  size_t number)
{
    const json_t *text = json_object_get(test, "prompt");
    const char *prompt = json_string_value(text);
    char name[64];
    snprintf(name, sizeof name, "tokenizer/%zu", number);
    if (!golden_wanted(g, name))
        return;
    struct sdw_tokens tokens;
    struct sdw_error err;
    bool variant;
    if (!prompt || sdw_tokenizer_encode(tokenizer, prompt, json_string_length(text), &tokens, &err))
        golden_fail(g, name, "%s", prompt ? err.message : "no prompt in the case");
    else if (!accepted(&tokens, tokenizer, test, &variant))
        golden_fail(g, name, "other ids for \"%.60s\"", prompt);
    else if (!variant && !framed_as(&tokens, tokenizer, test))
        golden_fail(g, name, "other ids when cut and padded to %d for \"%.60s\"", LENGTH, prompt);
    else
        golden_report(g, name, 0, 0);
    if (prompt)
        free(tokens.id);
}

void golden_tokenizer(struct golden *g)
{
    char path[4096];
    struct sdw_tokenizer *tokenizer;
    struct sdw_error err;
    snprintf(path, sizeof path, "%s/clip-tokenizer", g->dir);
    if (access(path, F_OK) != 0)
        snprintf(path, sizeof path, "%s/../clip-tokenizer", g->dir);
    if (access(path, F_OK) != 0) {
        golden_skip(g, "tokenizer", "no clip-tokenizer/ in or beside %s", g->dir);
        return;
    }
    if (sdw_tokenizer_open(&tokenizer, path, &err)) {
        golden_fail(g, "tokenizer", "%s", err.message);
        return;
    }
    snprintf(path, sizeof path, "%s/tokenizer/cases.json", g->dir);
    json_t *cases = json_load_file(path, JSON_ALLOW_NUL, NULL), *test;
    size_t i;
    if (!json_is_array(cases))
        golden_skip(g, "tokenizer", "no %s", path);
    json_array_foreach(cases, i, test) check(g, tokenizer, test, i);
    json_decref(cases);
    sdw_tokenizer_close(tokenizer);
}
