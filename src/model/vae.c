/* vae.c: encoder and decoder mirror each other: resnet blocks at every resolution, and a middle of
 * two resnets around one attention head over all pixels. Images of a batch are done one by one:
 * memory is that of one image. */
#include "model/vae.h"

#include "nn/attention.h"
#include "nn/layers.h"
#include "nn/resnet.h"
#include "tensor/layout.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define NORM_EPSILON 1e-6f /* everywhere in the VAE */

struct stage {
    int layers;
    struct sdw_resnet resnet[SDW_LAYERS_MAX + 1];
    struct sdw_weight *resize; /* NULL at the last one */
};

/* Encoder or decoder. */
struct tower {
    struct sdw_weight *conv_in, *conv_out;
    struct stage stage[SDW_LEVELS_MAX]; /* in the order they run */
    struct sdw_resnet mid_resnet[2];
    struct sdw_norm mid_norm;
    struct sdw_attention_layer mid_attention;
    struct sdw_norm norm_out;
};

struct sdw_vae {
    struct sdw_device *dev;
    struct sdw_vae_config config;
    enum sdw_vae_parts parts;
    struct sdw_parameters parameters;
    struct sdw_weight *quant, *post_quant; /* 1x1 convolutions on the latents' side */
    struct tower encoder, decoder;
    int strip_rows; /* 0: images are decoded whole */
};

/* ---- loading ---- */

static void load_resnet(const struct sdw_vae *vae, struct sdw_resnet *resnet,
                        struct sdw_loader *loader, int j, int in, int out)
{
    size_t mark = sdw_loader_enter(loader, "resnets.%d", j);
    sdw_resnet_load(resnet, loader, in, out, 0, vae->config.groups, NORM_EPSILON);
    sdw_loader_leave(loader, mark);
}

static void load_mid(const struct sdw_vae *vae, struct tower *tower, struct sdw_loader *loader)
{
    int width = vae->config.channels[vae->config.levels - 1];
    size_t mark = sdw_loader_enter(loader, "mid_block");
    load_resnet(vae, &tower->mid_resnet[0], loader, 0, width, width);
    load_resnet(vae, &tower->mid_resnet[1], loader, 1, width, width);
    size_t inner = sdw_loader_enter(loader, "attentions.0");
    tower->mid_norm = sdw_load_norm(loader, "group_norm", width, vae->config.groups, NORM_EPSILON);
    sdw_attention_load(&tower->mid_attention, loader, SDW_ATTENTION_VAE, width, width, 1);
    sdw_loader_leave(loader, inner);
    sdw_loader_leave(loader, mark);
}

static void load_stage(const struct sdw_vae *vae, struct stage *stage, struct sdw_loader *loader,
                       int layers, int in, int out)
{
    stage->layers = layers;
    for (int j = 0; j < layers; j++, in = out)
        load_resnet(vae, &stage->resnet[j], loader, j, in, out);
}

static void load_encoder(struct sdw_vae *vae, struct sdw_loader *loader)
{
    const struct sdw_vae_config *config = &vae->config;
    const int *channels = config->channels;
    struct tower *tower = &vae->encoder;
    /* Right and bottom only, unlike the UNet. */
    struct sdw_conv_geometry halve = {.stride = 2, .bottom = 1, .right = 1};
    int last = channels[config->levels - 1];
    size_t mark = sdw_loader_enter(loader, "encoder");
    tower->conv_in =
        sdw_load_conv(loader, "conv_in", config->image_channels, channels[0], 3, sdw_conv_same(3));
    for (int i = 0; i < config->levels; i++) {
        struct stage *stage = &tower->stage[i];
        size_t inner = sdw_loader_enter(loader, "down_blocks.%d", i);
        load_stage(vae, stage, loader, config->layers, channels[i > 0 ? i - 1 : 0], channels[i]);
        if (i < config->levels - 1)
            stage->resize =
                sdw_load_conv(loader, "downsamplers.0.conv", channels[i], channels[i], 3, halve);
        sdw_loader_leave(loader, inner);
    }
    load_mid(vae, tower, loader);
    tower->norm_out = sdw_load_norm(loader, "conv_norm_out", last, config->groups, NORM_EPSILON);
    tower->conv_out =
        sdw_load_conv(loader, "conv_out", last, 2 * config->latent_channels, 3, sdw_conv_same(3));
    sdw_loader_leave(loader, mark);
    vae->quant = sdw_load_linear(loader, "quant_conv", 2 * config->latent_channels,
                                 2 * config->latent_channels, SDW_BIAS);
}

static void load_decoder(struct sdw_vae *vae, struct sdw_loader *loader)
{
    const struct sdw_vae_config *config = &vae->config;
    const int *channels = config->channels;
    struct tower *tower = &vae->decoder;
    int in = channels[config->levels - 1];
    vae->post_quant = sdw_load_linear(loader, "post_quant_conv", config->latent_channels,
                                      config->latent_channels, SDW_BIAS);
    size_t mark = sdw_loader_enter(loader, "decoder");
    tower->conv_in =
        sdw_load_conv(loader, "conv_in", config->latent_channels, in, 3, sdw_conv_same(3));
    load_mid(vae, tower, loader);
    for (int i = 0; i < config->levels; i++) {
        struct stage *stage = &tower->stage[i];
        int out = channels[config->levels - 1 - i];
        size_t inner = sdw_loader_enter(loader, "up_blocks.%d", i);
        load_stage(vae, stage, loader, config->layers + 1, in, out);
        if (i < config->levels - 1)
            stage->resize =
                sdw_load_conv(loader, "upsamplers.0.conv", out, out, 3, sdw_conv_doubled());
        sdw_loader_leave(loader, inner);
        in = out;
    }
    tower->norm_out = sdw_load_norm(loader, "conv_norm_out", in, config->groups, NORM_EPSILON);
    tower->conv_out =
        sdw_load_conv(loader, "conv_out", in, config->image_channels, 3, sdw_conv_same(3));
    sdw_loader_leave(loader, mark);
}

enum sdw_status sdw_vae_open(struct sdw_vae **vae, struct sdw_device *dev,
                             const struct sdw_weights *weights, const struct sdw_vae_config *config,
                             enum sdw_vae_parts parts, struct sdw_error *err)
{
    struct sdw_vae *model = calloc(1, sizeof *model);
    if (!model)
        return sdw_fail(err, SDW_MEMORY, "no memory for a vae");
    model->dev = dev;
    model->config = *config;
    model->parts = parts;
    struct sdw_loader loader;
    sdw_loader_init(&loader, dev, weights, &model->parameters);
    if (parts & SDW_VAE_DECODER)
        load_decoder(model, &loader);
    if (parts & SDW_VAE_ENCODER)
        load_encoder(model, &loader);
    enum sdw_status status = sdw_loader_finish(&loader, err);
    if (status)
        sdw_vae_close(model);
    else
        *vae = model;
    return status;
}

void sdw_vae_close(struct sdw_vae *vae)
{
    if (!vae)
        return;
    sdw_parameters_free(&vae->parameters);
    free(vae);
}

size_t sdw_vae_bytes(const struct sdw_vae *vae)
{
    return vae->parameters.bytes;
}

int64_t sdw_vae_parameters(const struct sdw_vae *vae)
{
    return vae->parameters.count;
}

/* ---- forward; every function frees what it is given ---- */

static struct sdw_tensor conv_take(struct sdw_device *dev, const struct sdw_weight *conv,
                                   struct sdw_tensor in, enum sdw_dtype dtype)
{
    struct sdw_tensor x = sdw_operand_take(dev, &in);
    struct sdw_tensor out = sdw_conv_new(dev, conv, &x, dtype);
    sdw_tensor_free(dev, &x);
    return out;
}

static struct sdw_tensor linear_take(struct sdw_device *dev, const struct sdw_weight *linear,
                                     struct sdw_tensor in, enum sdw_dtype dtype)
{
    struct sdw_tensor x = sdw_operand_take(dev, &in);
    struct sdw_tensor out = sdw_linear_new(dev, linear, &x, SDW_ACT_NONE, dtype);
    sdw_tensor_free(dev, &x);
    return out;
}

static struct sdw_tensor go_through(struct sdw_device *dev, const struct tower *tower,
                                    struct sdw_tensor h)
{
    h = sdw_resnet_forward(dev, &tower->mid_resnet[0], h, false, NULL);
    struct sdw_tensor x = sdw_group_norm_new(dev, &tower->mid_norm, &h, SDW_ACT_NONE, NULL);
    sdw_attention_forward(dev, &tower->mid_attention, &h, x, NULL);
    return sdw_resnet_forward(dev, &tower->mid_resnet[1], h, false, NULL);
}

static struct sdw_tensor run_layers(struct sdw_device *dev, const struct stage *stage,
                                    struct sdw_tensor h)
{
    for (int j = 0; j < stage->layers; j++)
        h = sdw_resnet_forward(dev, &stage->resnet[j], h, false, NULL);
    return h;
}

static struct sdw_tensor finish(struct sdw_device *dev, const struct tower *tower,
                                struct sdw_tensor h, enum sdw_dtype dtype)
{
    struct sdw_tensor x = sdw_group_norm_new(dev, &tower->norm_out, &h, SDW_ACT_SILU, NULL);
    sdw_tensor_free(dev, &h);
    return conv_take(dev, tower->conv_out, x, dtype);
}

/* The output of stage i, doubled for stage i+1. Only a resnet without a shortcut adds to its input;
 * the others round it to the compute type anyway. */
static struct sdw_tensor double_size(const struct sdw_vae *vae, int i, struct sdw_tensor h,
                                     bool keep)
{
    const struct stage *stage = &vae->decoder.stage[i];
    bool summed = !stage[1].resnet[0].shortcut;
    return sdw_upsample_forward(vae->dev, stage->resize, h, keep, 2 * h.h, 2 * h.w,
                                summed ? vae->dev->stream : vae->dev->compute);
}

/* Stages that always see the whole image; the last two are where the memory goes. */
static int whole_stages(const struct sdw_vae_config *config)
{
    return config->levels > 2 ? config->levels - 2 : 1;
}

/* z [1,h,w,latent_channels] f32 up to the output of the last whole stage */
static struct sdw_tensor decode_whole(struct sdw_vae *vae, struct sdw_tensor z)
{
    struct sdw_device *dev = vae->dev;
    const struct tower *tower = &vae->decoder;
    struct sdw_tensor h = linear_take(dev, vae->post_quant, z, dev->compute);
    h = conv_take(dev, tower->conv_in, h, dev->stream);
    h = run_layers(dev, &tower->stage[0], go_through(dev, tower, h));
    for (int i = 1; i < whole_stages(&vae->config); i++)
        h = run_layers(dev, &tower->stage[i], double_size(vae, i - 1, h, false));
    return h;
}

/* From there to [1,..,..,image_channels] f32, for all rows or some. `in` is freed, unless `keep`.
 */
static struct sdw_tensor decode_rest(struct sdw_vae *vae, struct sdw_tensor in, bool keep)
{
    struct sdw_device *dev = vae->dev;
    const struct tower *tower = &vae->decoder;
    struct sdw_tensor h = in;
    for (int i = whole_stages(&vae->config); i < vae->config.levels; i++, keep = false)
        h = run_layers(dev, &tower->stage[i], double_size(vae, i - 1, h, keep));
    return finish(dev, tower, h, SDW_F32);
}

/* [1,h,w,2*latent_channels] f32, mean beside logvar, from image [1,h*factor,w*factor,channels] f32
 */
static struct sdw_tensor encode(struct sdw_vae *vae, struct sdw_tensor image)
{
    struct sdw_device *dev = vae->dev;
    const struct tower *tower = &vae->encoder;
    struct sdw_tensor h = conv_take(dev, tower->conv_in, image, dev->stream);
    for (int i = 0; i < vae->config.levels; i++) {
        h = run_layers(dev, &tower->stage[i], h);
        if (tower->stage[i].resize)
            h = conv_take(dev, tower->stage[i].resize, h, dev->stream);
    }
    h = go_through(dev, tower, h);
    h = finish(dev, tower, h, dev->compute);
    return linear_take(dev, vae->quant, h, SDW_F32);
}

/* ---- decoding in strips ---- */

#define HALO_ROWS    6 /* what a pixel sees of its neighbours, in rows of the split */
#define BLEND_ROWS   8 /* at least; from one strip to the next */
#define OVERLAP_ROWS (2 * HALO_ROWS + BLEND_ROWS)

void sdw_vae_strips_set(struct sdw_vae *vae, int rows)
{
    assert(rows >= 0);
    vae->strip_rows = rows > 0 && rows < SDW_VAE_STRIP_ROWS_MIN ? SDW_VAE_STRIP_ROWS_MIN : rows;
}

int sdw_vae_strip_rows(const struct sdw_vae_config *config, int h)
{
    return h << (whole_stages(config) - 1);
}

/* Blends a strip's rows over those of the strip before it, `shared` of which they have in common,
 * `halo` at either end of these being too near to an edge to be shown. */
static void blend(float *image, const float *strip, int rows, int shared, int halo, size_t row)
{
    for (int y = 0; y < rows; y++, image += row, strip += row) {
        float t = shared > 0 ? ((float)(y - halo) + 0.5f) / (float)(shared - 2 * halo) : 1;
        t = t < 0 ? 0 : t > 1 ? 1 : t;
        for (size_t x = 0; x < row; x++)
            image[x] += t * (strip[x] - image[x]);
    }
}

/* image from h [1,rows,..,..], the output of the last whole stage, which stays the caller's. */
static enum sdw_status decode_strips(struct sdw_vae *vae, float *image, const struct sdw_tensor *h,
                                     struct sdw_error *err)
{
    int scale = 1 << (vae->config.levels - whole_stages(&vae->config)); /* pixels a row */
    int rows = vae->strip_rows, last = h->h - rows;                     /* where the last starts */
    int steps = (last + rows - OVERLAP_ROWS - 1) / (rows - OVERLAP_ROWS);
    size_t row = (size_t)h->w * (size_t)scale * (size_t)vae->config.image_channels;
    float *strip = malloc((size_t)rows * (size_t)scale * row * sizeof *strip);
    if (!strip)
        return sdw_fail(err, SDW_MEMORY, "no memory for a strip of %d rows", rows * scale);
    memset(image, 0, (size_t)h->h * (size_t)scale * row * sizeof *image);
    enum sdw_status status = SDW_OK;
    for (int i = 0, end = 0; i <= steps && !status; i++) {
        int start = (int)((int64_t)last * i / steps);
        struct sdw_tensor out = decode_rest(vae, sdw_tensor_strip(h, start, rows), true);
        sdw_download(vae->dev, strip, &out);
        sdw_tensor_free(vae->dev, &out);
        status = sdw_sync(vae->dev, err);
        if (!status)
            blend(image + (size_t)start * (size_t)scale * row, strip, rows * scale,
                  (end - start) * scale, HALO_ROWS * scale, row);
        end = start + rows;
    }
    free(strip);
    return status;
}

static enum sdw_status decode(struct sdw_vae *vae, float *image, struct sdw_tensor z,
                              struct sdw_error *err)
{
    struct sdw_tensor h = decode_whole(vae, z);
    bool strips = vae->strip_rows > 0 && vae->strip_rows < h.h &&
                  whole_stages(&vae->config) < vae->config.levels;
    enum sdw_status status = SDW_OK;
    if (strips) {
        status = decode_strips(vae, image, &h, err);
        sdw_tensor_free(vae->dev, &h);
    } else {
        struct sdw_tensor out = decode_rest(vae, h, false);
        sdw_download(vae->dev, image, &out);
        sdw_tensor_free(vae->dev, &out);
    }
    return status ? status : sdw_sync(vae->dev, err);
}

enum sdw_status sdw_vae_decode(struct sdw_vae *vae, float *image, const float *latents, int n,
                               int h, int w, struct sdw_error *err)
{
    assert((vae->parts & SDW_VAE_DECODER) && n > 0 && h > 0 && w > 0);
    int channels = vae->config.latent_channels, factor = vae->config.factor;
    size_t latent_count = (size_t)h * (size_t)w * (size_t)channels;
    size_t image_count =
        (size_t)h * (size_t)w * (size_t)(factor * factor) * (size_t)vae->config.image_channels;
    float *nhwc = malloc(latent_count * sizeof *nhwc);
    if (!nhwc)
        return sdw_fail(err, SDW_MEMORY, "no memory for latents of %d x %d", w, h);
    enum sdw_status status = SDW_OK;
    for (int i = 0; i < n && !status; i++) {
        sdw_nhwc_from_nchw(nhwc, latents + (size_t)i * latent_count, 1, channels, h, w);
        status = decode(vae, image + (size_t)i * image_count,
                        sdw_upload_new(vae->dev, nhwc, 1, h, w, channels), err);
    }
    free(nhwc);
    return status;
}

/* ---- encoding ---- */

/* to = the channels from `first` on of one image [h,w,2*channels], as [channels,h,w]. */
static void split(float *to, const float *moments, int first, int channels, size_t pixels)
{
    for (int c = 0; c < channels; c++)
        for (size_t p = 0; p < pixels; p++)
            to[(size_t)c * pixels + p] = moments[p * 2 * (size_t)channels + (size_t)(first + c)];
}

enum sdw_status sdw_vae_encode(struct sdw_vae *vae, float *mean, float *logvar, const float *image,
                               int n, int h, int w, struct sdw_error *err)
{
    assert((vae->parts & SDW_VAE_ENCODER) && n > 0 && h > 0 && w > 0);
    const struct sdw_vae_config *config = &vae->config;
    int channels = config->latent_channels, height = h * config->factor, width = w * config->factor;
    size_t pixels = (size_t)h * (size_t)w, count = pixels * (size_t)channels;
    size_t image_count = (size_t)height * (size_t)width * (size_t)config->image_channels;
    float *moments = malloc(2 * count * sizeof *moments);
    if (!moments)
        return sdw_fail(err, SDW_MEMORY, "no memory for latents of %d x %d", w, h);
    enum sdw_status status = SDW_OK;
    for (int i = 0; i < n && !status; i++) {
        struct sdw_tensor in = sdw_upload_new(vae->dev, image + (size_t)i * image_count, 1, height,
                                              width, config->image_channels);
        struct sdw_tensor out = encode(vae, in);
        sdw_download(vae->dev, moments, &out);
        sdw_tensor_free(vae->dev, &out);
        status = sdw_sync(vae->dev, err);
        if (status)
            break;
        split(mean + (size_t)i * count, moments, 0, channels, pixels);
        split(logvar + (size_t)i * count, moments, channels, channels, pixels);
    }
    free(moments);
    for (size_t i = 0; !status && i < (size_t)n * count; i++)
        logvar[i] = logvar[i] < -30 ? -30 : logvar[i] > 20 ? 20 : logvar[i];
    return status;
}

void sdw_vae_sample(float *latents, const float *mean, const float *logvar, const float *noise,
                    size_t count)
{
    for (size_t i = 0; i < count; i++)
        latents[i] = mean[i] + expf(0.5f * logvar[i]) * noise[i];
}
