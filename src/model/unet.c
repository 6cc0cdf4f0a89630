/* unet.c: down through the resolutions, a middle, and up again with the skips of the way down.
 *
 * Ownership on the way: every result of the way down is both the next block's input and a skip, so
 * the skips own it and blocks keep their input; on the way up a skip is freed by the concatenation
 * that reads it. The concatenation is made in the compute type, because both of its readers, a norm
 * and the shortcut's matrix product, round to it anyway. */
#include "model/unet.h"

#include "model/unet_internal.h"
#include "nn/layers.h"
#include "tensor/layout.h"

#include <assert.h>
#include <stdlib.h>

#define SKIPS_MAX (SDW_LEVELS_MAX * (SDW_LAYERS_MAX + 1) + 1)

/* ---- loading ---- */

static void load_transformer(struct sdw_unet *unet, struct sdw_transformer *transformer,
                             struct sdw_loader *loader, const struct sdw_unet_level *level)
{
    sdw_transformer_load(transformer, loader,
                         (struct sdw_transformer_shape){
                             .width = level->channels,
                             .context_width = unet->config.context_width,
                             .heads = level->heads,
                             .depth = level->depth,
                             .groups = unet->config.groups,
                         });
    transformer->first_keys = unet->keys;
    unet->keys += transformer->depth;
    unet->transformers++;
}

static void load_resnet(const struct sdw_unet *unet, struct sdw_resnet *resnet,
                        struct sdw_loader *loader, int in, int out)
{
    sdw_resnet_load(resnet, loader, in, out, unet->config.time_width, unet->config.groups,
                    unet->config.epsilon);
}

/* Resnet j of a stage under its name, and the transformer behind it. */
static void load_layer(struct sdw_unet *unet, struct sdw_unet_stage *stage,
                       struct sdw_loader *loader, int j, int in, const struct sdw_unet_level *level)
{
    size_t mark = sdw_loader_enter(loader, "resnets.%d", j);
    load_resnet(unet, &stage->resnet[j], loader, in, level->channels);
    sdw_loader_leave(loader, mark);
    if (!stage->attention)
        return;
    mark = sdw_loader_enter(loader, "attentions.%d", j);
    load_transformer(unet, &stage->transformer[j], loader, level);
    sdw_loader_leave(loader, mark);
}

static void load_down(struct sdw_unet *unet, struct sdw_loader *loader, int i)
{
    const struct sdw_unet_config *config = &unet->config;
    const struct sdw_unet_level *level = &config->level[i];
    struct sdw_unet_stage *stage = &unet->down[i];
    stage->layers = level->layers;
    stage->attention = level->down_attention;
    size_t mark = sdw_loader_enter(loader, "down_blocks.%d", i);
    int in = i > 0 ? level[-1].channels : level->channels;
    for (int j = 0; j < stage->layers; j++, in = level->channels)
        load_layer(unet, stage, loader, j, in, level);
    struct sdw_conv_geometry halve = {.stride = 2, .top = 1, .left = 1, .bottom = 1, .right = 1};
    if (i < config->levels - 1)
        stage->resize = sdw_load_conv(loader, "downsamplers.0.conv", level->channels,
                                      level->channels, 3, halve);
    sdw_loader_leave(loader, mark);
}

static void load_mid(struct sdw_unet *unet, struct sdw_loader *loader)
{
    const struct sdw_unet_level *level = &unet->config.level[unet->config.levels - 1];
    size_t mark = sdw_loader_enter(loader, "mid_block");
    for (int j = 0; j < 2; j++) {
        size_t inner = sdw_loader_enter(loader, "resnets.%d", j);
        load_resnet(unet, &unet->mid_resnet[j], loader, level->channels, level->channels);
        sdw_loader_leave(loader, inner);
    }
    size_t inner = sdw_loader_enter(loader, "attentions.0");
    load_transformer(unet, &unet->mid_transformer, loader, level);
    sdw_loader_leave(loader, inner);
    sdw_loader_leave(loader, mark);
}

/* Up block i works at the level that down block levels-1-i left. Its last resnet takes the skip
 * that came into that level, hence one more than on the way down. */
static void load_up(struct sdw_unet *unet, struct sdw_loader *loader, int i)
{
    const struct sdw_unet_config *config = &unet->config;
    int l = config->levels - 1 - i;
    const struct sdw_unet_level *level = &config->level[l];
    struct sdw_unet_stage *stage = &unet->up[i];
    stage->layers = level->layers + 1;
    stage->attention = level->up_attention;
    size_t mark = sdw_loader_enter(loader, "up_blocks.%d", i);
    int in = i > 0 ? level[1].channels : level->channels;
    for (int j = 0; j < stage->layers; j++, in = level->channels) {
        bool last = j == stage->layers - 1;
        int skip = last && l > 0 ? level[-1].channels : level->channels;
        load_layer(unet, stage, loader, j, in + skip, level);
    }
    if (l > 0)
        stage->resize = sdw_load_conv(loader, "upsamplers.0.conv", level->channels, level->channels,
                                      3, sdw_conv_doubled());
    sdw_loader_leave(loader, mark);
}

static void load_ends(struct sdw_unet *unet, struct sdw_loader *loader)
{
    const struct sdw_unet_config *config = &unet->config;
    int width = config->level[0].channels;
    unet->conv_in =
        sdw_load_conv(loader, "conv_in", config->in_channels, width, 3, sdw_conv_same(3));
    size_t mark = sdw_loader_enter(loader, "time_embedding");
    sdw_time_embedding_load(&unet->time, loader, width, config->time_width);
    if (config->time_cond_width > 0)
        unet->time_cond =
            sdw_load_linear(loader, "cond_proj", config->time_cond_width, width, SDW_BIAS_NONE);
    sdw_loader_leave(loader, mark);
    if (config->addition_time_width > 0) {
        int in = config->pooled_width + config->time_ids * config->addition_time_width;
        mark = sdw_loader_enter(loader, "add_embedding");
        sdw_time_embedding_load(&unet->addition, loader, in, config->time_width);
        sdw_loader_leave(loader, mark);
    }
    unet->norm_out = sdw_load_norm(loader, "conv_norm_out", width, config->groups, config->epsilon);
    unet->conv_out =
        sdw_load_conv(loader, "conv_out", width, config->out_channels, 3, sdw_conv_same(3));
}

enum sdw_status sdw_unet_open(struct sdw_unet **unet, struct sdw_device *dev,
                              const struct sdw_weights *weights,
                              const struct sdw_unet_config *config, struct sdw_error *err)
{
    struct sdw_unet *model = calloc(1, sizeof *model);
    if (!model)
        return sdw_fail(err, SDW_MEMORY, "no memory for a unet");
    model->dev = dev;
    model->config = *config;
    struct sdw_loader loader;
    sdw_loader_init(&loader, dev, weights, &model->parameters);
    load_ends(model, &loader);
    for (int i = 0; i < config->levels; i++)
        load_down(model, &loader, i);
    if (config->mid_block)
        load_mid(model, &loader);
    for (int i = 0; i < config->levels; i++)
        load_up(model, &loader, i);
    enum sdw_status status = sdw_loader_finish(&loader, err);
    if (status)
        sdw_unet_close(model);
    else
        *unet = model;
    return status;
}

void sdw_unet_transformers(struct sdw_unet *unet,
                           void (*visit)(struct sdw_transformer *transformer, void *context),
                           void *context)
{
    for (int i = 0; i < unet->config.levels; i++)
        for (int j = 0; j < unet->down[i].layers; j++)
            visit(&unet->down[i].transformer[j], context);
    visit(&unet->mid_transformer, context);
    for (int i = 0; i < unet->config.levels; i++)
        for (int j = 0; j < unet->up[i].layers; j++)
            visit(&unet->up[i].transformer[j], context);
}

static void free_transformer(struct sdw_transformer *transformer, void *context)
{
    (void)context;
    sdw_transformer_free(transformer);
}

void sdw_unet_close(struct sdw_unet *unet)
{
    if (!unet)
        return;
    sdw_unet_transformers(unet, free_transformer, NULL);
    sdw_parameters_free(&unet->parameters);
    free(unet);
}

size_t sdw_unet_bytes(const struct sdw_unet *unet)
{
    return unet->parameters.bytes;
}

int64_t sdw_unet_parameters(const struct sdw_unet *unet)
{
    return unet->parameters.count;
}

/* ---- forward ---- */

/* What a forward pass carries from block to block. */
struct pass {
    struct sdw_unet *unet;
    struct sdw_device *dev;
    struct sdw_unet_context *context;
    struct sdw_tensor latents, waves; /* [n,h,w,in_channels] and [n,1,1,channels] f32, uploaded */
    struct sdw_tensor time; /* [n,1,1,time_width]: silu of the time embedding, compute type */
    struct sdw_tensor skip[SKIPS_MAX];
    int skips;
};

static struct sdw_tensor upload_waves(const struct pass *pass, const float *timesteps)
{
    const struct sdw_unet_config *config = &pass->unet->config;
    int n = pass->context->n, width = config->level[0].channels;
    float *waves = malloc((size_t)n * (size_t)width * sizeof *waves);
    if (!waves) {
        sdw_device_fail(pass->dev, SDW_MEMORY, "no memory for %d timesteps", n);
        return (struct sdw_tensor){0};
    }
    for (int i = 0; i < n; i++)
        sdw_sinusoid(waves + (size_t)i * (size_t)width, timesteps[i], width,
                     config->flip_sin_to_cos, config->freq_shift);
    struct sdw_tensor uploaded = sdw_upload_new(pass->dev, waves, n, 1, 1, width);
    free(waves);
    return uploaded;
}

static struct sdw_tensor embed_time(struct pass *pass)
{
    const struct sdw_unet_config *config = &pass->unet->config;
    const struct sdw_unet_context *context = pass->context;
    struct sdw_device *dev = pass->dev;
    struct sdw_tensor *waves = &pass->waves;
    struct sdw_tensor out = sdw_tensor_new(dev, dev->compute, context->n, 1, 1, config->time_width);
    if (pass->unet->time_cond)
        sdw_add(dev, waves, waves, &context->time_cond);
    struct sdw_tensor time = sdw_time_embedding_forward(dev, &pass->unet->time, waves);
    if (config->addition_time_width > 0)
        sdw_add(dev, &time, &time, &context->addition);
    sdw_act(dev, &out, &time, SDW_ACT_SILU);
    sdw_tensor_free(dev, &time);
    sdw_tensor_free(dev, waves);
    return out;
}

static void attend(const struct pass *pass, const struct sdw_transformer *transformer,
                   const struct sdw_tensor *h)
{
    sdw_transformer_forward(pass->dev, transformer, h,
                            pass->context->keys + transformer->first_keys);
}

/* h, the last skip, through a stage; every result becomes a skip. */
static void go_down(struct pass *pass, const struct sdw_unet_stage *stage)
{
    for (int j = 0; j < stage->layers; j++) {
        struct sdw_tensor h = sdw_resnet_forward(pass->dev, &stage->resnet[j],
                                                 pass->skip[pass->skips - 1], true, &pass->time);
        if (stage->attention)
            attend(pass, &stage->transformer[j], &h);
        pass->skip[pass->skips++] = h;
    }
    if (!stage->resize)
        return;
    const struct sdw_tensor *last = &pass->skip[pass->skips - 1];
    struct sdw_tensor x = sdw_operand(pass->dev, last);
    struct sdw_tensor half = sdw_conv_new(pass->dev, stage->resize, &x, pass->dev->stream);
    sdw_operand_free(pass->dev, &x, last);
    pass->skip[pass->skips++] = half;
}

/* A copy of the last skip, or what the mid block makes of it. */
static struct sdw_tensor go_through(struct pass *pass)
{
    struct sdw_unet *unet = pass->unet;
    struct sdw_tensor last = pass->skip[pass->skips - 1];
    if (!unet->config.mid_block) {
        struct sdw_tensor h = sdw_tensor_new(pass->dev, last.dtype, last.n, last.h, last.w, last.c);
        sdw_cast(pass->dev, &h, &last);
        return h;
    }
    struct sdw_tensor h =
        sdw_resnet_forward(pass->dev, &unet->mid_resnet[0], last, true, &pass->time);
    attend(pass, &unet->mid_transformer, &h);
    return sdw_resnet_forward(pass->dev, &unet->mid_resnet[1], h, false, &pass->time);
}

/* h beside the last skip; both are freed. */
static struct sdw_tensor join(struct pass *pass, struct sdw_tensor *h)
{
    struct sdw_device *dev = pass->dev;
    struct sdw_tensor *skip = &pass->skip[--pass->skips];
    struct sdw_tensor both = sdw_tensor_new(dev, dev->compute, h->n, h->h, h->w, h->c + skip->c);
    sdw_concat(dev, &both, h, skip);
    sdw_tensor_free(dev, h);
    sdw_tensor_free(dev, skip);
    return both;
}

static struct sdw_tensor go_up(struct pass *pass, const struct sdw_unet_stage *stage,
                               struct sdw_tensor h)
{
    for (int j = 0; j < stage->layers; j++) {
        struct sdw_tensor both = join(pass, &h);
        h = sdw_resnet_forward(pass->dev, &stage->resnet[j], both, false, &pass->time);
        if (stage->attention)
            attend(pass, &stage->transformer[j], &h);
    }
    if (!stage->resize)
        return h;
    /* To the size of the skip that comes next, which may be odd; its concatenation is the reader.
     */
    const struct sdw_tensor *next = &pass->skip[pass->skips - 1];
    return sdw_upsample_forward(pass->dev, stage->resize, h, false, next->h, next->w,
                                pass->dev->compute);
}

/* [n,h,w,out_channels] f32 from the latents, which are used up. */
static struct sdw_tensor forward(struct pass *pass)
{
    struct sdw_unet *unet = pass->unet;
    struct sdw_device *dev = pass->dev;
    struct sdw_tensor x = sdw_operand_take(dev, &pass->latents);
    pass->skip[pass->skips++] = sdw_conv_new(dev, unet->conv_in, &x, dev->stream);
    sdw_tensor_free(dev, &x);
    for (int i = 0; i < unet->config.levels; i++)
        go_down(pass, &unet->down[i]);
    struct sdw_tensor h = go_through(pass);
    for (int i = 0; i < unet->config.levels; i++)
        h = go_up(pass, &unet->up[i], h);
    assert(pass->skips == 0);
    x = sdw_group_norm_new(dev, &unet->norm_out, &h, SDW_ACT_SILU, NULL);
    sdw_tensor_free(dev, &h);
    struct sdw_tensor out = sdw_conv_new(dev, unet->conv_out, &x, SDW_F32);
    sdw_tensor_free(dev, &x);
    return out;
}

/* What is the same in every step but for the numbers. It may be run again, so it takes a copy of
 * the pass that it uses up. */
static void run_step(void *argument)
{
    struct pass pass = *(const struct pass *)argument;
    pass.time = embed_time(&pass);
    pass.context->result = forward(&pass);
    sdw_tensor_free(pass.dev, &pass.time);
}

enum sdw_status sdw_unet_forward(struct sdw_unet *unet, float *out, const float *sample,
                                 const float *timesteps, int h, int w,
                                 struct sdw_unet_context *context, struct sdw_error *err)
{
    assert(h > 0 && w > 0 && context->unet == unet);
    struct sdw_device *dev = unet->dev;
    struct pass pass = {.unet = unet, .dev = dev, .context = context};
    int n = context->n, in = unet->config.in_channels, channels = unet->config.out_channels;
    int widest = in > channels ? in : channels;
    float *nhwc = malloc((size_t)n * (size_t)h * (size_t)w * (size_t)widest * sizeof *nhwc);
    if (!nhwc)
        return sdw_fail(err, SDW_MEMORY, "no memory for latents of %d x %d", w, h);
    sdw_nhwc_from_nchw(nhwc, sample, n, in, h, w);
    /* Before the first operator, so that a device with a queue need not be waited for in between.
     */
    pass.latents = sdw_upload_new(dev, nhwc, n, h, w, in);
    pass.waves = upload_waves(&pass, timesteps);
    if (context->result.h != h || context->result.w != w)
        sdw_recording_free(dev, &context->step);
    sdw_recording_run(dev, &context->step, run_step, &pass);
    struct sdw_tensor result = context->result; /* the tape, if there is one, keeps its address */
    sdw_download(dev, nhwc, &result);
    sdw_tensor_free(dev, &result);
    enum sdw_status status = sdw_sync(dev, err);
    if (!status)
        sdw_nchw_from_nhwc(out, nhwc, n, channels, h, w);
    free(nhwc);
    return status;
}
