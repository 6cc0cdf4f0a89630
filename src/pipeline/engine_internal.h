/* engine_internal.h: the parts of an engine, for engine.c (loading) and generate.c (running). */
#ifndef SDW_PIPELINE_ENGINE_INTERNAL_H
#define SDW_PIPELINE_ENGINE_INTERNAL_H

#include "model/clip_text.h"
#include "model/trace.h"
#include "model/unet.h"
#include "model/vae.h"
#include "pipeline/engine.h"
#include "pipeline/preview.h"
#include "pipeline/text_cache.h"
#include "sample/sampler.h"
#include "text/tokenizer.h"

#include <pthread.h>
#include <stdatomic.h>

/* The last walk over the model's shapes. */
struct sdw_traced {
    int width, height, rows, tokens; /* width 0: there was none */
    struct sdw_model_report report;
};

struct sdw_engine {
    struct sdw_device *dev;
    struct sdw_device *tracer; /* computes nothing: tells memory in advance */
    struct sdw_traced traced;
    pthread_mutex_t tracing;         /* over both: plans are made for requests that come in, too */
    atomic_size_t scratch_held;      /* bytes of the device's scratch memory, for other threads */
    struct sdw_model_source *source; /* stays open for what is read later */
    struct sdw_model_config config;
    struct sdw_tokenizer *tokenizer[SDW_TEXTS_MAX];
    int32_t pad[SDW_TEXTS_MAX];
    struct sdw_clip_text *text[SDW_TEXTS_MAX];
    struct sdw_unet *unet;
    struct sdw_vae *vae;                 /* the decoder */
    struct sdw_vae *encoder;             /* NULL until an image comes in: see sdw_engine_encoder */
    struct sdw_schedule_config schedule; /* of the model's scheduler_config.json */
    struct sdw_text_cache text_cache;
    struct sdw_preview preview;
    struct sdw_params_defaults defaults;
    char model_id[256];
    char sampler[64];
};

/* What a run may take from elsewhere than the request: all zero in normal use. */
struct sdw_generate_options {
    const struct sdw_schedule_config *schedule; /* instead of the model's */
    const float
        *embeds; /* instead of the encoded prompts: [1 or 2, tokens, context width], uncond first */
    const float *pooled;   /* with embeds, XL: [1 or 2, pooled width] */
    const float *time_ids; /* likewise */
    int embeds_tokens;
    /* Sees the latents [channels,h,w] after every evaluation, counted from 0; for checks. */
    void (*latents)(void *context, int evaluation, const float *latents, int64_t count);
    void *latents_context;
};

/* Plans an image within the memory that is free now; SDW_MEMORY with the numbers when it takes
 * more. *left: what is free besides the scratch memory that is held already. */
enum sdw_status sdw_engine_fit(struct sdw_engine_plan *plan, size_t *left,
                               struct sdw_engine *engine, const struct sdw_params *params,
                               struct sdw_error *err);

/* The VAE's encoder, read when it is first asked for: images from words alone never need it. The
 * engine owns it; sdw_engine_encoder_close gives its memory back. */
enum sdw_status sdw_engine_encoder(struct sdw_vae **encoder, struct sdw_engine *engine,
                                   struct sdw_error *err);
void sdw_engine_encoder_close(struct sdw_engine *engine);

/* Whether an image is encoded: a given one, or the one that an inpainting model always sees. */
bool sdw_engine_encodes(const struct sdw_engine *engine, const struct sdw_params *params);

struct sdw_canvas;

/* The denoising loop. *pixels: [height][width][3], 0..1, the caller's to free(). *canvas is zeroed
 * and the caller's to free, too: it keeps the input, for pasting back. Fills the seconds of
 * `result`. */
enum sdw_status sdw_generate(float **pixels, struct sdw_canvas *canvas, struct sdw_engine *engine,
                             const struct sdw_params *params,
                             const struct sdw_generate_options *options,
                             const struct sdw_progress *progress, struct sdw_result *result,
                             struct sdw_error *err);

#endif
