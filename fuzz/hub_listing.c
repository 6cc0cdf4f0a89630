/* hub_listing.c: any bytes as the hub's answer about a repository. What is chosen can only be names
 * that stay inside the model's folder, with sizes and checksums that are sound. */
#include "fuzz.h"

#include "hub/listing.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct sdw_listing listing;
    struct sdw_error err = {0};
    enum sdw_status status =
        sdw_listing_parse(&listing, (const char *)data, size, "tiny/model", &err);
    if (status) {
        FUZZ_CHECK(err.status == status && err.message[0]);
        return 0;
    }
    int64_t bytes = 0;
    FUZZ_CHECK(listing.count > 0 && listing.count <= SDW_LISTING_FILES_MAX);
    FUZZ_CHECK(strspn(listing.commit, "0123456789abcdef") == 40 && !listing.commit[40]);
    for (int i = 0; i < listing.count; i++) {
        const struct sdw_hub_file *file = &listing.file[i];
        size_t digits = file->sha256 ? 64 : 40;
        FUZZ_CHECK(strspn(file->digest, "0123456789abcdef") == digits && !file->digest[digits]);
        FUZZ_CHECK(file->size >= 0 && file->size <= SDW_LISTING_SIZE_MAX);
        FUZZ_CHECK(file->name[0] != '/' && !strstr(file->name, "..") && !strstr(file->name, "//"));
        bytes += file->size;
    }
    FUZZ_CHECK(bytes == listing.bytes);
    return 0;
}
