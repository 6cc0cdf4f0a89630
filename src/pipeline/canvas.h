/* canvas.h: what an image job starts from: the input and its mask, as pixels and as latents.
 *
 * Modes and the order of what they draw are those of diffusers 0.27.2 (StableDiffusionImg2Img-,
 * -Inpaint- and -InpaintPipelineLegacy and their XL forms), with one choice of our own: at strength
 * 1 a transform starts from noise alone, so that it ignores its input. A model made for inpainting
 * (its UNet also takes a mask and the latents of the masked image) generates and transforms as if
 * all of a grey picture were to be repainted. */
#ifndef SDW_PIPELINE_CANVAS_H
#define SDW_PIPELINE_CANVAS_H

#include "image/image.h"
#include "pipeline/engine_internal.h"
#include "sample/noise.h"

/* A zeroed canvas is one of plain noise. All arrays are owned. */
struct sdw_canvas {
    int channels, h, w;     /* of the latents */
    int64_t count;          /* of the latents */
    struct sdw_image image; /* RGB, of the job's size; empty without an input */
    struct sdw_image mask;  /* grey, of the job's size; empty without a mask */
    float *latents; /* [channels,h,w] of the input, scaled; NULL where the run starts from noise
                       alone */
    float *noise;   /* [channels,h,w]: what the run starts from, or what is added to the input */
    float *
        keep; /* [h,w], 1 where latents are kept, 0 where they are repainted; NULL without a mask */
    float *extra; /* [1+channels,h,w], mask and masked image, of UNets that take them; else NULL */
    bool legacy;  /* the former way to blend */
};

/* Latent sizes, and the images decoded and resized. *canvas must be zeroed; free it also after a
 * failure. */
enum sdw_status sdw_canvas_open(struct sdw_canvas *canvas, const struct sdw_engine *engine,
                                const struct sdw_params *params, struct sdw_error *err);
void sdw_canvas_free(struct sdw_canvas *canvas);

/* Draws all noise that comes before the first step, encodes, and fills x [channels,h,w] with what
 * the sampler begins at. */
enum sdw_status sdw_canvas_begin(struct sdw_canvas *canvas, float *x, struct sdw_engine *engine,
                                 const struct sdw_params *params, const struct sdw_sampler *sampler,
                                 struct sdw_noise *noise, struct sdw_error *err);

/* After evaluation i: what is kept becomes the input again, under the noise of that moment.
 * `scratch` has the latents' size. */
void sdw_canvas_blend(const struct sdw_canvas *canvas, float *x, float *scratch,
                      const struct sdw_sampler *sampler, int i);

/* After the last one. */
void sdw_canvas_end(const struct sdw_canvas *canvas, float *x);

/* Kept pixels of `image` become the input's, with a seam mask_blur soft. */
enum sdw_status sdw_canvas_paste(const struct sdw_canvas *canvas, struct sdw_image *image,
                                 int mask_blur, struct sdw_error *err);

#endif
