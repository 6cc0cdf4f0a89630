/* digest.h: what the hub names a file's bytes by: SHA-256 for large files, and for small ones the
 * id that git gives a blob, SHA-1 of "blob SIZE\0" and the bytes (FIPS 180-4). SHA-1 guards against
 * accidents only, which is all that a config file of a known size needs. */
#ifndef SDW_HUB_DIGEST_H
#define SDW_HUB_DIGEST_H

#include <sodium.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SDW_DIGEST_HEX_MAX 65 /* 64 hexadecimal digits and the NUL */

struct sdw_digest {
    bool sha256;
    crypto_hash_sha256_state large;
    uint32_t state[5]; /* SHA-1 from here on */
    uint64_t length;
    uint8_t block[64];
};

/* size: of the whole file, which git's id begins with. */
void sdw_digest_init(struct sdw_digest *digest, bool sha256, int64_t size);
void sdw_digest_update(struct sdw_digest *digest, const void *bytes, size_t length);
/* Lower-case digits into hex[SDW_DIGEST_HEX_MAX]. */
void sdw_digest_final(struct sdw_digest *digest, char *hex);

#endif
