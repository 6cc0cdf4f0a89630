/* transfer.h: the files of a listing into the blobs folder, several at once. */
#ifndef SDW_HUB_TRANSFER_H
#define SDW_HUB_TRANSFER_H

#include "hub/listing.h"
#include "hub/request.h"

#define SDW_TRANSFERS_MAX 4 /* at once */

/* Brings every file of `listing` to blobs/DIGEST that is not there yet: into
 * blobs/DIGEST.incomplete, from where an earlier call left it, and under its name only when size
 * and checksum are right and the bytes are on the disk. */
enum sdw_status sdw_transfer_all(const struct sdw_hub *hub, const struct sdw_listing *listing,
                                 const char *blobs, struct sdw_error *err);

/* Bytes of `file` that are in `blobs` already, whole or in part. */
int64_t sdw_transfer_present(const struct sdw_hub_file *file, const char *blobs);

#endif
