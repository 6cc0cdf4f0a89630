/* amx_weight.h: how amx_pack.c lays out what amx_matrix.c reads. */
#ifndef SDW_BACKEND_CPU_AMX_WEIGHT_H
#define SDW_BACKEND_CPU_AMX_WEIGHT_H

#include "backend/cpu/amx.h"

#define AMX_PANEL 32 /* output channels side by side: two tiles */

/* [panels][matrices][steps][2][tile]: for 32 output channels at a time a matrix for each pixel of
 * the kernel, 32 input channels a step. Of a doubled picture the matrices are [phase][tap], phase =
 * 2 * (odd row) + (odd column) of the output and tap = 2 * y + x of the 2x2 pixels that it sees. */
struct sdw_amx_weight {
    int panels, matrices, steps;
    uint16_t *tiles;
};

/* Numbers of a panel. */
static inline int64_t sdw_amx_panel_count(const struct sdw_amx_weight *w)
{
    return (int64_t)w->matrices * w->steps * 2 * 512;
}

#endif
