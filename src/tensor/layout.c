/* layout.c: a plain transposition of [c, h*w] for every image; latents are small. */
#include "tensor/layout.h"

#include <stddef.h>

/* to [rows,columns] = from [columns,rows] transposed, n times. */
static void transpose(float *to, const float *from, size_t n, size_t rows, size_t columns)
{
    for (size_t i = 0; i < n; i++, to += rows * columns, from += rows * columns)
        for (size_t r = 0; r < rows; r++)
            for (size_t c = 0; c < columns; c++)
                to[r * columns + c] = from[c * rows + r];
}

void sdw_nhwc_from_nchw(float *to, const float *from, int n, int c, int h, int w)
{
    transpose(to, from, (size_t)n, (size_t)h * (size_t)w, (size_t)c);
}

void sdw_nchw_from_nhwc(float *to, const float *from, int n, int c, int h, int w)
{
    transpose(to, from, (size_t)n, (size_t)c, (size_t)h * (size_t)w);
}
