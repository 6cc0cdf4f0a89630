/* noise.h: standard normal numbers from a seed, as other programs draw them.
 *
 * A `struct sdw_noise` is a plain value without pointers: copy it to fork a generator, write its
 * bytes to resume one later on the same build. */
#ifndef SDW_SAMPLE_NOISE_H
#define SDW_SAMPLE_NOISE_H

#include <stdbool.h>
#include <stdint.h>

enum sdw_noise_kind {
    /* torch.randn(generator=torch.Generator("cpu")): mt19937 and Box-Muller, bit for bit what
     * PyTorch gives on a CPU with AVX2. Only the lower 32 bits of the seed count. */
    SDW_NOISE_TORCH_CPU,
    /* torch.randn(device="cuda") as A1111's web UI reproduces it: Philox 4x32-10. */
    SDW_NOISE_PHILOX,
};

#define SDW_MT19937_WORDS 624

struct sdw_noise {
    enum sdw_noise_kind kind;
    uint64_t seed;
    uint32_t calls; /* philox: how many fills came before */
    uint32_t word[SDW_MT19937_WORDS];
    int position;  /* of the next word; SDW_MT19937_WORDS when they must be stirred first */
    bool has_rest; /* an odd small fill leaves the second value of its last pair */
    double rest;
};

void sdw_noise_seed(struct sdw_noise *noise, enum sdw_noise_kind kind, uint64_t seed);

/* One torch.randn of `count` values. The values depend on how they are grouped into calls. */
void sdw_noise_fill(struct sdw_noise *noise, float *values, int64_t count);

/* "torch-cpu" or "philox"; false for any other name. */
bool sdw_noise_kind_find(enum sdw_noise_kind *kind, const char *name);

#endif
