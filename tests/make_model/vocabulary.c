/* vocabulary.c: a CLIP vocabulary of single bytes, for models made without one: any prompt
 * tokenizes (into more tokens than with CLIP's own), and the special tokens have CLIP's ids. */
#include "make_model.h"

#include <stdio.h>

#define START_ID 49406
#define END_ID   49407

/* The printable code point that stands for byte number i in CLIP's order: printable Latin-1 first,
 * then the others as code points from 256 on. Escaped for JSON. */
static void byte_symbol(char symbol[8], int i)
{
    int printable = 0;
    for (int byte = 0; byte < 256; byte++) {
        if (!((byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || byte >= 174))
            continue;
        if (printable++ == i) {
            snprintf(symbol, 8, "\\u%04x", (unsigned)byte);
            return;
        }
    }
    snprintf(symbol, 8, "\\u%04x", (unsigned)(256 + i - printable));
}

static bool write_symbols(FILE *out)
{
    bool good = fputs("{", out) >= 0;
    for (int i = 0; i < 512 && good; i++) {
        char symbol[8];
        byte_symbol(symbol, i % 256);
        good = fprintf(out, "\"%s%s\":%d,", symbol, i < 256 ? "" : "</w>", i) > 0;
    }
    return good &&
           fprintf(out, "\"<|startoftext|>\":%d,\"<|endoftext|>\":%d}\n", START_ID, END_ID) > 0;
}

static bool write_merges(FILE *out)
{
    return fputs("#version: 0.2\n", out) >= 0;
}

static bool write_file(const char *folder, const char *name, bool (*write)(FILE *out))
{
    char path[4096];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *out = fopen(path, "wb");
    bool good = out && write(out);
    good = (out && fclose(out) == 0) && good;
    if (!good)
        perror(path);
    return good;
}

bool make_vocabulary_write(const char *folder)
{
    return write_file(folder, "vocab.json", write_symbols) &&
           write_file(folder, "merges.txt", write_merges);
}
