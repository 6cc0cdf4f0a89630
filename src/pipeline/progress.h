/* progress.h: what passes between a running generation and whoever asked for it. */
#ifndef SDW_PIPELINE_PROGRESS_H
#define SDW_PIPELINE_PROGRESS_H

#include "base/status.h"
#include "base/text.h"
#include "pipeline/params.h"

#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>

/* Of the encoded images of a job: over twice the pixels of the largest ones. */
#define SDW_PNG_BYTES_MAX (256u << 20)

struct sdw_progress {
    /* Called from the generating thread, once for every step, 1 to total, in order, counted over
     * all images of the job. NULL: nobody looks. */
    void (*step)(void *context, int step, int total);
    /* Called after a step of a request that asks for previews, in order, from a thread of its own
     * while the next step runs, with a small PNG of the latents; its bytes are gone afterwards. The
     * last has been told when the run returns. NULL: nobody looks. */
    void (*preview)(void *context, int step, int total, const struct sdw_text *png);
    /* Called from the generating thread, at most once, when all that is left is encoding, which the
     * device does not do: another run may begin. NULL: nobody waits for that. */
    void (*computed)(void *context);
    void *context;
    const atomic_bool *cancel; /* polled at each step; NULL: never */

    /* Called from the generating thread after a step, no more often than every save_every_s
     * seconds, with the state from which the run can go on in another process. NULL: never. */
    void (*save)(void *context, const void *bytes, size_t length);
    double save_every_s;
    /* What `save` got in an earlier run of the same request, or NULL. Steps that were done then are
     * neither run nor told again, and the image has the same bytes; a state that does not fit is
     * logged, and the run begins anew. */
    const void *resume;
    size_t resume_length;
};

/* What a generation leaves. The caller initialises png with sdw_text_init(&png, SDW_PNG_BYTES_MAX)
 * and calls sdw_result_free. */
struct sdw_result {
    struct sdw_text png; /* as many files as the request asks images, one after the other;
                            sdw_png_length tells them apart */
    uint64_t seed;       /* of the first */
    int width, height;
    double text_s, unet_s, vae_s, png_s; /* seconds of each stage */
    int evaluations; /* of the UNet: some samplers have more than one a step, or one more */
    char *report; /* owned: JSON about the prompts, see sdw_wording_report; NULL: there is none */
};

static inline void sdw_result_free(struct sdw_result *result)
{
    sdw_text_free(&result->png);
    free(result->report);
    result->report = NULL;
}

/* Whoever can turn a request into an image: the engine, or a stand-in of a test. Fails with
 * SDW_CANCELLED when progress->cancel was set. */
struct sdw_runner {
    void *context;
    enum sdw_status (*run)(void *context, const struct sdw_params *params,
                           const struct sdw_progress *progress, struct sdw_result *result,
                           struct sdw_error *err);
};

#endif
