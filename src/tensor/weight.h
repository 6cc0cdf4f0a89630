/* weight.h: what every packed weight begins with, whatever the device keeps behind it. */
#ifndef SDW_TENSOR_WEIGHT_H
#define SDW_TENSOR_WEIGHT_H

#include "tensor/ops.h"

#include <stdbool.h>

struct sdw_weight {
    int in, out; /* channels */
    int kernel;  /* 0: linear; else the width of a square convolution kernel */
    struct sdw_conv_geometry geometry; /* convolutions only */
    size_t bytes;                      /* device memory that the packed weight takes */
    const char *form; /* for profiles: what computes with it, ", oneDNN"; NULL: nobody says */
    bool mapped;      /* it is read from the file's own pages, which it holds; no copy was made */
};

#endif
