/* amx_product.h: matrix products on tiles, as linear layers and convolutions ask for them. */
#ifndef SDW_BACKEND_CPU_AMX_PRODUCT_H
#define SDW_BACKEND_CPU_AMX_PRODUCT_H

#include "backend/cpu/amx_weight.h"
#include "backend/cpu/kernels.h"

#define AMX_TAPS_MAX 9

/* What outputs are the sum of: in each step 32 input channels under each pixel of the kernel, which
 * lie `a` numbers on after each row's start and meet weights `b` numbers on after a panel's. */
struct sdw_amx_sum {
    struct {
        int64_t a, b;
    } tap[AMX_TAPS_MAX];
    int taps, steps;
    int64_t next; /* numbers from a step's weights to the next step's */
};

/* Rows of A and where their outputs go. Row r is pixel r % line of line r / line; those from
 * `width` on lie between the lines of a picture and are not written. */
struct sdw_amx_rows {
    const uint16_t *a;
    int64_t pitch; /* numbers from one row to the next; readable up to a multiple of 16 rows */
    int count;
    int line, width;
    int64_t at, pixel_step, line_step; /* in the output, in numbers */
};

struct sdw_amx_product {
    const struct sdw_cpu_kernels *kernels;
    const struct sdw_tensor *out, *residual; /* residual: NULL or of out's size and type */
    const struct sdw_amx_weight *weight;
    const float *bias;
    enum sdw_act act;
};

/* Floats of scratch for `rows` rows of one product. */
size_t sdw_amx_scratch_floats(int rows);

/* out = act(rows . panel + bias) + residual for the 32 output channels of a panel. To be called
 * between tiles_begin and tiles_end. */
void sdw_amx_panel_run(const struct sdw_amx_product *product, const struct sdw_amx_sum *sum,
                       const struct sdw_amx_rows *rows, int panel, float *scratch);

#endif
