/* prompt.c: see prompt.h. The weight of a bracket is known only where it closes, so spans are cut
 * at every bracket and multiplied from the opening one on; each span is touched once a level. */
#include "text/prompt.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#define BRACKET_WEIGHT 1.1f
#define BREAK_WORD     "BREAK"

/* Brackets of one kind that are open: the span each begins with. */
struct brackets {
    int span[SDW_PROMPT_DEPTH_MAX];
    int depth;
};

struct parsing {
    struct sdw_prompt *prompt;
    const char *from, *end; /* what is still to be read */
    const char *start;      /* of the whole prompt */
    size_t length;          /* of prompt->text */
    struct brackets round, square;
};

/* ---- spans ---- */

static struct sdw_prompt_span *last_span(struct parsing *p)
{
    return &p->prompt->span[p->prompt->spans - 1];
}

/* The last span is empty from now on; an empty one is used again. */
static void cut_span(struct parsing *p, bool new_chunk)
{
    struct sdw_prompt *prompt = p->prompt;
    if (prompt->spans == 0 || last_span(p)->end > last_span(p)->start)
        prompt->span[prompt->spans++] = (struct sdw_prompt_span){p->length, p->length, 1, false};
    last_span(p)->weight = 1; /* of "()", which weighted nothing */
    last_span(p)->new_chunk |= new_chunk;
}

static void put(struct parsing *p, char c)
{
    p->prompt->text[p->length++] = c;
    last_span(p)->end = p->length;
}

static enum sdw_status open_bracket(struct parsing *p, struct brackets *brackets,
                                    struct sdw_error *err)
{
    if (brackets->depth == SDW_PROMPT_DEPTH_MAX)
        return sdw_fail(err, SDW_TOO_LARGE, "the prompt has more than %d brackets open at once",
                        SDW_PROMPT_DEPTH_MAX);
    cut_span(p, false);
    brackets->span[brackets->depth++] = p->prompt->spans - 1;
    return SDW_OK;
}

static void close_bracket(struct parsing *p, struct brackets *brackets, float weight)
{
    const float max = (float)SDW_PROMPT_WEIGHT_MAX;
    for (int i = brackets->span[--brackets->depth]; i < p->prompt->spans; i++) {
        float product = p->prompt->span[i].weight * weight;
        p->prompt->span[i].weight = product > max ? max : product < -max ? -max : product;
    }
    cut_span(p, false);
}

/* ---- the words of the syntax ---- */

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static const char *skip_blanks(const char *at, const char *end)
{
    while (at < end && (*at == ' ' || *at == '\t' || *at == '\n' || *at == '\r'))
        at++;
    return at;
}

/* ":1.3)" at `at`: fills *weight and returns what follows; NULL when it is something else. Digits
 * are read here because strtod follows the locale. */
static const char *read_weight(const char *at, const char *end, double *weight)
{
    at = skip_blanks(at + 1, end);
    double sign = at < end && *at == '-' ? -1 : 1, unit = 1;
    if (at < end && (*at == '-' || *at == '+'))
        at++;
    const char *first = at;
    for (*weight = 0; at < end && is_digit(*at); at++)
        *weight = *weight < 1e6 ? *weight * 10 + (*at - '0') : *weight;
    bool digits = at > first;
    if (at < end && *at == '.')
        for (at++; at < end && is_digit(*at); at++, digits = true)
            *weight += (unit /= 10) * (*at - '0');
    *weight *= sign;
    at = skip_blanks(at, end);
    return digits && at < end && *at == ')' ? at + 1 : NULL;
}

static bool is_word_byte(unsigned char c)
{
    return c == '_' || c >= 0x80 || is_digit((char)c) || (c >= 'a' && c <= 'z') ||
           (c >= 'A' && c <= 'Z');
}

static bool at_break(const struct parsing *p)
{
    size_t n = strlen(BREAK_WORD);
    return (size_t)(p->end - p->from) >= n && memcmp(p->from, BREAK_WORD, n) == 0 &&
           (p->from == p->start || !is_word_byte((unsigned char)p->from[-1])) &&
           (p->from + n == p->end || !is_word_byte((unsigned char)p->from[n]));
}

/* One piece of syntax, or one byte of text. */
static enum sdw_status read_piece(struct parsing *p, struct sdw_error *err)
{
    static const char escaped[] = "()[]\\";
    char c = *p->from;
    const char *after;
    double weight;
    if (c == '\\' && p->from + 1 < p->end && p->from[1] && strchr(escaped, p->from[1])) {
        put(p, p->from[1]);
        p->from += 2;
        return SDW_OK;
    }
    if (c == ':' && p->round.depth && (after = read_weight(p->from, p->end, &weight))) {
        if (weight > SDW_PROMPT_WEIGHT_MAX || weight < -SDW_PROMPT_WEIGHT_MAX)
            return sdw_fail(err, SDW_INVALID, "the prompt has a weight of %g, allowed are %g to %g",
                            weight, -SDW_PROMPT_WEIGHT_MAX, SDW_PROMPT_WEIGHT_MAX);
        close_bracket(p, &p->round, (float)weight);
        p->from = after;
        return SDW_OK;
    }
    if (at_break(p)) {
        cut_span(p, true);
        p->from += strlen(BREAK_WORD);
        return SDW_OK;
    }
    p->from++;
    if (c == '(')
        return open_bracket(p, &p->round, err);
    if (c == '[')
        return open_bracket(p, &p->square, err);
    if (c == ')' && p->round.depth)
        close_bracket(p, &p->round, BRACKET_WEIGHT);
    else if (c == ']' && p->square.depth)
        close_bracket(p, &p->square, 1 / BRACKET_WEIGHT);
    else
        put(p, c);
    return SDW_OK;
}

/* Drops empty spans and joins neighbours of one weight. A BREAK before an empty span passes on to
 * the next. */
static void tidy(struct sdw_prompt *prompt)
{
    int kept = 0;
    bool new_chunk = false;
    for (int i = 0; i < prompt->spans; i++) {
        struct sdw_prompt_span span = prompt->span[i];
        new_chunk = new_chunk || span.new_chunk;
        if (span.start == span.end)
            continue;
        struct sdw_prompt_span *before = kept ? &prompt->span[kept - 1] : NULL;
        if (before && !new_chunk && before->weight == span.weight) {
            before->end = span.end;
        } else {
            span.new_chunk = new_chunk;
            prompt->span[kept++] = span;
        }
        new_chunk = false;
    }
    prompt->spans = kept;
}

enum sdw_status sdw_prompt_parse(struct sdw_prompt *prompt, const char *text, size_t text_bytes,
                                 enum sdw_prompt_syntax syntax, struct sdw_error *err)
{
    *prompt = (struct sdw_prompt){0};
    if (text_bytes > SDW_PROMPT_BYTES_MAX)
        return sdw_fail(err, SDW_TOO_LARGE, "the prompt has %zu bytes, the limit is %d", text_bytes,
                        SDW_PROMPT_BYTES_MAX);
    prompt->text = malloc(text_bytes + 1);
    prompt->span = calloc(text_bytes + 2, sizeof *prompt->span); /* one a byte, at most */
    enum sdw_status status = SDW_OK;
    if (!prompt->text || !prompt->span)
        status = sdw_fail(err, SDW_MEMORY, "no memory for a prompt of %zu bytes", text_bytes);
    struct parsing p = {.prompt = prompt, .from = text, .end = text + text_bytes, .start = text};
    if (!status)
        cut_span(&p, false);
    while (!status && p.from < p.end)
        if (syntax == SDW_PROMPT_PLAIN)
            put(&p, *p.from++);
        else
            status = read_piece(&p, err);
    while (!status && p.round.depth)
        close_bracket(&p, &p.round, BRACKET_WEIGHT);
    while (!status && p.square.depth)
        close_bracket(&p, &p.square, 1 / BRACKET_WEIGHT);
    if (status)
        sdw_prompt_free(prompt);
    else
        tidy(prompt);
    return status;
}

void sdw_prompt_free(struct sdw_prompt *prompt)
{
    free(prompt->text);
    free(prompt->span);
    *prompt = (struct sdw_prompt){0};
}

/* ---- chunks ---- */

struct filling {
    struct sdw_prompt_tokens *tokens;
    const struct sdw_tokenizer *tokenizer;
    const struct sdw_prompt_layout *layout;
    int used; /* tokens of the last chunk, without start and end */
};

/* A chunk without tokens: start, end, padding. */
static void add_chunk(struct filling *f)
{
    struct sdw_prompt_tokens *tokens = f->tokens;
    int length = tokens->length;
    int32_t *id = tokens->id + (size_t)tokens->chunks * (size_t)length;
    float *weight = tokens->weight + (size_t)tokens->chunks * (size_t)length;
    for (int i = 0; i < length; i++) {
        id[i] = f->layout->pad;
        weight[i] = 1;
    }
    id[0] = sdw_tokenizer_start(f->tokenizer);
    id[1] = sdw_tokenizer_end(f->tokenizer);
    tokens->chunks++;
    f->used = 0;
}

static void add_token(struct filling *f, int32_t token, float weight)
{
    struct sdw_prompt_tokens *tokens = f->tokens;
    if (f->used == tokens->length - 2 && tokens->chunks < f->layout->chunks_max)
        add_chunk(f);
    tokens->tokens++;
    if (f->used == tokens->length - 2) {
        tokens->cut++;
        return;
    }
    size_t at = (size_t)(tokens->chunks - 1) * (size_t)tokens->length + 1 + (size_t)f->used++;
    tokens->id[at] = token;
    tokens->id[at + 1] = sdw_tokenizer_end(f->tokenizer);
    tokens->weight[at] = weight;
    tokens->weighted += weight != 1;
}

/* BREAK in the last chunk that is allowed leaves no room for more. */
static void break_chunk(struct filling *f)
{
    if (f->used == 0)
        return;
    if (f->tokens->chunks < f->layout->chunks_max)
        add_chunk(f);
    else
        f->used = f->tokens->length - 2;
}

enum sdw_status sdw_prompt_tokenize(struct sdw_prompt_tokens *tokens,
                                    const struct sdw_prompt *prompt,
                                    const struct sdw_tokenizer *tokenizer,
                                    const struct sdw_prompt_layout *layout, struct sdw_error *err)
{
    assert(layout->length >= 3 && layout->chunks_max >= 1 &&
           layout->chunks_max <= SDW_PROMPT_CHUNKS_MAX && layout->chunks_min <= layout->chunks_max);
    size_t room = (size_t)layout->chunks_max * (size_t)layout->length;
    *tokens = (struct sdw_prompt_tokens){.length = layout->length,
                                         .id = malloc(room * sizeof *tokens->id),
                                         .weight = malloc(room * sizeof *tokens->weight)};
    enum sdw_status status = SDW_OK;
    if (!tokens->id || !tokens->weight)
        status = sdw_fail(err, SDW_MEMORY, "no memory for %zu tokens", room);
    struct filling filling = {tokens, tokenizer, layout, 0};
    if (!status)
        add_chunk(&filling);
    for (int i = 0; i < prompt->spans && !status; i++) {
        const struct sdw_prompt_span *span = &prompt->span[i];
        struct sdw_tokens words;
        status = sdw_tokenizer_encode(tokenizer, prompt->text + span->start,
                                      span->end - span->start, &words, err);
        if (status)
            break;
        if (span->new_chunk)
            break_chunk(&filling);
        for (int t = 0; t < words.count; t++)
            add_token(&filling, words.id[t], span->weight);
        free(words.id);
    }
    while (!status && tokens->chunks < layout->chunks_min)
        add_chunk(&filling);
    if (status)
        sdw_prompt_tokens_free(tokens);
    return status;
}

void sdw_prompt_tokens_free(struct sdw_prompt_tokens *tokens)
{
    free(tokens->id);
    free(tokens->weight);
    *tokens = (struct sdw_prompt_tokens){0};
}
