/* unet_context.c: what the steps of a job share: keys and values of the prompt, XL's added
 * conditions, LCM's guidance embedding. */
#include "model/unet_internal.h"
#include "nn/layers.h"
#include "tensor/weight.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* LCM's own sinusoid (Salimans and Ho 2022): sines first, frequencies to 10000^-1 inclusive, of
 * 1000 (guidance - 1). */
static void embed_guidance(float *to, float guidance, int width)
{
    int half = width / 2;
    for (int i = 0; i < half; i++) {
        float angle =
            (guidance - 1) * 1000.0f * expf(-logf(10000.0f) / (float)(half - 1) * (float)i);
        to[i] = sinf(angle);
        to[half + i] = cosf(angle);
    }
}

static struct sdw_tensor guidance_forward(struct sdw_unet *unet,
                                          const struct sdw_unet_conditions *conditions, float *host)
{
    struct sdw_device *dev = unet->dev;
    int n = conditions->n, width = unet->config.time_cond_width;
    for (int i = 0; i < n; i++)
        embed_guidance(host + (size_t)i * (size_t)width, conditions->guidance_scale[i], width);
    struct sdw_tensor wave = sdw_upload_new(dev, host, n, 1, 1, width);
    struct sdw_tensor x = sdw_operand_take(dev, &wave);
    struct sdw_tensor out = sdw_linear_new(dev, unet->time_cond, &x, SDW_ACT_NONE, SDW_F32);
    sdw_tensor_free(dev, &x);
    return out;
}

/* The pooled text beside the embedded sizes, through a perceptron. */
static struct sdw_tensor addition_forward(struct sdw_unet *unet,
                                          const struct sdw_unet_conditions *conditions, float *host)
{
    const struct sdw_unet_config *config = &unet->config;
    int n = conditions->n, pooled = config->pooled_width, each = config->addition_time_width;
    int width = pooled + config->time_ids * each;
    for (int i = 0; i < n; i++) {
        float *row = host + (size_t)i * (size_t)width;
        memcpy(row, conditions->pooled + (size_t)i * (size_t)pooled, (size_t)pooled * sizeof *row);
        for (int j = 0; j < config->time_ids; j++)
            sdw_sinusoid(row + pooled + j * each, conditions->time_ids[i * config->time_ids + j],
                         each, config->flip_sin_to_cos, config->freq_shift);
    }
    struct sdw_tensor in = sdw_upload_new(unet->dev, host, n, 1, 1, width);
    struct sdw_tensor out = sdw_time_embedding_forward(unet->dev, &unet->addition, &in);
    sdw_tensor_free(unet->dev, &in);
    return out;
}

struct prompt {
    struct sdw_unet_context *context;
    struct sdw_tensor hidden; /* [n,tokens,1,context_width], compute type */
};

/* One piece of memory for all blocks of a transformer: scratch memory counts its pieces. */
static void make_keys(struct sdw_transformer *transformer, void *argument)
{
    struct prompt *prompt = argument;
    struct sdw_unet_context *context = prompt->context;
    struct sdw_device *dev = context->unet->dev;
    if (transformer->depth == 0)
        return;
    int n = context->n, width = transformer->proj_in->out;
    struct sdw_tensor *storage = &context->storage[context->stored++];
    *storage =
        sdw_tensor_new(dev, dev->compute, 2 * transformer->depth * n, prompt->hidden.h, 1, width);
    for (int i = 0; i < transformer->depth; i++) {
        const struct sdw_attention_layer *cross = &transformer->block[i].cross;
        struct sdw_keys *keys = &context->keys[transformer->first_keys + i];
        keys->k = sdw_tensor_part(storage, 2 * i * n, n);
        keys->v = sdw_tensor_part(storage, (2 * i + 1) * n, n);
        sdw_linear(dev, &keys->k, &prompt->hidden, cross->k, SDW_ACT_NONE, NULL);
        sdw_linear(dev, &keys->v, &prompt->hidden, cross->v, SDW_ACT_NONE, NULL);
    }
}

static struct sdw_unet_context *allocate(struct sdw_unet *unet, int n)
{
    struct sdw_unet_context *context = calloc(1, sizeof *context);
    if (!context)
        return NULL;
    context->unet = unet;
    context->n = n;
    context->keys = calloc((size_t)unet->keys + 1, sizeof *context->keys);
    context->storage = calloc((size_t)unet->transformers + 1, sizeof *context->storage);
    if (context->keys && context->storage)
        return context;
    sdw_unet_context_free(context);
    return NULL;
}

enum sdw_status sdw_unet_context_new(struct sdw_unet_context **context, struct sdw_unet *unet,
                                     const struct sdw_unet_conditions *conditions,
                                     struct sdw_error *err)
{
    const struct sdw_unet_config *config = &unet->config;
    int n = conditions->n;
    bool added = config->addition_time_width > 0;
    assert(n > 0 && conditions->tokens > 0);
    assert(!added || (conditions->pooled && conditions->time_ids));
    assert(!config->time_cond_width || conditions->guidance_scale);
    size_t added_width = (size_t)config->pooled_width +
                         (size_t)config->time_ids * (size_t)config->addition_time_width;
    size_t row = (size_t)config->time_cond_width > added_width ? (size_t)config->time_cond_width
                                                               : added_width;
    struct sdw_unet_context *made = allocate(unet, n);
    float *host = malloc(((size_t)n * row + 1) * sizeof *host);
    if (!made || !host) {
        free(host);
        sdw_unet_context_free(made);
        return sdw_fail(err, SDW_MEMORY, "no memory for the prompt's keys");
    }
    if (unet->time_cond)
        made->time_cond = guidance_forward(unet, conditions, host);
    if (added)
        made->addition = addition_forward(unet, conditions, host);
    struct sdw_tensor hidden = sdw_upload_new(unet->dev, conditions->hidden, n, conditions->tokens,
                                              1, config->context_width);
    struct prompt prompt = {made, sdw_operand_take(unet->dev, &hidden)};
    sdw_unet_transformers(unet, make_keys, &prompt);
    sdw_tensor_free(unet->dev, &prompt.hidden);
    enum sdw_status status = sdw_sync(unet->dev, err);
    free(host);
    if (status)
        sdw_unet_context_free(made);
    else
        *context = made;
    return status;
}

void sdw_unet_context_free(struct sdw_unet_context *context)
{
    if (!context)
        return;
    struct sdw_device *dev = context->unet->dev;
    sdw_recording_free(dev, &context->step);
    for (int i = 0; i < context->stored; i++)
        sdw_tensor_free(dev, &context->storage[i]);
    sdw_tensor_free(dev, &context->addition);
    sdw_tensor_free(dev, &context->time_cond);
    free(context->storage);
    free(context->keys);
    free(context);
}
