/* amx_weight.h: how amx_pack.c lays out what amx_matrix.c reads. */
#ifndef SDW_BACKEND_CPU_AMX_WEIGHT_H
#define SDW_BACKEND_CPU_AMX_WEIGHT_H

#include "backend/cpu/amx.h"

#define AMX_PANEL 32 /* output channels side by side: two tiles */

/* [panels][phases][steps][taps][2][tile]: for 32 output channels at a time, 32 input channels a
 * step, a matrix for each pixel of the kernel: so all its pixels meet a few steps' channels while
 * those are in the first-level cache. Of a doubled picture there are four phases, 2 * (odd row) +
 * (odd column) of the output, with 2x2 pixels each. */
struct sdw_amx_weight {
    int panels, phases, steps, taps;
    uint16_t *tiles;
};

#define AMX_STEP 1024 /* numbers of a matrix in a step: two tiles */

/* Numbers of a panel. */
static inline int64_t sdw_amx_panel_count(const struct sdw_amx_weight *w)
{
    return (int64_t)w->phases * w->steps * w->taps * AMX_STEP;
}

#endif
