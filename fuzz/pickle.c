/* pickle.c: any bytes as a file of torch.save; bytes that are no archive stand for its pickle
 * alone, so that the machine is reached without guessing a zip directory. */
#include "weights.h"

static uint8_t *put(uint8_t *at, uint32_t value, int bytes)
{
    for (int i = 0; i < bytes; i++)
        *at++ = (uint8_t)(value >> 8 * i);
    return at;
}

static uint8_t *put_member(uint8_t *at, uint32_t signature, const char *name, size_t size,
                           size_t offset)
{
    bool central = signature == 0x02014b50;
    at = put(at, signature, 4);
    memset(at, 0, 42);
    uint8_t *sizes = at + (central ? 16 : 14), *end = at + (central ? 42 : 26);
    put(put(put(sizes, (uint32_t)size, 4), (uint32_t)size, 4), (uint32_t)strlen(name), 2);
    if (central)
        put(at + 38, (uint32_t)offset, 4);
    memcpy(end, name, strlen(name));
    return end + strlen(name);
}

/* An archive of data.pkl and of 64 bytes data/0, into a buffer that the caller frees. */
static uint8_t *wrap(const uint8_t *data, size_t size, size_t *bytes)
{
    static const char storage[64] = {1, 2, 3};
    uint8_t *file = malloc(size + 1024), *at = file;
    FUZZ_CHECK(file);
    at = put_member(at, 0x04034b50, "a/data.pkl", size, 0);
    memcpy(at, data, size);
    at += size;
    size_t second = (size_t)(at - file);
    at = put_member(at, 0x04034b50, "a/data/0", sizeof storage, 0);
    memcpy(at, storage, sizeof storage);
    at += sizeof storage;
    size_t directory = (size_t)(at - file);
    at = put_member(at, 0x02014b50, "a/data.pkl", size, 0);
    at = put_member(at, 0x02014b50, "a/data/0", sizeof storage, second);
    size_t length = (size_t)(at - file) - directory;
    at = put(put(put(at, 0x06054b50, 4), 0, 4), 2, 2);
    at = put(put(put(put(at, 2, 2), (uint32_t)length, 4), (uint32_t)directory, 4), 0, 2);
    *bytes = (size_t)(at - file);
    return file;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    bool archive = size >= 4 && memcmp(data, "PK\3\4", 4) == 0;
    size_t bytes = size;
    uint8_t *wrapped = archive ? NULL : wrap(data, size, &bytes);
    fuzz_parse(sdw_pickle_parse, wrapped ? wrapped : data, bytes);
    free(wrapped);
    return 0;
}
