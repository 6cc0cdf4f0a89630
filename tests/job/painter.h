/* painter.h: a runner for tests: paints a gradient that depends on the request alone, one step
 * after the other, as slowly as it is told. */
#ifndef PAINTER_H
#define PAINTER_H

#include "pipeline/progress.h"

#include <stdatomic.h>

struct painter {
    atomic_int step_ms;     /* time that a step takes */
    atomic_int hold;        /* while not 0: waits at step 1 (and looks at cancel) */
    atomic_bool deaf;       /* does not look at cancel */
    atomic_bool encodes;    /* says when it has painted; then... */
    atomic_int hold_encode; /* ...while not 0: waits */
    const char *fail;       /* sentence that every run fails with, or NULL */
    atomic_int runs, ended; /* runs begun and over */
    atomic_int skipped;     /* steps that were not painted, because a saved run had them */
    atomic_int input_bytes; /* of the last run's init_image */
    atomic_ullong last_seed;
};

struct sdw_runner painter_runner(struct painter *painter);

/* A gradient as PNG, as the painter makes it. */
enum sdw_status painter_png(struct sdw_text *png, int width, int height, uint64_t seed);

#endif
