/* original_pickle.c: torch.save's format, written: a zip archive of stored members, of which
 * archive/data.pkl rebuilds a dictionary of tensors and archive/data/I holds the numbers of one. */
#include "original.h"

#include "base/text.h"

#include <stdlib.h>
#include <string.h>

#define PICKLE_BYTES_MAX (16u << 20)
#define ALIGNMENT        64 /* of a member's data, as torch has it */

struct member {
    char name[64];
    uint32_t crc, bytes, offset;
};

/* ---- the pickle ---- */

static void put(struct sdw_text *text, const void *bytes, size_t length)
{
    sdw_text_append(text, bytes, length, NULL); /* a full text is seen at the end */
}

static void put_number(struct sdw_text *text, uint64_t number, int bytes)
{
    for (int i = 0; i < bytes; i++)
        put(text, &(unsigned char){(unsigned char)(number >> 8 * i)}, 1);
}

static void put_op(struct sdw_text *text, const char *op)
{
    put(text, op, strlen(op));
}

static void put_word(struct sdw_text *text, const char *word)
{
    put_op(text, "X"); /* BINUNICODE */
    put_number(text, strlen(word), 4);
    put_op(text, word);
}

static void put_integer(struct sdw_text *text, int64_t integer)
{
    put_op(text, "J"); /* BININT */
    put_number(text, (uint64_t)integer, 4);
}

/* _rebuild_tensor_v2(persistent storage, 0, shape, strides, False, OrderedDict()) */
static void put_tensor(struct sdw_text *text, const struct original_tensor *tensor, int key)
{
    static const char *const storages[SDW_DTYPE_COUNT] = {[SDW_F32] = "FloatStorage",
                                                          [SDW_F16] = "HalfStorage",
                                                          [SDW_BF16] = "BFloat16Storage",
                                                          [SDW_I64] = "LongStorage"};
    const struct sdw_array *shape = &tensor->shape;
    char number[16];
    snprintf(number, sizeof number, "%d", key);
    put_word(text, tensor->name);
    put_op(text, "ctorch._utils\n_rebuild_tensor_v2\n((");
    put_word(text, "storage");
    put_op(text, "ctorch\n");
    put_op(text, storages[shape->dtype]);
    put_op(text, "\n");
    put_word(text, number);
    put_word(text, "cpu");
    put_integer(text, sdw_array_count(shape));
    put_op(text, "tQ"); /* TUPLE, BINPERSID */
    put_integer(text, 0);
    put_op(text, "(");
    for (int i = 0; i < shape->rank; i++)
        put_integer(text, shape->dim[i]);
    put_op(text, "t(");
    for (int i = 0; i < shape->rank; i++) {
        int64_t stride = 1;
        for (int d = i + 1; d < shape->rank; d++)
            stride *= shape->dim[d];
        put_integer(text, stride);
    }
    put_op(text, "t\x89"
                 "ccollections\nOrderedDict\n)RtR"); /* NEWFALSE, an empty dictionary, the call */
}

/* {"global_step": N, "state_dict": {name: tensor, ...}} */
static bool make_pickle(struct sdw_text *text, const struct original_file *file)
{
    put_op(text, "\x80\x02}(");
    put_word(text, "global_step");
    put_integer(text, 470000);
    put_word(text, "state_dict");
    put_op(text, "}(");
    for (int i = 0; i < file->count; i++)
        put_tensor(text, &file->tensor[i], i);
    put_op(text, "uu");
    return sdw_text_append(text, ".", 1, NULL) == SDW_OK;
}

/* ---- the archive ---- */

static uint32_t crc32_of(const unsigned char *bytes, size_t length)
{
    uint32_t crc = 0xffffffffu;
    for (size_t i = 0; i < length; i++) {
        crc ^= bytes[i];
        for (int bit = 0; bit < 8; bit++)
            crc = crc >> 1 ^ (crc & 1 ? 0xedb88320u : 0);
    }
    return ~crc;
}

/* The fields that a member's own header and the directory share, from the flags on. */
static void put_fields(struct sdw_text *text, const struct member *member, size_t extra)
{
    put_number(text, 0, 2 + 2 + 2 + 2); /* flags, stored, time, date */
    put_number(text, member->crc, 4);
    put_number(text, member->bytes, 4);
    put_number(text, member->bytes, 4);
    put_number(text, strlen(member->name), 2);
    put_number(text, extra, 2);
}

static bool write_text(struct sdw_text *text, FILE *out)
{
    bool good = fwrite(text->data, 1, text->length, out) == text->length;
    sdw_text_free(text);
    return good;
}

static bool write_member(FILE *out, struct member *member, const void *data, size_t bytes)
{
    long at = ftell(out);
    struct sdw_text text;
    sdw_text_init(&text, 1024);
    if (at < 0 || (uint64_t)at + bytes > UINT32_MAX / 2)
        return false; /* larger archives need zip64 */
    size_t header = 30 + strlen(member->name) + 4;
    size_t padding = (ALIGNMENT - ((size_t)at + header) % ALIGNMENT) % ALIGNMENT;
    member->offset = (uint32_t)at;
    member->bytes = (uint32_t)bytes;
    member->crc = crc32_of(data, bytes);
    put_op(&text, "PK\3\4");
    put_number(&text, 10, 2);
    put_fields(&text, member, 4 + padding);
    put_op(&text, member->name);
    put_op(&text, "FB"); /* a field of padding */
    put_number(&text, padding, 2);
    for (size_t i = 0; i < padding; i++)
        put_op(&text, "Z");
    return write_text(&text, out) && fwrite(data, 1, bytes, out) == bytes;
}

static bool write_directory(FILE *out, const struct member *member, int count)
{
    long at = ftell(out);
    struct sdw_text text;
    sdw_text_init(&text, PICKLE_BYTES_MAX);
    for (int i = 0; i < count; i++) {
        put_op(&text, "PK\1\2");
        put_number(&text, 10, 2);
        put_number(&text, 10, 2);
        put_fields(&text, &member[i], 0);
        put_number(&text, 0, 2 + 2); /* comment, disk */
        put_number(&text, 0, 2 + 4); /* attributes */
        put_number(&text, member[i].offset, 4);
        put_op(&text, member[i].name);
    }
    size_t bytes = text.length;
    put_op(&text, "PK\5\6");
    put_number(&text, 0, 2 + 2);
    put_number(&text, (uint64_t)count, 2);
    put_number(&text, (uint64_t)count, 2);
    put_number(&text, bytes, 4);
    put_number(&text, (uint64_t)at, 4);
    put_number(&text, 0, 2);
    return at >= 0 && write_text(&text, out);
}

bool original_write_pickle(const struct original_file *file, FILE *out)
{
    struct sdw_text pickle;
    sdw_text_init(&pickle, PICKLE_BYTES_MAX);
    struct member *member = calloc((size_t)file->count + 1, sizeof *member);
    bool good = member && make_pickle(&pickle, file);
    if (good) {
        snprintf(member[0].name, sizeof member[0].name, "archive/data.pkl");
        good = write_member(out, &member[0], pickle.data, pickle.length);
    }
    for (int i = 0; i < file->count && good; i++) {
        size_t bytes;
        void *data = original_bytes(&file->tensor[i], &bytes);
        snprintf(member[i + 1].name, sizeof member[i + 1].name, "archive/data/%d", i);
        good = data && write_member(out, &member[i + 1], data, bytes);
        free(data);
    }
    good = good && write_directory(out, member, file->count + 1);
    sdw_text_free(&pickle);
    free(member);
    return good;
}
