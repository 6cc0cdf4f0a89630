/* engine.h: a loaded model on a device, which turns requests into images.
 *
 * An engine is opened, used and closed by one thread; others may ask for its defaults and plans.
 * Device memory for activations is reserved before each image, to the byte that a trace of its
 * shapes asks for. */
#ifndef SDW_PIPELINE_ENGINE_H
#define SDW_PIPELINE_ENGINE_H

#include "model/config.h"
#include "pipeline/params.h"
#include "pipeline/progress.h"
#include "tensor/backend.h"

struct sdw_engine;

struct sdw_engine_options {
    struct sdw_model_source_options source; /* folder or file, and what the user overrules */
    const char *tokenizer; /* folder of vocab.json and merges.txt; NULL: the model's own */
    const char *model_id;  /* as people call it, for messages and metadata */
    int steps;             /* defaults of this model where they are known; 0: 20 */
    double guidance_scale; /* likewise; negative: 7.5 */
    bool embeds_only; /* no tokenizers and no text encoders: for checks that bring embeddings */
};

/* Reads the configuration, then packs the weights onto `dev`, which stays the caller's and must
 * outlive the engine. */
enum sdw_status sdw_engine_open(struct sdw_engine **engine, struct sdw_device *dev,
                                const struct sdw_engine_options *options, struct sdw_error *err);
void sdw_engine_close(struct sdw_engine *engine); /* NULL is allowed */

const struct sdw_params_defaults *sdw_engine_defaults(const struct sdw_engine *engine);
const struct sdw_model_config *sdw_engine_config(const struct sdw_engine *engine);
size_t sdw_engine_weight_bytes(const struct sdw_engine *engine);

/* A runner (progress.h) over the engine. */
struct sdw_runner sdw_engine_runner(struct sdw_engine *engine);

/* What an image takes, and how it is decoded. */
struct sdw_engine_plan {
    size_t scratch_bytes; /* of device memory for activations */
    int strip_rows;       /* for sdw_vae_strips_set: 0 decodes whole */
};

/* Plans an image of this request within scratch_bytes_max: big images are decoded in strips where
 * the memory is short. plan->scratch_bytes is over the maximum where nothing helps. The request is
 * complete. From any thread. */
enum sdw_status sdw_engine_plan(struct sdw_engine_plan *plan, struct sdw_engine *engine,
                                const struct sdw_params *params, int tokens,
                                size_t scratch_bytes_max, struct sdw_error *err);

#endif
