/* zip.c: see zip.h. Reads the central directory at the end and nothing else: what stands before
 * each member is believed only for the length that it adds. */
#include "weights/zip.h"

#include <stdlib.h>
#include <string.h>

#define END_SIGNATURE     0x06054b50u
#define END_BYTES         22
#define COMMENT_BYTES_MAX 65535
#define LOCATOR_SIGNATURE 0x07064b50u
#define LOCATOR_BYTES     20
#define END64_SIGNATURE   0x06064b50u
#define END64_BYTES       56
#define CENTRAL_SIGNATURE 0x02014b50u
#define CENTRAL_BYTES     46
#define LOCAL_SIGNATURE   0x04034b50u
#define LOCAL_BYTES       30
#define EXTRA_ZIP64       1
#define IN_ZIP64          0xffffffffu

static uint64_t number(const unsigned char *at, int bytes)
{
    uint64_t value = 0;
    for (int i = bytes - 1; i >= 0; i--)
        value = value << 8 | at[i];
    return value;
}

/* The record at `offset`, if `bytes` bytes of it lie in the file and it begins with `signature`. */
static const unsigned char *record(const struct sdw_mapping *file, uint64_t offset, size_t bytes,
                                   uint32_t signature)
{
    if (file->bytes < bytes || offset > file->bytes - bytes)
        return NULL;
    const unsigned char *at = (const unsigned char *)file->start + offset;
    return number(at, 4) == signature ? at : NULL;
}

struct directory {
    uint64_t members, bytes, offset;
};

/* The end record is the last thing but for a comment; a zip64 one may stand before it. */
static bool find_directory(struct directory *directory, const struct sdw_mapping *file)
{
    if (file->bytes < END_BYTES)
        return false;
    uint64_t last = file->bytes - END_BYTES;
    uint64_t first = last > COMMENT_BYTES_MAX ? last - COMMENT_BYTES_MAX : 0, at = last;
    const unsigned char *end;
    while (!(end = record(file, at, END_BYTES, END_SIGNATURE)))
        if (at-- == first)
            return false;
    *directory = (struct directory){number(end + 10, 2), number(end + 12, 4), number(end + 16, 4)};
    const unsigned char *locator =
        at < LOCATOR_BYTES ? NULL
                           : record(file, at - LOCATOR_BYTES, LOCATOR_BYTES, LOCATOR_SIGNATURE);
    const unsigned char *end64 =
        locator ? record(file, number(locator + 8, 8), END64_BYTES, END64_SIGNATURE) : NULL;
    if (end64)
        *directory =
            (struct directory){number(end64 + 32, 8), number(end64 + 40, 8), number(end64 + 48, 8)};
    return !locator || end64;
}

/* What did not fit into four bytes stands in a zip64 field, in the order size, stored size, offset.
 */
static bool read_zip64(const unsigned char *extra, size_t bytes, uint64_t *value[3])
{
    while (bytes >= 4) {
        size_t length = (size_t)number(extra + 2, 2);
        if (length > bytes - 4)
            return false;
        if (number(extra, 2) == EXTRA_ZIP64) {
            size_t at = 0;
            for (int i = 0; i < 3; i++) {
                if (*value[i] != IN_ZIP64)
                    continue;
                if (at + 8 > length)
                    return false;
                *value[i] = number(extra + 4 + at, 8);
                at += 8;
            }
            return true;
        }
        extra += 4 + length;
        bytes -= 4 + length;
    }
    return true;
}

/* One central header at *at, which moves behind it. Returns NULL or what is wrong. */
static const char *read_member(struct sdw_zip_member *member, const struct sdw_mapping *file,
                               uint64_t *at)
{
    const unsigned char *central = record(file, *at, CENTRAL_BYTES, CENTRAL_SIGNATURE);
    if (!central)
        return "its list of members is broken";
    size_t name = (size_t)number(central + 28, 2), extra = (size_t)number(central + 30, 2),
           comment = (size_t)number(central + 32, 2);
    if (name + extra + comment > file->bytes - *at - CENTRAL_BYTES)
        return "its list of members is cut off";
    uint64_t stored = number(central + 20, 4), bytes = number(central + 24, 4),
             offset = number(central + 42, 4);
    if (!read_zip64(central + CENTRAL_BYTES + name, extra,
                    (uint64_t *[]){&bytes, &stored, &offset}))
        return "its zip64 sizes are broken";
    if (number(central + 10, 2) != 0 || stored != bytes)
        return "it is compressed, which torch.save never does";
    const unsigned char *local = record(file, offset, LOCAL_BYTES, LOCAL_SIGNATURE);
    if (!local)
        return "a member is not where its list says";
    uint64_t data = offset + LOCAL_BYTES + number(local + 26, 2) + number(local + 28, 2);
    if (data > file->bytes || bytes > file->bytes - data)
        return "a member goes beyond its end: it is truncated, get it again";
    *member = (struct sdw_zip_member){(const char *)central + CENTRAL_BYTES, name,
                                      (const char *)file->start + data, bytes};
    *at += CENTRAL_BYTES + name + extra + comment;
    return NULL;
}

static int compare(const char *a, size_t a_bytes, const char *b, size_t b_bytes)
{
    int order = memcmp(a, b, a_bytes < b_bytes ? a_bytes : b_bytes);
    return order ? order : (a_bytes > b_bytes) - (a_bytes < b_bytes);
}

static int by_name(const void *a, const void *b)
{
    const struct sdw_zip_member *x = a, *y = b;
    return compare(x->name, x->name_bytes, y->name, y->name_bytes);
}

enum sdw_status sdw_zip_open(struct sdw_zip *zip, const char *path,
                             const struct sdw_mapping *mapping, struct sdw_error *err)
{
    *zip = (struct sdw_zip){0};
    struct directory directory;
    if (!find_directory(&directory, mapping))
        return sdw_fail(err, SDW_FORMAT,
                        "%s: no list of members at the end of the archive: it is truncated, get it "
                        "again",
                        path);
    if (directory.members > SDW_ZIP_MEMBERS_MAX ||
        directory.members > mapping->bytes / CENTRAL_BYTES)
        return sdw_fail(err, SDW_TOO_LARGE, "%s: the archive claims %llu members, the limit is %d",
                        path, (unsigned long long)directory.members, SDW_ZIP_MEMBERS_MAX);
    zip->member = calloc((size_t)directory.members + 1, sizeof *zip->member);
    if (!zip->member)
        return sdw_fail(err, SDW_MEMORY, "%s: no memory for its list of members", path);
    uint64_t at = directory.offset;
    for (; (uint64_t)zip->count < directory.members; zip->count++) {
        const char *fault = read_member(&zip->member[zip->count], mapping, &at);
        if (fault)
            return sdw_fail(err, SDW_FORMAT, "%s: the archive is not sound: %s", path, fault);
    }
    qsort(zip->member, (size_t)zip->count, sizeof *zip->member, by_name);
    return SDW_OK;
}

void sdw_zip_free(struct sdw_zip *zip)
{
    free(zip->member);
    *zip = (struct sdw_zip){0};
}

const struct sdw_zip_member *sdw_zip_find(const struct sdw_zip *zip, const char *name,
                                          size_t name_bytes)
{
    struct sdw_zip_member key = {.name = name, .name_bytes = name_bytes};
    return zip->count ? bsearch(&key, zip->member, (size_t)zip->count, sizeof key, by_name) : NULL;
}
