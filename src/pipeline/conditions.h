/* conditions.h: from prompts to what the UNet is conditioned on. */
#ifndef SDW_PIPELINE_CONDITIONS_H
#define SDW_PIPELINE_CONDITIONS_H

#include "pipeline/wording.h"

/* Rows are uncond, cond with guidance, else cond alone. All arrays are owned. */
struct sdw_conditions {
    struct sdw_wording wording;
    int rows, tokens, clip_skip;
    float *hidden;   /* [rows,tokens,context width] */
    float *pooled;   /* [rows,pooled width], XL only */
    float *time_ids; /* [rows,time ids], XL only */
    float *guidance; /* [rows], models with an embedded guidance scale only */
};

/* Encodes both prompts, or takes what `options` brings. *conditions must be zeroed; free it also
 * after a failure. */
enum sdw_status sdw_conditions_make(struct sdw_conditions *conditions, struct sdw_engine *engine,
                                    const struct sdw_params *params,
                                    const struct sdw_generate_options *options,
                                    struct sdw_error *err);
void sdw_conditions_free(struct sdw_conditions *conditions);

#endif
