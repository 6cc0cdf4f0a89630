/* resize.c: see resize.h. A pass resamples rows; weights are computed once for each column. */
#include "image/resize.h"

#include <assert.h>
#include <math.h>
#include <stdbool.h>
#include <stdlib.h>

#define LOBES          3
#define PRECISION_BITS 22 /* 8 bits of a pixel and 2 of overshoot leave these of 32 */

/* Output value i is the sum of weight[i * width_max + k] * input[first[i] + k], k < count[i]. */
struct filter {
    int *first, *count; /* [size] */
    int32_t *weight;
    int size, width_max;
};

static double sinc(double x)
{
    return x == 0 ? 1 : sin(M_PI * x) / (M_PI * x);
}

static double lanczos(double x)
{
    return x >= -LOBES && x < LOBES ? sinc(x) * sinc(x / LOBES) : 0;
}

static void filter_free(struct filter *filter)
{
    free(filter->first);
    free(filter->count);
    free(filter->weight);
}

static bool filter_new(struct filter *filter, int from, int to)
{
    assert(to > 0);
    filter->size = to;
    double scale = (double)from / to, stretch = scale > 1 ? scale : 1, support = LOBES * stretch;
    filter->width_max = (int)ceil(support) * 2 + 1;
    filter->first = malloc((size_t)to * sizeof(int));
    filter->count = malloc((size_t)to * sizeof(int));
    filter->weight = malloc((size_t)to * (size_t)filter->width_max * sizeof(int32_t));
    double *exact = malloc((size_t)filter->width_max * sizeof *exact);
    bool ok = filter->first && filter->count && filter->weight && exact;
    for (int i = 0; ok && i < to; i++) {
        double center = (i + 0.5) * scale, sum = 0;
        int first = (int)fmax(center - support + 0.5, 0);
        int end = (int)fmin(center + support + 0.5, from);
        for (int k = 0; k < end - first; k++)
            sum += exact[k] = lanczos((k + first - center + 0.5) / stretch);
        for (int k = 0; k < end - first; k++)
            filter->weight[(size_t)i * (size_t)filter->width_max + (size_t)k] =
                (int32_t)round(exact[k] / sum * (1 << PRECISION_BITS));
        filter->first[i] = first;
        filter->count[i] = end - first;
    }
    free(exact);
    return ok;
}

static uint8_t clip(int32_t sum)
{
    int32_t value = sum >> PRECISION_BITS;
    return (uint8_t)(value < 0 ? 0 : value > 255 ? 255 : value);
}

/* One line: values that lie `step` bytes apart, out of `in` likewise. */
static void line(uint8_t *out, const uint8_t *in, size_t step, const struct filter *filter)
{
    for (int i = 0; i < filter->size; i++) {
        const int32_t *weight = filter->weight + (size_t)i * (size_t)filter->width_max;
        const uint8_t *from = in + (size_t)filter->first[i] * step;
        int32_t sum = 1 << (PRECISION_BITS - 1);
        for (int k = 0; k < filter->count[i]; k++)
            sum += weight[k] * from[(size_t)k * step];
        out[(size_t)i * step] = clip(sum);
    }
}

static void pass(struct sdw_image *to, const struct sdw_image *from, bool rows,
                 const struct filter *filter)
{
    size_t channels = (size_t)from->channels, in_row = (size_t)from->width * channels;
    size_t out_row = (size_t)to->width * channels;
    for (size_t line_at = 0; line_at < (rows ? (size_t)from->height : in_row); line_at++) {
        if (!rows) {
            line(to->pixels + line_at, from->pixels + line_at, in_row, filter);
            continue;
        }
        for (size_t c = 0; c < channels; c++)
            line(to->pixels + line_at * out_row + c, from->pixels + line_at * in_row + c, channels,
                 filter);
    }
}

static enum sdw_status resample(struct sdw_image *to, const struct sdw_image *from, int size,
                                bool rows, struct sdw_error *err)
{
    enum sdw_status status = sdw_image_new(to, rows ? size : from->width,
                                           rows ? from->height : size, from->channels, err);
    if (status)
        return status;
    struct filter filter = {0};
    if (filter_new(&filter, rows ? from->width : from->height, size)) {
        pass(to, from, rows, &filter);
    } else {
        sdw_image_free(to);
        status = sdw_fail(err, SDW_MEMORY, "no memory to resize an image to %d pixels", size);
    }
    filter_free(&filter);
    return status;
}

enum sdw_status sdw_image_resize(struct sdw_image *to, const struct sdw_image *from, int width,
                                 int height, struct sdw_error *err)
{
    struct sdw_image wide;
    enum sdw_status status = resample(&wide, from, width, true, err);
    if (status == SDW_OK) {
        status = resample(to, &wide, height, false, err);
        sdw_image_free(&wide);
    }
    return status;
}

int sdw_image_fit(int pixels)
{
    return pixels < 8 ? 8 : pixels / 8 * 8;
}
