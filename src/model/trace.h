/* trace.h: what a model will take, told before it is loaded. */
#ifndef SDW_MODEL_TRACE_H
#define SDW_MODEL_TRACE_H

#include "model/config.h"

#include <stddef.h>
#include <stdint.h>

struct sdw_device;

struct sdw_model_cost {
    int64_t parameters;   /* numbers in the files */
    size_t weight_bytes;  /* memory of the packed weights, in the device's compute type */
    size_t scratch_bytes; /* peak of activations of one call */
    double operations;    /* of one call; half a multiply-add each */
};

struct sdw_model_report {
    struct sdw_model_cost text[SDW_TEXTS_MAX]; /* one prompt */
    struct sdw_model_cost unet;                /* one evaluation of the batch, context included */
    struct sdw_model_cost vae_decode, vae_encode; /* one image */
    size_t scratch_bytes; /* what to reserve for all of it: the largest of the above */
};

/* Walks every model of `config` on `dev`, a device that computes nothing (backend/trace; its
 * compute and stream types are those that the real device has), for images of width x height pixels
 * and `batch` rows a UNet evaluation, `tokens` each. Milliseconds. */
enum sdw_status sdw_model_trace(struct sdw_model_report *report, struct sdw_device *dev,
                                const struct sdw_model_config *config, int width, int height,
                                int batch, int tokens, struct sdw_error *err);

/* How to decode an image within scratch_bytes_max: *rows is 0 (whole) or a number for
 * sdw_vae_strips_set, the smallest there is where nothing fits; *scratch_bytes is what it takes. */
enum sdw_status sdw_model_trace_decode(int *rows, size_t *scratch_bytes, struct sdw_device *dev,
                                       const struct sdw_model_config *config, int width, int height,
                                       size_t scratch_bytes_max, struct sdw_error *err);

#endif
