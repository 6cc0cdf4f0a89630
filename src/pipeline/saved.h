/* saved.h: a run in the middle, as bytes: what sdw_progress.save hands out and .resume takes back.
 *
 * A blob is for the same request, model and build on the same device; it says which request it
 * belongs to by a digest, and any other is refused. */
#ifndef SDW_PIPELINE_SAVED_H
#define SDW_PIPELINE_SAVED_H

#include "base/text.h"
#include "pipeline/params.h"
#include "sample/noise.h"
#include "sample/sampler.h"

#define SDW_SAVED_BYTES_MAX (256u << 20) /* sampler histories of the largest images included */

/* Appends the state before evaluation `next`. x: `count` latents. */
enum sdw_status sdw_saved_write(struct sdw_text *out, const struct sdw_params *params, int next,
                                const float *x, int64_t count, const struct sdw_sampler *sampler,
                                const struct sdw_noise *noise, struct sdw_error *err);

/* Puts the state back; *next is the evaluation to go on with. SDW_INVALID when the blob is not of
 * this request: nothing was changed then. */
enum sdw_status sdw_saved_read(const void *bytes, size_t length, const struct sdw_params *params,
                               int *next, float *x, int64_t count, struct sdw_sampler *sampler,
                               struct sdw_noise *noise, struct sdw_error *err);

#endif
