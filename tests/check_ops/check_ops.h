/* check_ops.h: what the families of check_ops share. */
#ifndef SDW_TESTS_CHECK_OPS_H
#define SDW_TESTS_CHECK_OPS_H

#include "backend/registry.h"

#include <stdbool.h>
#include <stdint.h>

struct check {
    struct sdw_device *fast,
        *plain; /* the device under test, and the CPU's reference kernels in f32 */
    const char *filter;
    bool products; /* the case at hand multiplies matrices in the compute type */
    double tolerance, tolerance_narrow, tolerance_products;
    uint64_t seed, digest;
    int passed, failed;
};

/* The same tensor on both devices. */
struct pair {
    struct sdw_tensor fast, plain;
};

float check_random(uint64_t *state); /* uniform in -1..1 */
bool check_wanted(const struct check *c, const char *name);
struct pair pair_new(struct check *c, enum sdw_dtype dtype, int n, int h, int w, int channels);
/* Random values in -spread..spread, rounded to dtype on both sides. */
struct pair pair_random(struct check *c, enum sdw_dtype dtype, int n, int h, int w, int channels,
                        float spread);
void pair_free(struct check *c, struct pair *pair);
/* Compares, prints, counts, and frees the pair. */
void pair_check(struct check *c, struct pair *pair, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

void check_matrix(struct check *c);
void check_attention(struct check *c);
void check_rest(struct check *c);

#endif
