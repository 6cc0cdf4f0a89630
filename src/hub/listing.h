/* listing.h: what a hub repository holds, and which of its files a model needs.
 *
 * The listing is the hub's answer to GET /api/models/REPOSITORY/revision/main?blobs=true. Nothing
 * in it is trusted: a file is chosen only when its name is one that a diffusers folder has. */
#ifndef SDW_HUB_LISTING_H
#define SDW_HUB_LISTING_H

#include "base/status.h"
#include "hub/digest.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SDW_LISTING_BYTES_MAX (4u << 20) /* of the JSON */
#define SDW_LISTING_FILES_MAX 256        /* chosen */
#define SDW_LISTING_NAME_MAX  128        /* bytes of a chosen file's path, its NUL included */
#define SDW_LISTING_SIZE_MAX  (INT64_C(1) << 50) /* bytes of one file */

struct sdw_hub_file {
    char name[SDW_LISTING_NAME_MAX]; /* path inside the repository, e.g. unet/config.json */
    char digest[SDW_DIGEST_HEX_MAX]; /* names the blob: SHA-256, or git's id */
    bool sha256;                     /* which of the two */
    int64_t size;                    /* bytes */
};

struct sdw_listing {
    char commit[SDW_DIGEST_HEX_MAX];
    struct sdw_hub_file file[SDW_LISTING_FILES_MAX];
    int count;
    int64_t bytes; /* sum of sizes */
};

/* Reads JSON and keeps what the model needs: model_index.json, configurations, vocabularies, and
 * for each component one set of safetensors, the fp16 variant when there is one. Of a repository
 * without a model_index.json that has a vocabulary at its top (CLIP's own) that alone is kept.
 * SDW_FORMAT: no such answer, or names that lead out of a folder. SDW_MODEL: the repository holds
 * no diffusers model in safetensors; the sentence names what is missing. */
enum sdw_status sdw_listing_parse(struct sdw_listing *listing, const char *json, size_t length,
                                  const char *repository, struct sdw_error *err);

#endif
