/* tokenizer.c: see tokenizer.h. The vocabulary and the merges stay in jansson's own hash tables: a
 * prompt asks them a few hundred times. Symbols of a word are ranges of one text, because merging
 * joins neighbours. */
#define PCRE2_CODE_UNIT_WIDTH 8
#include "text/tokenizer.h"

#include "base/text.h"

#include <jansson.h>
#include <pcre2.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

#define PATH_BYTES_MAX 4096
#define END_OF_WORD    "</w>"
#define SYMBOL_MAX     256 /* bytes of a token; longer ones are never in a vocabulary */
#define NO_RANK        INT32_MAX
#define EXPANSION_MAX                                                                              \
    6 /* NFC and lower case: bytes out for a byte in, at most; then two for a byte when mapped */

/* CLIP's pattern, for text that is lower case already. */
static const char pattern[] =
    "<\\|startoftext\\|>|<\\|endoftext\\|>|'s|'t|'re|'ve|'m|'ll|'d|\\p{L}+|\\p{N}|"
    "[^\\s\\p{L}\\p{N}]+";

struct sdw_tokenizer {
    json_t *vocabulary; /* token -> id */
    json_t *merges;     /* "left right" -> rank */
    pcre2_code *words;
    int32_t start, end;
    int size;
    char byte_symbol[256][3]; /* the printable code point that stands for a byte, as UTF-8 */
};

/* GPT-2's mapping of bytes: printable Latin-1 stands for itself, the rest for code points from 256
 * on, in order. */
static void map_bytes(struct sdw_tokenizer *tokenizer)
{
    int next = 256;
    for (int byte = 0; byte < 256; byte++) {
        bool printable = (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || byte >= 174;
        int code = printable ? byte : next++;
        utf8proc_encode_char(code, (utf8proc_uint8_t *)tokenizer->byte_symbol[byte]);
    }
}

int32_t sdw_tokenizer_id(const struct sdw_tokenizer *tokenizer, const char *token)
{
    const json_t *id = json_object_get(tokenizer->vocabulary, token);
    return id ? (int32_t)json_integer_value(id) : -1;
}

static enum sdw_status check_vocabulary(struct sdw_tokenizer *tokenizer, const char *path,
                                        struct sdw_error *err)
{
    if (json_object_size(tokenizer->vocabulary) > SDW_TOKENIZER_VOCABULARY_MAX)
        return sdw_fail(err, SDW_TOO_LARGE, "%s has %zu tokens, the limit is %d", path,
                        json_object_size(tokenizer->vocabulary), SDW_TOKENIZER_VOCABULARY_MAX);
    const char *token;
    json_t *id;
    json_object_foreach(tokenizer->vocabulary, token, id)
    {
        if (!json_is_integer(id) || json_integer_value(id) < 0 ||
            json_integer_value(id) >= SDW_TOKENIZER_VOCABULARY_MAX)
            return sdw_fail(err, SDW_FORMAT,
                            "%s: the id of token \"%s\" is not a number from 0 to %d", path, token,
                            SDW_TOKENIZER_VOCABULARY_MAX - 1);
        if (json_integer_value(id) >= tokenizer->size)
            tokenizer->size = (int)json_integer_value(id) + 1;
    }
    tokenizer->start = sdw_tokenizer_id(tokenizer, "<|startoftext|>");
    tokenizer->end = sdw_tokenizer_id(tokenizer, "<|endoftext|>");
    if (tokenizer->start < 0 || tokenizer->end < 0)
        return sdw_fail(err, SDW_FORMAT,
                        "%s has no <|startoftext|> or no <|endoftext|>: it is not CLIP's", path);
    return SDW_OK;
}

static enum sdw_status parse_vocabulary(struct sdw_tokenizer *tokenizer,
                                        const struct sdw_tokenizer_files *files,
                                        struct sdw_error *err)
{
    json_error_t fault;
    tokenizer->vocabulary = json_loadb(files->vocabulary, files->vocabulary_bytes, 0, &fault);
    if (!json_is_object(tokenizer->vocabulary))
        return sdw_fail(err, SDW_FORMAT, "%s is not a JSON object of tokens: %s",
                        files->vocabulary_path,
                        tokenizer->vocabulary ? "another type" : fault.text);
    return check_vocabulary(tokenizer, files->vocabulary_path, err);
}

/* "left right" of merge `number`; both joined must be a token, or merging would make words that the
 * text encoder has never seen. */
static enum sdw_status add_merge(struct sdw_tokenizer *tokenizer, const char *path,
                                 const char *line, size_t length, int32_t number,
                                 struct sdw_error *err)
{
    const char *blank = memchr(line, ' ', length);
    size_t left = blank ? (size_t)(blank - line) : 0, right = length - left - 1;
    if (left == 0 || right == 0 || memchr(blank + 1, ' ', right))
        return sdw_fail(err, SDW_FORMAT,
                        "%s: merge %d is not two tokens with a blank between: \"%.*s\"", path,
                        number, (int)(length < 80 ? length : 80), line);
    char joined[2 * SYMBOL_MAX];
    if (left > SYMBOL_MAX || right > SYMBOL_MAX)
        return sdw_fail(err, SDW_FORMAT, "%s: merge %d has a token over %d bytes", path, number,
                        SYMBOL_MAX);
    memcpy(joined, line, left);
    memcpy(joined + left, blank + 1, right);
    if (!json_object_getn(tokenizer->vocabulary, joined, left + right))
        return sdw_fail(
            err, SDW_FORMAT,
            "%s: merge %d makes \"%.*s\", which is not in vocab.json: the two files are "
            "not of one model",
            path, number, (int)(left + right < 80 ? left + right : 80), joined);
    if (json_object_setn_new(tokenizer->merges, line, length, json_integer(number)) != 0)
        return sdw_fail(err, SDW_FORMAT, "%s: merge %d is not valid UTF-8", path, number);
    return SDW_OK;
}

/* A merge a line, the first the strongest; "#version" may open the file. */
static enum sdw_status parse_merges(struct sdw_tokenizer *tokenizer,
                                    const struct sdw_tokenizer_files *files, struct sdw_error *err)
{
    tokenizer->merges = json_object();
    const char *line = files->merges, *end = line + files->merges_bytes, *next;
    int32_t number = 0;
    for (; line < end; line = next) {
        const char *newline = memchr(line, '\n', (size_t)(end - line));
        size_t length = (size_t)((newline ? newline : end) - line);
        next = line + length + (newline != NULL);
        if (length && line[length - 1] == '\r')
            length--;
        if (length == 0 || (length >= 8 && memcmp(line, "#version", 8) == 0))
            continue;
        if (++number > SDW_TOKENIZER_VOCABULARY_MAX)
            return sdw_fail(err, SDW_TOO_LARGE, "%s has more than %d merges", files->merges_path,
                            SDW_TOKENIZER_VOCABULARY_MAX);
        enum sdw_status status =
            add_merge(tokenizer, files->merges_path, line, length, number, err);
        if (status)
            return status;
    }
    return SDW_OK;
}

enum sdw_status sdw_tokenizer_parse(struct sdw_tokenizer **tokenizer,
                                    const struct sdw_tokenizer_files *files, struct sdw_error *err)
{
    struct sdw_tokenizer *opened = calloc(1, sizeof *opened);
    *tokenizer = NULL;
    if (!opened)
        return sdw_fail(err, SDW_MEMORY, "no memory for a tokenizer");
    map_bytes(opened);
    int code;
    PCRE2_SIZE offset;
    opened->words = pcre2_compile((PCRE2_SPTR)pattern, PCRE2_ZERO_TERMINATED, PCRE2_UTF | PCRE2_UCP,
                                  &code, &offset, NULL);
    enum sdw_status status = SDW_OK;
    if (!opened->words)
        status =
            sdw_fail(err, SDW_INTERNAL, "PCRE2 does not take the pattern of words: error %d", code);
    if (!status)
        status = parse_vocabulary(opened, files, err);
    if (!status)
        status = parse_merges(opened, files, err);
    if (status)
        sdw_tokenizer_close(opened);
    else
        *tokenizer = opened;
    return status;
}

enum sdw_status sdw_tokenizer_open(struct sdw_tokenizer **tokenizer, const char *folder,
                                   struct sdw_error *err)
{
    char vocabulary_path[PATH_BYTES_MAX], merges_path[PATH_BYTES_MAX];
    struct sdw_text vocabulary, merges;
    *tokenizer = NULL;
    snprintf(vocabulary_path, sizeof vocabulary_path, "%s/vocab.json", folder);
    snprintf(merges_path, sizeof merges_path, "%s/merges.txt", folder);
    sdw_text_init(&vocabulary, SDW_TOKENIZER_FILE_BYTES_MAX);
    sdw_text_init(&merges, SDW_TOKENIZER_FILE_BYTES_MAX);
    enum sdw_status status = sdw_text_read_file(&vocabulary, vocabulary_path, err);
    if (!status)
        status = sdw_text_read_file(&merges, merges_path, err);
    if (!status) {
        struct sdw_tokenizer_files files = {vocabulary_path, vocabulary.data, vocabulary.length,
                                            merges_path,     merges.data,     merges.length};
        status = sdw_tokenizer_parse(tokenizer, &files, err);
    }
    sdw_text_free(&vocabulary);
    sdw_text_free(&merges);
    return status;
}

void sdw_tokenizer_close(struct sdw_tokenizer *tokenizer)
{
    if (!tokenizer)
        return;
    json_decref(tokenizer->vocabulary);
    json_decref(tokenizer->merges);
    pcre2_code_free(tokenizer->words);
    free(tokenizer);
}

int32_t sdw_tokenizer_start(const struct sdw_tokenizer *tokenizer)
{
    return tokenizer->start;
}

int32_t sdw_tokenizer_end(const struct sdw_tokenizer *tokenizer)
{
    return tokenizer->end;
}

int sdw_tokenizer_size(const struct sdw_tokenizer *tokenizer)
{
    return tokenizer->size;
}

static bool is_letter(utf8proc_int32_t code)
{
    utf8proc_category_t category = utf8proc_category(code);
    return category >= UTF8PROC_CATEGORY_LU && category <= UTF8PROC_CATEGORY_LO;
}

/* Lower case of one code point between its neighbours, as Unicode's SpecialCasing has it for all
 * languages: U+0130 is the only one whose lower case is two code points, and a capital sigma that
 * ends a word has a form of its own. */
static size_t put_lower(char *to, utf8proc_int32_t before, utf8proc_int32_t code,
                        utf8proc_int32_t after)
{
    if (code == 0x130)
        return (size_t)(stpcpy(to, "i\xcc\x87") - to);
    bool final_sigma = code == 0x3a3 && is_letter(before) && !is_letter(after);
    return (size_t)utf8proc_encode_char(final_sigma ? 0x3c2 : utf8proc_tolower(code),
                                        (utf8proc_uint8_t *)to);
}

/* The code point at `from`, or 0 at the end; *n gets its bytes. */
static utf8proc_int32_t code_at(const utf8proc_uint8_t *from, utf8proc_ssize_t bytes,
                                utf8proc_ssize_t *n)
{
    utf8proc_int32_t code = 0;
    *n = bytes > 0 ? utf8proc_iterate(from, bytes, &code) : 0;
    return code;
}

/* NFC and lower case, without NULs. Returns a string that the caller frees. */
static char *normalize(const char *text, size_t text_bytes, struct sdw_error *err)
{
    utf8proc_uint8_t *composed = NULL;
    utf8proc_ssize_t length =
        utf8proc_map((const utf8proc_uint8_t *)text, (utf8proc_ssize_t)text_bytes, &composed,
                     UTF8PROC_STABLE | UTF8PROC_COMPOSE);
    if (length < 0) {
        sdw_fail(err, length == UTF8PROC_ERROR_NOMEM ? SDW_MEMORY : SDW_INVALID,
                 "the prompt is not valid UTF-8: %s", utf8proc_errmsg(length));
        return NULL;
    }
    char *lower = malloc((size_t)length * EXPANSION_MAX + 1);
    if (!lower)
        sdw_fail(err, SDW_MEMORY, "no memory for a prompt of %zd bytes", (size_t)length);
    char *to = lower;
    utf8proc_ssize_t n, after_bytes;
    utf8proc_int32_t before = 0, code = code_at(composed, length, &n);
    for (utf8proc_ssize_t i = 0; lower && n > 0; i += n, n = after_bytes) {
        utf8proc_int32_t after = code_at(composed + i + n, length - i - n, &after_bytes);
        if (code)
            to += put_lower(to, before, code, after);
        before = code;
        code = after;
    }
    if (lower)
        *to = 0;
    free(composed);
    return lower;
}

/* One word while it is being merged: symbol i is text[start[i]] up to text[start[i + 1]]. */
struct word {
    char *text;
    int *start;    /* [symbols + 1] */
    int32_t *rank; /* [symbols]: of the merge of symbol i with the next, or NO_RANK */
    int symbols;
};

static int32_t rank_of(const struct sdw_tokenizer *tokenizer, const struct word *word, int i)
{
    if (i < 0 || i + 1 >= word->symbols)
        return NO_RANK;
    char key[2 * SYMBOL_MAX + 1];
    int left = word->start[i + 1] - word->start[i], right = word->start[i + 2] - word->start[i + 1];
    if (left > SYMBOL_MAX || right > SYMBOL_MAX)
        return NO_RANK;
    memcpy(key, word->text + word->start[i], (size_t)left);
    key[left] = ' ';
    memcpy(key + left + 1, word->text + word->start[i + 1], (size_t)right);
    const json_t *rank = json_object_getn(tokenizer->merges, key, (size_t)left + (size_t)right + 1);
    return rank ? (int32_t)json_integer_value(rank) : NO_RANK;
}

/* Fills the word with one symbol for each byte, the last with END_OF_WORD. */
static void split_bytes(const struct sdw_tokenizer *tokenizer, struct word *word, const char *bytes,
                        size_t length)
{
    int at = 0;
    word->symbols = (int)length;
    for (size_t i = 0; i < length; i++) {
        word->start[i] = at;
        const char *symbol = tokenizer->byte_symbol[(unsigned char)bytes[i]];
        for (int j = 0; j < 2 && symbol[j]; j++)
            word->text[at++] = symbol[j];
    }
    memcpy(word->text + at, END_OF_WORD, sizeof END_OF_WORD);
    word->start[length] = at + (int)strlen(END_OF_WORD);
    for (int i = 0; i < word->symbols; i++)
        word->rank[i] = rank_of(tokenizer, word, i);
}

/* Joins the pair of the lowest rank, wherever it occurs, until no pair of the word is in the list
 * of merges. */
static void merge(const struct sdw_tokenizer *tokenizer, struct word *word)
{
    for (;;) {
        int32_t best = NO_RANK;
        for (int i = 0; i < word->symbols; i++)
            if (word->rank[i] < best)
                best = word->rank[i];
        if (best == NO_RANK)
            return;
        int kept = 0;
        bool joined = false; /* the symbol before this one was just made */
        for (int i = 0; i < word->symbols; i++) {
            bool join = word->rank[i] == best && i + 1 < word->symbols;
            word->start[kept] = word->start[i];
            word->rank[kept] = joined || join ? -1 : word->rank[i]; /* -1: to be looked up */
            if (join && kept > 0)
                word->rank[kept - 1] = -1;
            joined = join;
            kept++;
            if (join)
                i++;
        }
        word->start[kept] = word->start[word->symbols];
        word->symbols = kept;
        for (int i = 0; i < kept; i++)
            if (word->rank[i] == -1)
                word->rank[i] = rank_of(tokenizer, word, i);
    }
}

static void append_symbols(const struct sdw_tokenizer *tokenizer, const struct word *word,
                           struct sdw_tokens *tokens)
{
    for (int i = 0; i < word->symbols; i++) {
        const json_t *id = json_object_getn(tokenizer->vocabulary, word->text + word->start[i],
                                            (size_t)(word->start[i + 1] - word->start[i]));
        tokens->id[tokens->count++] =
            id ? (int32_t)json_integer_value(id) : tokenizer->end; /* CLIP's unknown token */
    }
}

/* Cuts the normalised text into words and appends the tokens of each. */
static enum sdw_status encode_words(const struct sdw_tokenizer *tokenizer, const char *text,
                                    struct word *word, struct sdw_tokens *tokens,
                                    struct sdw_error *err)
{
    pcre2_match_data *match = pcre2_match_data_create_from_pattern(tokenizer->words, NULL);
    if (!match)
        return sdw_fail(err, SDW_MEMORY, "no memory to tokenize");
    size_t length = strlen(text);
    const PCRE2_SIZE *range = pcre2_get_ovector_pointer(match);
    int found = 0;
    for (size_t at = 0; at < length; at = range[1]) {
        found = pcre2_match(tokenizer->words, (PCRE2_SPTR)text, length, at, PCRE2_NO_UTF_CHECK,
                            match, NULL);
        if (found < 0)
            break;
        const char *bytes = text + range[0];
        size_t n = range[1] - range[0];
        if (n == strlen("<|startoftext|>") && memcmp(bytes, "<|startoftext|>", n) == 0) {
            tokens->id[tokens->count++] = tokenizer->start;
        } else if (n == strlen("<|endoftext|>") && memcmp(bytes, "<|endoftext|>", n) == 0) {
            tokens->id[tokens->count++] = tokenizer->end;
        } else {
            split_bytes(tokenizer, word, bytes, n);
            merge(tokenizer, word);
            append_symbols(tokenizer, word, tokens);
        }
    }
    pcre2_match_data_free(match);
    if (found < 0 && found != PCRE2_ERROR_NOMATCH)
        return sdw_fail(err, SDW_INVALID, "the prompt cannot be cut into words: PCRE2 error %d",
                        found);
    return SDW_OK;
}

enum sdw_status sdw_tokenizer_encode(const struct sdw_tokenizer *tokenizer, const char *text,
                                     size_t text_bytes, struct sdw_tokens *tokens,
                                     struct sdw_error *err)
{
    *tokens = (struct sdw_tokens){0};
    if (text_bytes > SDW_PROMPT_BYTES_MAX)
        return sdw_fail(err, SDW_TOO_LARGE, "the prompt has %zu bytes, the limit is %d", text_bytes,
                        SDW_PROMPT_BYTES_MAX);
    char *normal = normalize(text, text_bytes, err);
    if (!normal)
        return err ? err->status : SDW_INVALID;
    size_t length = strlen(normal);
    struct word word = {.text = malloc(2 * length + sizeof END_OF_WORD),
                        .start = malloc((length + 2) * sizeof(int)),
                        .rank = malloc((length + 1) * sizeof(int32_t))};
    tokens->id = malloc((length + 1) * sizeof(int32_t));
    enum sdw_status status;
    if (word.text && word.start && word.rank && tokens->id)
        status = encode_words(tokenizer, normal, &word, tokens, err);
    else
        status = sdw_fail(err, SDW_MEMORY, "no memory to tokenize %zu bytes", length);
    free(word.text);
    free(word.start);
    free(word.rank);
    free(normal);
    if (status) {
        free(tokens->id);
        *tokens = (struct sdw_tokens){0};
    }
    return status;
}

int sdw_tokens_frame(int32_t *ids, int length, const struct sdw_tokens *tokens,
                     const struct sdw_tokenizer *tokenizer, int32_t pad)
{
    int fit = tokens->count < length - 2 ? tokens->count : length - 2;
    ids[0] = tokenizer->start;
    for (int i = 0; i < fit; i++)
        ids[1 + i] = tokens->id[i];
    ids[1 + fit] = tokenizer->end;
    for (int i = fit + 2; i < length; i++)
        ids[i] = pad;
    return tokens->count - fit;
}
