/* digest.c: see digest.h. SHA-256 is libsodium's; SHA-1 is here because libsodium, rightly, has
 * none. */
#include "hub/digest.h"

#include <stdio.h>
#include <string.h>

static uint32_t rotate(uint32_t x, int by)
{
    return x << by | x >> (32 - by);
}

/* FIPS 180-4, section 6.1.2. */
static void sha1_block(uint32_t *state, const uint8_t *block)
{
    uint32_t w[80];
    for (int t = 0; t < 16; t++)
        w[t] = (uint32_t)block[4 * t] << 24 | (uint32_t)block[4 * t + 1] << 16 |
               (uint32_t)block[4 * t + 2] << 8 | block[4 * t + 3];
    for (int t = 16; t < 80; t++)
        w[t] = rotate(w[t - 3] ^ w[t - 8] ^ w[t - 14] ^ w[t - 16], 1);
    uint32_t a = state[0], b = state[1], c = state[2], d = state[3], e = state[4];
    for (int t = 0; t < 80; t++) {
        uint32_t mix = t < 20   ? ((b & c) | (~b & d)) + 0x5a827999
                       : t < 40 ? (b ^ c ^ d) + 0x6ed9eba1
                       : t < 60 ? ((b & c) | (b & d) | (c & d)) + 0x8f1bbcdc
                                : (b ^ c ^ d) + 0xca62c1d6;
        uint32_t next = rotate(a, 5) + mix + e + w[t];
        e = d;
        d = c;
        c = rotate(b, 30);
        b = a;
        a = next;
    }
    state[0] += a;
    state[1] += b;
    state[2] += c;
    state[3] += d;
    state[4] += e;
}

static void sha1_update(struct sdw_digest *digest, const uint8_t *bytes, size_t length)
{
    while (length > 0) {
        size_t filled = digest->length % 64, n = 64 - filled;
        if (n > length)
            n = length;
        memcpy(digest->block + filled, bytes, n);
        digest->length += n;
        bytes += n;
        length -= n;
        if (digest->length % 64 == 0)
            sha1_block(digest->state, digest->block);
    }
}

void sdw_digest_init(struct sdw_digest *digest, bool sha256, int64_t size)
{
    static const uint32_t start[5] = {0x67452301, 0xefcdab89, 0x98badcfe, 0x10325476, 0xc3d2e1f0};
    *digest = (struct sdw_digest){.sha256 = sha256};
    if (sha256) {
        crypto_hash_sha256_init(&digest->large);
        return;
    }
    char head[32];
    memcpy(digest->state, start, sizeof start);
    int n = snprintf(head, sizeof head, "blob %lld", (long long)size);
    sha1_update(digest, (const uint8_t *)head, (size_t)n + 1); /* its NUL too */
}

void sdw_digest_update(struct sdw_digest *digest, const void *bytes, size_t length)
{
    if (digest->sha256)
        crypto_hash_sha256_update(&digest->large, bytes, length);
    else
        sha1_update(digest, bytes, length);
}

void sdw_digest_final(struct sdw_digest *digest, char *hex)
{
    uint8_t out[32];
    if (digest->sha256) {
        crypto_hash_sha256_final(&digest->large, out);
        sodium_bin2hex(hex, SDW_DIGEST_HEX_MAX, out, 32);
        return;
    }
    uint64_t bits = digest->length * 8;
    uint8_t length[8];
    for (int i = 0; i < 8; i++)
        length[i] = (uint8_t)(bits >> (56 - 8 * i));
    sha1_update(digest, (const uint8_t[]){0x80}, 1);
    while (digest->length % 64 != 56)
        sha1_update(digest, (const uint8_t[]){0}, 1);
    sha1_update(digest, length, 8);
    for (int i = 0; i < 20; i++)
        out[i] = (uint8_t)(digest->state[i / 4] >> (24 - i % 4 * 8));
    sodium_bin2hex(hex, SDW_DIGEST_HEX_MAX, out, 20);
}
