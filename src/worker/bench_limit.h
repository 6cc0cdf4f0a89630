/* bench_limit.h: where the seconds of a run went, held against the most that the device can do. */
#ifndef SDW_WORKER_BENCH_LIMIT_H
#define SDW_WORKER_BENCH_LIMIT_H

#include "pipeline/progress.h"
#include "tensor/ops.h"
#include "tensor/profile.h"

#include <jansson.h>

/* {"limits": {"f32_gflops", "compute_gflops", "read_gbytes"}, all a second; "stages": [{"stage",
 * "seconds" (of one evaluation, for the UNet), "floor_s" (its operations in their direct form at
 * the peak), "times_floor", "accounted" (the share of the seconds that operators took),
 * "operators":
 * [{"name", "calls", "seconds", "share" (of the stage), "gflops" or "gbytes" a second, "peak" (the
 * share of the limit)}]}]}, by kind of operator or, when each_shape, by operator and shape. Stages
 * that did not run are left out. The caller owns the result. */
json_t *sdw_bench_limit(const struct sdw_profile *profile, const struct sdw_limits *limits,
                        const struct sdw_result *result, bool each_shape);

/* The same for people. */
void sdw_bench_limit_print(const json_t *report);

#endif
