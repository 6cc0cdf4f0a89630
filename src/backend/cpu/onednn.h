/* onednn.h: linear layers and direct convolutions through oneDNN, 2.6 to 3.x; onednn.c is the one
 * file that knows it. */
#ifndef SDW_BACKEND_CPU_ONEDNN_H
#define SDW_BACKEND_CPU_ONEDNN_H

#include "backend/cpu/cpu.h"

struct sdw_onednn_weight;

/* NULL where oneDNN is not built in, or does not start: then matrix.c takes over. */
struct sdw_onednn *sdw_onednn_open(enum sdw_isa isa);
void sdw_onednn_close(struct sdw_onednn *onednn);
const char *sdw_onednn_version(const struct sdw_onednn *onednn); /* "oneDNN 2.6.3" */

/* Packs weight->base's layer into oneDNN's own format; false after the device has failed. */
bool sdw_onednn_pack(struct sdw_device *dev, struct sdw_cpu_weight *weight,
                     const struct sdw_array *array);
void sdw_onednn_weight_free(struct sdw_onednn_weight *weight);

void sdw_onednn_run(struct sdw_device *dev, const struct sdw_tensor *out,
                    const struct sdw_tensor *in, const struct sdw_cpu_weight *weight,
                    enum sdw_act act, const struct sdw_tensor *residual);

#endif
