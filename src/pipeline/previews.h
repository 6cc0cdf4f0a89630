/* previews.h: previews are drawn, encoded and told on a thread of their own: a device with a queue
 * would wait for each PNG as long as for a tenth of its step. */
#ifndef SDW_PIPELINE_PREVIEWS_H
#define SDW_PIPELINE_PREVIEWS_H

#include "pipeline/preview.h"
#include "pipeline/progress.h"

struct sdw_previews;

/* `preview` and `progress` live longer. Latents will be [channels,h,w]. */
enum sdw_status sdw_previews_open(struct sdw_previews **out, const struct sdw_preview *preview,
                                  const struct sdw_progress *progress, int channels, int h, int w,
                                  struct sdw_error *err);

/* Copies the latents and returns, after the preview before has been told: none is left out. */
void sdw_previews_draw(struct sdw_previews *previews, const float *latents, int step, int steps);

/* Returns when the preview that was last asked for has been told: before the next step is, so that
 * the events of a job have the same order in every run. NULL is allowed. */
void sdw_previews_wait(struct sdw_previews *previews);

/* Returns when the last one has been told. NULL is allowed. */
void sdw_previews_close(struct sdw_previews *previews);

#endif
