/* saved.c: a header, the noise generator, the sampler's state and the latents, in this order. */
#include "pipeline/saved.h"

#include <sodium.h>
#include <stdlib.h>
#include <string.h>

static const char magic[8] = "SDWRUN1";

struct header {
    char magic[8];
    uint8_t request[crypto_hash_sha256_BYTES];
    int64_t count;
    uint64_t sampler_bytes;
    int32_t next, evals;
};

/* A request's digest; images count by theirs. */
static enum sdw_status digest(uint8_t *hash, const struct sdw_params *params, struct sdw_error *err)
{
    struct sdw_text text;
    sdw_text_init(&text, 16 * SDW_PARAMS_TEXT_MAX);
    enum sdw_status status = sdw_params_write(&text, params, true, err);
    if (!status)
        crypto_hash_sha256(hash, (const unsigned char *)text.data, text.length);
    sdw_text_free(&text);
    return status;
}

static enum sdw_status fill(struct header *header, const struct sdw_params *params, int64_t count,
                            const struct sdw_sampler *sampler, struct sdw_error *err)
{
    memset(header, 0, sizeof *header); /* padding, too: the bytes are compared and stored */
    memcpy(header->magic, magic, sizeof magic);
    header->count = count;
    header->sampler_bytes = sdw_sampler_state_bytes(sampler);
    header->evals = sdw_sampler_evals(sampler);
    return digest(header->request, params, err);
}

enum sdw_status sdw_saved_write(struct sdw_text *out, const struct sdw_params *params, int next,
                                const float *x, int64_t count, const struct sdw_sampler *sampler,
                                const struct sdw_noise *noise, struct sdw_error *err)
{
    struct header header;
    enum sdw_status status = fill(&header, params, count, sampler, err);
    if (status)
        return status;
    header.next = next;
    void *state = calloc(1, header.sampler_bytes + 1);
    if (!state)
        return sdw_fail(err, SDW_MEMORY, "no memory to save a run");
    sdw_sampler_state_save(sampler, state);
    status = sdw_text_append(out, &header, sizeof header, err);
    if (!status)
        status = sdw_text_append(out, noise, sizeof *noise, err);
    if (!status)
        status = sdw_text_append(out, state, header.sampler_bytes, err);
    if (!status)
        status = sdw_text_append(out, x, (size_t)count * sizeof *x, err);
    free(state);
    return status;
}

enum sdw_status sdw_saved_read(const void *bytes, size_t length, const struct sdw_params *params,
                               int *next, float *x, int64_t count, struct sdw_sampler *sampler,
                               struct sdw_noise *noise, struct sdw_error *err)
{
    struct header header, expected;
    const char *at = bytes;
    enum sdw_status status = fill(&expected, params, count, sampler, err);
    if (status)
        return status;
    size_t latents = (size_t)count * sizeof *x;
    if (length != sizeof header + sizeof *noise + expected.sampler_bytes + latents)
        return sdw_fail(err, SDW_INVALID, "a saved run of %zu bytes is not one of this request",
                        length);
    memcpy(&header, at, sizeof header);
    at += sizeof header;
    expected.next = header.next;
    if (memcmp(&header, &expected, sizeof header) != 0 || header.next < 1 ||
        header.next > header.evals)
        return sdw_fail(err, SDW_INVALID, "a saved run is not one of this request");
    status = sdw_sampler_state_load(sampler, at + sizeof *noise, expected.sampler_bytes, err);
    if (status)
        return status;
    memcpy(noise, at, sizeof *noise);
    memcpy(x, at + sizeof *noise + expected.sampler_bytes, latents);
    *next = header.next;
    return SDW_OK;
}
