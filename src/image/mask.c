/* mask.c: see mask.h. */
#include "image/mask.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>

#define REPAINTED 128

void sdw_mask_binarise(struct sdw_image *mask)
{
    assert(mask->channels == 1);
    for (size_t i = 0; i < sdw_image_bytes(mask); i++)
        mask->pixels[i] = mask->pixels[i] >= REPAINTED ? 255 : 0;
}

/* ---- blur ---- */

#define REACH_MAX (3 * SDW_MASK_BLUR_MAX)

/* One line of `count` values, `step` bytes apart, through `copy`. */
static void blur_line(uint8_t *line, int count, size_t step, const double *weight, int reach,
                      uint8_t *copy)
{
    for (int i = 0; i < count; i++)
        copy[i] = line[(size_t)i * step];
    for (int i = 0; i < count; i++) {
        double sum = 0;
        for (int k = -reach; k <= reach; k++) {
            int from = i + k < 0 ? 0 : i + k >= count ? count - 1 : i + k;
            sum += weight[abs(k)] * copy[from];
        }
        line[(size_t)i * step] = (uint8_t)lrint(sum);
    }
}

enum sdw_status sdw_mask_blur(struct sdw_image *mask, int radius, struct sdw_error *err)
{
    assert(mask->channels == 1 && radius >= 0 && radius <= SDW_MASK_BLUR_MAX);
    if (radius == 0)
        return SDW_OK;
    int longest = mask->width > mask->height ? mask->width : mask->height;
    uint8_t *copy = malloc((size_t)longest);
    if (!copy)
        return sdw_fail(err, SDW_MEMORY, "no memory to blur a mask");
    double weight[REACH_MAX + 1], sum = 0;
    int reach = 3 * radius;
    for (int k = 0; k <= reach; k++) {
        weight[k] = exp(-0.5 * k * k / ((double)radius * radius));
        sum += k ? 2 * weight[k] : weight[k];
    }
    for (int k = 0; k <= reach; k++)
        weight[k] /= sum;
    for (int y = 0; y < mask->height; y++)
        blur_line(mask->pixels + (size_t)y * (size_t)mask->width, mask->width, 1, weight, reach,
                  copy);
    for (int x = 0; x < mask->width; x++)
        blur_line(mask->pixels + x, mask->height, (size_t)mask->width, weight, reach, copy);
    free(copy);
    return SDW_OK;
}

/* ---- for the model ---- */

void sdw_mask_to_latent(float *latent, const struct sdw_image *mask, int factor, int offset)
{
    assert(mask->channels == 1 && factor > 0 && offset >= 0 && offset < factor);
    for (int y = 0; y < mask->height / factor; y++)
        for (int x = 0; x < mask->width / factor; x++) {
            size_t at = (size_t)(y * factor + offset) * (size_t)mask->width;
            *latent++ = (float)mask->pixels[at + (size_t)(x * factor + offset)] / 255.0f;
        }
}

void sdw_mask_hide(float *pixels, const struct sdw_image *mask)
{
    assert(mask->channels == 1);
    for (size_t i = 0; i < sdw_image_bytes(mask); i++)
        for (size_t c = 0; c < 3 && mask->pixels[i] >= REPAINTED; c++)
            pixels[i * 3 + c] = 0;
}

void sdw_image_to_floats(float *pixels, const struct sdw_image *image)
{
    for (size_t i = 0; i < sdw_image_bytes(image); i++)
        pixels[i] = (float)image->pixels[i] / 127.5f - 1.0f;
}
