/* attention.c: self, cross and causal attention over head widths from 4 to 512. */
#include "check_ops.h"

#include <math.h>
#include <stdio.h>

static void check_one(struct check *c, int n, int queries, int keys, int heads, int width,
                      bool causal, float spread)
{
    char name[128];
    snprintf(name, sizeof name, "attention %d x %d queries, %d keys, %d heads of %d%s, spread %g",
             n, queries, keys, heads, width, causal ? ", causal" : "", (double)spread);
    if (!check_wanted(c, name))
        return;
    enum sdw_dtype dtype = c->fast->compute;
    struct pair q = pair_random(c, dtype, n, queries, 1, heads * width, spread);
    struct pair k = pair_random(c, dtype, n, keys, 1, heads * width, spread);
    struct pair v = pair_random(c, dtype, n, keys, 1, heads * width, 1);
    struct pair out = pair_new(c, dtype, n, queries, 1, heads * width);
    struct sdw_attention_geometry geometry = {heads, 1 / sqrtf((float)width), causal};
    sdw_attention(c->fast, &out.fast, &q.fast, &k.fast, &v.fast, geometry);
    sdw_attention(c->plain, &out.plain, &q.plain, &k.plain, &v.plain, geometry);
    pair_check(c, &out, "%s", name);
    pair_free(c, &q);
    pair_free(c, &k);
    pair_free(c, &v);
}

void check_attention(struct check *c)
{
    c->seed = 1; /* its numbers do not depend on the cases of another family */
    static const int widths[] = {40, 64, 80, 160, 512, 4, 8, 16, 1, 7, 33, 48};
    for (size_t i = 0; i < sizeof widths / sizeof widths[0]; i++) {
        check_one(c, 1, 50, 300, 2, widths[i], false, 1);
        check_one(c, 2, 13, 77, 1, widths[i], false, 1);
        check_one(c, 1, 77, 77, 3, widths[i], true, 1);
    }
    check_one(c, 2, 256, 256, 8, 40, false, 3);
    check_one(c, 1, 64, 154, 8, 80, false, 1);
    check_one(c, 1, 300, 300, 1, 64, true, 4);
    check_one(c, 1, 1, 1, 1, 40, false, 1);
    check_one(c, 1, 1, 513, 1, 40, false, 30); /* scores of hundreds: the running maximum matters */
    check_one(c, 1, 12, 256, 1, 64, false, 30);
}
