/* pickle.c: torch.save's pickle as data. A pickle is a program for a stack machine that may call
 * any function of Python; this machine knows the few names that a file of weights needs, and calls
 * none of them: it notes what they would have made. Any other name is refused, and so is any
 * instruction that such files have no use for (Python's pickletools.py describes them all). */
#include "weights/file.h"
#include "weights/zip.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PICKLE_BYTES_MAX (16u << 20)
#define VALUES_MAX       (1 << 20)
#define MEMBER_NAME_MAX  512

enum role { TENSOR_V2, PARAMETER, DICTIONARY, STORAGE, INERT };

static const struct global {
    const char *module, *name;
    enum role role;
    enum sdw_dtype dtype; /* of a storage */
} globals[] = {
    {"torch._utils", "_rebuild_tensor_v2", TENSOR_V2, 0},
    {"torch._utils", "_rebuild_parameter", PARAMETER, 0},
    {"collections", "OrderedDict", DICTIONARY, 0},
    {"torch", "FloatStorage", STORAGE, SDW_F32},
    {"torch", "HalfStorage", STORAGE, SDW_F16},
    {"torch", "BFloat16Storage", STORAGE, SDW_BF16},
    {"torch", "DoubleStorage", STORAGE, SDW_F64},
    {"torch", "LongStorage", STORAGE, SDW_I64},
    {"torch", "IntStorage", STORAGE, SDW_I32},
    {"torch", "ByteStorage", STORAGE, SDW_U8},
    {"torch", "BoolStorage", STORAGE, SDW_BOOL},
    /* What trainers leave beside the weights: kept as a value without content. */
    {"pytorch_lightning.callbacks.model_checkpoint", "ModelCheckpoint", INERT, 0},
    {"numpy.core.multiarray", "scalar", INERT, 0},
    {"numpy", "dtype", INERT, 0},
    {"_codecs", "encode", INERT, 0},
};

struct value {
    enum kind { MARK, OTHER, INTEGER, TEXT, LIST, DICT, GLOBAL, HELD, ARRAY } kind;
    union {
        int64_t integer;
        struct {
            const char *at;
            size_t bytes;
        } text;
        struct {
            int *item; /* values; a dictionary's are key, value, key, value, ... */
            int count, capacity;
        } list; /* tuples too */
        const struct global *global;
        struct {
            const struct sdw_zip_member *member;
            enum sdw_dtype dtype;
            int64_t count;
        } held; /* a storage */
        struct sdw_array array;
    } as;
};

struct indexes {
    int *at;
    int count, capacity;
};

struct machine {
    const char *path;
    struct sdw_error *err;
    enum sdw_status status; /* the first failure; the machine stops */
    const struct sdw_zip *zip;
    const char *root; /* folder of the members, with its slash */
    size_t root_bytes;
    const unsigned char *at, *end;
    struct value *value; /* all that were ever made */
    int values, values_capacity;
    struct indexes stack, memo;
    struct value nothing; /* what a failed look at the stack finds */
};

static void refuse(struct machine *m, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
static void refuse(struct machine *m, const char *format, ...)
{
    if (m->status)
        return;
    char sentence[SDW_ERROR_MAX];
    va_list args;
    va_start(args, format);
    vsnprintf(sentence, sizeof sentence, format, args);
    va_end(args);
    m->status = sdw_fail(m->err, SDW_FORMAT, "%s: %s", m->path, sentence);
}

static void out_of_memory(struct machine *m)
{
    if (!m->status)
        m->status = sdw_fail(m->err, SDW_MEMORY, "%s: no memory for its pickle", m->path);
}

/* ---- values and the stack ---- */

static void append(struct machine *m, int **item, int *count, int *capacity, int value)
{
    if (*count == *capacity) {
        int more = *capacity ? 2 * *capacity : 8;
        int *grown = realloc(*item, (size_t)more * sizeof *grown);
        if (!grown) {
            out_of_memory(m);
            return;
        }
        *item = grown;
        *capacity = more;
    }
    (*item)[(*count)++] = value;
}

static void push_index(struct machine *m, int index)
{
    append(m, &m->stack.at, &m->stack.count, &m->stack.capacity, index);
}

static void push(struct machine *m, const struct value *value)
{
    if (m->values == VALUES_MAX) {
        refuse(m, "the pickle makes more than %d values", VALUES_MAX);
        return;
    }
    if (m->values == m->values_capacity) {
        int more = m->values_capacity ? 2 * m->values_capacity : 1024;
        struct value *grown = realloc(m->value, (size_t)more * sizeof *grown);
        if (!grown) {
            out_of_memory(m);
            return;
        }
        m->value = grown;
        m->values_capacity = more;
    }
    m->value[m->values] = *value;
    push_index(m, m->values++);
}

static void push_kind(struct machine *m, enum kind kind)
{
    struct value value = {.kind = kind};
    push(m, &value);
}

static void push_integer(struct machine *m, int64_t integer)
{
    struct value value = {.kind = INTEGER, .as.integer = integer};
    push(m, &value);
}

/* The value `depth` below the top. Never NULL: after a failure a value of no use. */
static struct value *peek(struct machine *m, int depth)
{
    if (m->stack.count <= depth) {
        refuse(m, "the pickle takes more from its stack than is there");
        m->nothing = (struct value){.kind = OTHER};
        return &m->nothing;
    }
    return &m->value[m->stack.at[m->stack.count - 1 - depth]];
}

static void drop(struct machine *m, int count)
{
    m->stack.count -= count < m->stack.count ? count : m->stack.count;
}

/* How many values stand above the last mark. */
static int above_mark(struct machine *m)
{
    for (int i = m->stack.count - 1; i >= 0; i--)
        if (m->value[m->stack.at[i]].kind == MARK)
            return m->stack.count - 1 - i;
    refuse(m, "the pickle looks for a mark that is not there");
    return 0;
}

/* Moves the upper `count` values into the list or dictionary `depth` below the top. */
static void collect(struct machine *m, int depth, int count, enum kind kind)
{
    struct value *into = peek(m, depth);
    if (into->kind != kind && !m->status)
        refuse(m, "the pickle adds to what is no %s", kind == DICT ? "dictionary" : "list");
    if (kind == DICT && count % 2 != 0)
        refuse(m, "the pickle has a key without a value");
    for (int i = m->stack.count - count; !m->status && i < m->stack.count; i++)
        append(m, &into->as.list.item, &into->as.list.count, &into->as.list.capacity,
               m->stack.at[i]);
}

/* Replaces the upper `count` values, and a mark below them, by one list or dictionary of them. */
static void gather(struct machine *m, int count, bool marked, enum kind kind)
{
    push_kind(m, kind);
    peek(m, count + marked); /* are they all there? */
    if (kind == DICT && count % 2 != 0)
        refuse(m, "the pickle has a key without a value");
    if (m->status)
        return;
    int index = m->stack.at[--m->stack.count];
    struct value *made = &m->value[index];
    for (int i = m->stack.count - count; !m->status && i < m->stack.count; i++)
        append(m, &made->as.list.item, &made->as.list.count, &made->as.list.capacity,
               m->stack.at[i]);
    drop(m, count + marked);
    push_index(m, index);
}

/* ---- reading ---- */

static const unsigned char *take(struct machine *m, uint64_t bytes)
{
    if ((uint64_t)(m->end - m->at) < bytes) {
        refuse(m, "the pickle ends in the middle of an instruction");
        return NULL;
    }
    m->at += bytes;
    return m->at - bytes;
}

static uint64_t take_number(struct machine *m, int bytes)
{
    const unsigned char *from = take(m, (uint64_t)bytes);
    uint64_t value = 0;
    for (int i = bytes - 1; from && i >= 0; i--)
        value = value << 8 | from[i];
    return value;
}

/* A little-endian two's complement number of up to eight bytes. */
static void push_long(struct machine *m, uint64_t bytes)
{
    if (bytes > 8) {
        refuse(m, "the pickle has a number of %" PRIu64 " bytes", bytes);
        return;
    }
    uint64_t value = take_number(m, (int)bytes);
    if (bytes > 0 && bytes < 8 && value >> (8 * bytes - 1))
        value |= ~(uint64_t)0 << 8 * bytes;
    push_integer(m, (int64_t)value);
}

static void push_text(struct machine *m, uint64_t bytes)
{
    const unsigned char *from = take(m, bytes);
    struct value value = {.kind = TEXT, .as.text = {(const char *)from, (size_t)bytes}};
    if (from)
        push(m, &value);
}

static bool is_text(const struct value *value, const char *text)
{
    return value->kind == TEXT && value->as.text.bytes == strlen(text) &&
           memcmp(value->as.text.at, text, value->as.text.bytes) == 0;
}

/* ---- names ---- */

static void push_global(struct machine *m, const struct value *module, const struct value *name)
{
    for (size_t i = 0; i < sizeof globals / sizeof globals[0]; i++)
        if (is_text(module, globals[i].module) && is_text(name, globals[i].name)) {
            struct value value = {.kind = GLOBAL, .as.global = &globals[i]};
            push(m, &value);
            return;
        }
    refuse(m,
           "the pickle asks for %.*s.%.*s, which no file of weights needs: refused, and nothing of "
           "it was executed",
           (int)(module->as.text.bytes < 100 ? module->as.text.bytes : 100), module->as.text.at,
           (int)(name->as.text.bytes < 100 ? name->as.text.bytes : 100), name->as.text.at);
}

static struct value take_line(struct machine *m)
{
    const unsigned char *newline = memchr(m->at, '\n', (size_t)(m->end - m->at));
    struct value line = {.kind = TEXT, .as.text = {"", 0}};
    if (!newline) {
        refuse(m, "the pickle ends in the middle of a name");
        return line;
    }
    line.as.text.at = (const char *)m->at;
    line.as.text.bytes = (size_t)(newline - m->at);
    m->at = newline + 1;
    return line;
}

static void named_global(struct machine *m)
{
    struct value module = take_line(m), name = take_line(m);
    if (!m->status)
        push_global(m, &module, &name);
}

static void stack_global(struct machine *m)
{
    struct value name = *peek(m, 0), module = *peek(m, 1);
    drop(m, 2);
    if (!m->status && (name.kind != TEXT || module.kind != TEXT))
        refuse(m, "the pickle asks for something whose name is no text");
    if (!m->status)
        push_global(m, &module, &name);
}

/* ---- tensors ---- */

/* Item i of a tuple, or of what is none. */
static const struct value *item(const struct machine *m, const struct value *list, int i)
{
    static const struct value none = {.kind = OTHER};
    return list->kind == LIST && i < list->as.list.count ? &m->value[list->as.list.item[i]] : &none;
}

/* ('storage', torch.HalfStorage, 'KEY', 'cpu', count): the member ROOT/data/KEY. */
static void push_storage(struct machine *m)
{
    const struct value *id = peek(m, 0), *type = item(m, id, 1), *key = item(m, id, 2),
                       *count = item(m, id, 4);
    char name[MEMBER_NAME_MAX];
    if (m->status)
        return;
    if (!is_text(item(m, id, 0), "storage") || type->kind != GLOBAL ||
        type->as.global->role != STORAGE || key->kind != TEXT || count->kind != INTEGER ||
        count->as.integer < 0) {
        refuse(m, "the pickle refers to data in a way that torch.save does not");
        return;
    }
    int length =
        snprintf(name, sizeof name, "%.*sdata/%.*s", (int)m->root_bytes, m->root,
                 (int)(key->as.text.bytes < 100 ? key->as.text.bytes : 100), key->as.text.at);
    const struct sdw_zip_member *member =
        length > 0 && length < MEMBER_NAME_MAX ? sdw_zip_find(m->zip, name, (size_t)length) : NULL;
    uint64_t element = sdw_dtype_bytes(type->as.global->dtype);
    if (!member || (uint64_t)count->as.integer > member->bytes / element) {
        refuse(m, "the data %s has %" PRIu64 " bytes, the pickle needs %" PRId64 " numbers of %d",
               name, member ? member->bytes : 0, count->as.integer, (int)element);
        return;
    }
    struct value value = {.kind = HELD,
                          .as.held = {member, type->as.global->dtype, count->as.integer}};
    drop(m, 1);
    push(m, &value);
}

/* Fills dim from the sizes; the strides must be those of rows without gaps. */
static bool read_shape(struct machine *m, struct sdw_array *array, const struct value *sizes,
                       const struct value *strides, int64_t *count)
{
    if (sizes->kind != LIST || strides->kind != LIST || sizes->as.list.count > SDW_RANK_MAX ||
        strides->as.list.count != sizes->as.list.count)
        return false;
    array->rank = sizes->as.list.count;
    *count = 1;
    for (int i = array->rank - 1; i >= 0; i--) {
        const struct value *size = item(m, sizes, i), *stride = item(m, strides, i);
        if (size->kind != INTEGER || stride->kind != INTEGER || size->as.integer < 0 ||
            (size->as.integer > 1 && stride->as.integer != *count) ||
            __builtin_mul_overflow(*count, size->as.integer, count) || *count > INT64_MAX / 16)
            return false;
        array->dim[i] = size->as.integer;
    }
    return true;
}

/* _rebuild_tensor_v2(storage, offset, size, stride, ...) */
static void push_tensor(struct machine *m, const struct value *args)
{
    const struct value *storage = item(m, args, 0), *offset = item(m, args, 1);
    struct value value = {.kind = ARRAY};
    int64_t count = 0;
    bool sound = storage->kind == HELD && offset->kind == INTEGER && offset->as.integer >= 0 &&
                 read_shape(m, &value.as.array, item(m, args, 2), item(m, args, 3), &count);
    if (!sound) {
        refuse(m, "the pickle has a tensor that is not stored row by row");
        return;
    }
    if (count > storage->as.held.count || offset->as.integer > storage->as.held.count - count) {
        refuse(m,
               "the pickle has a tensor of %" PRId64 " numbers from %" PRId64
               " on in data of %" PRId64,
               count, offset->as.integer, storage->as.held.count);
        return;
    }
    value.as.array.dtype = storage->as.held.dtype;
    value.as.array.data = storage->as.held.member->data +
                          (uint64_t)offset->as.integer * sdw_dtype_bytes(value.as.array.dtype);
    push(m, &value);
}

/* callable, arguments: what the call would have made. */
static void reduce(struct machine *m)
{
    struct value args = *peek(m, 0), callable = *peek(m, 1);
    drop(m, 2);
    if (m->status)
        return;
    if (callable.kind == OTHER) { /* made by something inert */
        push_kind(m, OTHER);
        return;
    }
    if (callable.kind != GLOBAL) {
        refuse(m, "the pickle calls what is no function");
        return;
    }
    switch (callable.as.global->role) {
    case TENSOR_V2: push_tensor(m, &args); return;
    case INERT: push_kind(m, OTHER); return;
    case PARAMETER: {
        struct value tensor = *item(m, &args, 0);
        if (tensor.kind == ARRAY)
            push(m, &tensor);
        else
            refuse(m, "the pickle has a parameter that is no tensor");
        return;
    }
    case DICTIONARY:
        if (args.kind == LIST && args.as.list.count == 0)
            push_kind(m, DICT);
        else
            refuse(m, "the pickle fills an OrderedDict in a way that torch.save does not");
        return;
    case STORAGE: refuse(m, "the pickle calls %s", callable.as.global->name); return;
    }
}

/* ---- instructions ---- */

static void memo_put(struct machine *m, uint64_t index)
{
    if (index >= VALUES_MAX) {
        refuse(m, "the pickle notes value %" PRIu64 ", the limit is %d", index, VALUES_MAX);
        return;
    }
    peek(m, 0);
    while (!m->status && (uint64_t)m->memo.count <= index)
        append(m, &m->memo.at, &m->memo.count, &m->memo.capacity, -1);
    if (!m->status)
        m->memo.at[index] = m->stack.at[m->stack.count - 1];
}

static void memo_get(struct machine *m, uint64_t index)
{
    if (index >= (uint64_t)m->memo.count || m->memo.at[index] < 0)
        refuse(m, "the pickle asks for a value %" PRIu64 " that it never noted", index);
    else
        push_index(m, m->memo.at[index]);
}

/* Numbers, texts and notes; false for another instruction. */
static bool run_literal(struct machine *m, unsigned char code)
{
    switch (code) {
    case 'N':                                         /* NONE */
    case 0x88:                                        /* NEWTRUE */
    case 0x89: push_kind(m, OTHER); break;            /* NEWFALSE */
    case 'G': take(m, 8), push_kind(m, OTHER); break; /* BINFLOAT */
    case 'K': push_integer(m, (int64_t)take_number(m, 1)); break;
    case 'M': push_integer(m, (int64_t)take_number(m, 2)); break;
    case 'J': push_long(m, 4); break;
    case 0x8a: push_long(m, take_number(m, 1)); break; /* LONG1 */
    case 'X':                                          /* BINUNICODE */
    case 'T': push_text(m, take_number(m, 4)); break;  /* BINSTRING */
    case 'U':                                          /* SHORT_BINSTRING */
    case 0x8c: push_text(m, take_number(m, 1)); break; /* SHORT_BINUNICODE */
    case 'q': memo_put(m, take_number(m, 1)); break;
    case 'r': memo_put(m, take_number(m, 4)); break;
    case 0x94: memo_put(m, (uint64_t)m->memo.count); break; /* MEMOIZE */
    case 'h': memo_get(m, take_number(m, 1)); break;
    case 'j': memo_get(m, take_number(m, 4)); break;
    default: return false;
    }
    return true;
}

/* Adds what stands above the mark to the value below it, and drops the mark. */
static void collect_marked(struct machine *m, enum kind kind)
{
    int count = above_mark(m);
    if (m->status)
        return;
    collect(m, count + 1, count, kind);
    drop(m, count + 1);
}

static void gather_marked(struct machine *m, enum kind kind)
{
    int count = above_mark(m);
    if (!m->status)
        gather(m, count, true, kind);
}

/* Lists, tuples, dictionaries, objects; false for another instruction. */
static bool run_object(struct machine *m, unsigned char code)
{
    switch (code) {
    case '(': push_kind(m, MARK); break;
    case ']':                                            /* EMPTY_LIST */
    case ')': push_kind(m, LIST); break;                 /* EMPTY_TUPLE */
    case '}': push_kind(m, DICT); break;                 /* EMPTY_DICT */
    case 'l':                                            /* LIST */
    case 't': gather_marked(m, LIST); break;             /* TUPLE */
    case 'd': gather_marked(m, DICT); break;             /* DICT */
    case 0x85: gather(m, 1, false, LIST); break;         /* TUPLE1 */
    case 0x86: gather(m, 2, false, LIST); break;         /* TUPLE2 */
    case 0x87: gather(m, 3, false, LIST); break;         /* TUPLE3 */
    case 'a': collect(m, 1, 1, LIST), drop(m, 1); break; /* APPEND */
    case 's': collect(m, 2, 2, DICT), drop(m, 2); break; /* SETITEM */
    case 'e': collect_marked(m, LIST); break;            /* APPENDS */
    case 'u': collect_marked(m, DICT); break;            /* SETITEMS */
    case '0': peek(m, 0), drop(m, 1); break;             /* POP */
    case 'c': named_global(m); break;                    /* GLOBAL */
    case 0x93: stack_global(m); break;                   /* STACK_GLOBAL */
    case 'R':                                            /* REDUCE */
    case 0x81: reduce(m); break;                         /* NEWOBJ */
    case 'b': peek(m, 1), drop(m, 1); break; /* BUILD: the state of an object, not of weights */
    case 'Q': push_storage(m); break;        /* BINPERSID */
    default: return false;
    }
    return true;
}

static void run(struct machine *m)
{
    while (!m->status) {
        const unsigned char *code = take(m, 1);
        if (!code || *code == '.') /* STOP */
            return;
        if (*code == 0x80) /* PROTO */
            take(m, 1);
        else if (*code == 0x95) /* FRAME */
            take(m, 8);
        else if (!run_literal(m, *code) && !run_object(m, *code))
            refuse(m, "the pickle has instruction 0x%02x, which no file of weights needs: refused",
                   *code);
    }
}

/* ---- the file ---- */

/* The value of `key` in a dictionary, or NULL. */
static const struct value *lookup(const struct machine *m, const struct value *dict,
                                  const char *key)
{
    for (int i = 0; i + 1 < dict->as.list.count; i += 2)
        if (is_text(&m->value[dict->as.list.item[i]], key))
            return &m->value[dict->as.list.item[i + 1]];
    return NULL;
}

static void add_tensors(struct machine *m, struct sdw_weights *weights)
{
    const struct value *top = peek(m, 0);
    if (!m->status && top->kind != DICT)
        refuse(m, "the pickle is not a dictionary of tensors");
    if (m->status)
        return;
    const struct value *inner = lookup(m, top, "state_dict");
    if (inner && inner->kind == DICT)
        top = inner;
    int before = weights->count;
    for (int i = 0; i + 1 < top->as.list.count && !m->status; i += 2) {
        const struct value *key = &m->value[top->as.list.item[i]];
        const struct value *value = &m->value[top->as.list.item[i + 1]];
        if (key->kind == TEXT && value->kind == ARRAY)
            m->status = sdw_weights_add(weights, key->as.text.at, key->as.text.bytes,
                                        &value->as.array, m->err);
    }
    if (weights->count == before)
        refuse(m, "the pickle holds no tensors by name");
}

static void free_machine(struct machine *m)
{
    for (int i = 0; i < m->values; i++)
        if (m->value[i].kind == LIST || m->value[i].kind == DICT)
            free(m->value[i].as.list.item);
    free(m->value);
    free(m->stack.at);
    free(m->memo.at);
}

static const struct sdw_zip_member *find_pickle(const struct sdw_zip *zip)
{
    static const char name[] = "data.pkl";
    size_t n = strlen(name);
    for (int i = 0; i < zip->count; i++) {
        const struct sdw_zip_member *member = &zip->member[i];
        if (member->name_bytes >= n && member->name_bytes < MEMBER_NAME_MAX / 2 &&
            memcmp(member->name + member->name_bytes - n, name, n) == 0)
            return member;
    }
    return NULL;
}

enum sdw_status sdw_pickle_parse(struct sdw_weights *weights, const char *path,
                                 const struct sdw_mapping *mapping, struct sdw_error *err)
{
    struct sdw_zip zip;
    enum sdw_status status = sdw_zip_open(&zip, path, mapping, err);
    const struct sdw_zip_member *pickle = status ? NULL : find_pickle(&zip);
    if (!status && !pickle)
        status =
            sdw_fail(err, SDW_FORMAT, "%s: an archive without data.pkl: not of torch.save", path);
    if (!status && pickle->bytes > PICKLE_BYTES_MAX)
        status =
            sdw_fail(err, SDW_TOO_LARGE, "%s: its pickle has %" PRIu64 " bytes, the limit is %u",
                     path, pickle->bytes, PICKLE_BYTES_MAX);
    if (!status) {
        const unsigned char *start = (const unsigned char *)pickle->data;
        struct machine m = {.path = path,
                            .err = err,
                            .zip = &zip,
                            .root = pickle->name,
                            .root_bytes = pickle->name_bytes - strlen("data.pkl"),
                            .at = start,
                            .end = start + pickle->bytes};
        run(&m);
        add_tensors(&m, weights);
        status = m.status;
        free_machine(&m);
    }
    sdw_zip_free(&zip);
    return status;
}
