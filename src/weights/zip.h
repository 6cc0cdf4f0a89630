/* zip.h: the members of a zip archive in memory, as far as torch.save writes them: stored, not
 * compressed, zip64 or not (PKWARE APPNOTE 6.3). Internal to weights/. */
#ifndef SDW_WEIGHTS_ZIP_H
#define SDW_WEIGHTS_ZIP_H

#include "base/status.h"
#include "weights/file.h"

#define SDW_ZIP_MEMBERS_MAX 131072

struct sdw_zip_member {
    const char *name; /* in the mapping, not NUL-terminated */
    size_t name_bytes;
    const char *data;
    uint64_t bytes;
};

struct sdw_zip {
    struct sdw_zip_member *member; /* by name; owned */
    int count;
};

/* Checks that every member lies in the archive. Free also after a failure. */
enum sdw_status sdw_zip_open(struct sdw_zip *zip, const char *path,
                             const struct sdw_mapping *mapping, struct sdw_error *err);
void sdw_zip_free(struct sdw_zip *zip);

const struct sdw_zip_member *sdw_zip_find(const struct sdw_zip *zip, const char *name,
                                          size_t name_bytes); /* or NULL */

#endif
