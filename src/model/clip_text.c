/* clip_text.c: token and position embeddings, pre-norm transformer layers under a causal mask, a
 * final norm, and for XL's second encoder a projection of the end token. */
#include "model/clip_text.h"

#include "nn/attention.h"
#include "nn/layers.h"
#include "nn/table.h"

#include <assert.h>
#include <stdlib.h>

struct layer {
    struct sdw_norm norm1, norm2;
    struct sdw_attention_layer attention;
    struct sdw_weight *fc1, *fc2;
};

struct sdw_clip_text {
    struct sdw_device *dev;
    struct sdw_clip_text_config config;
    struct sdw_parameters parameters;
    struct sdw_table tokens;     /* [vocabulary,width] */
    struct sdw_tensor positions; /* [1,positions,1,width] */
    struct layer layer[SDW_DEPTH_MAX];
    struct sdw_norm final_norm;
    struct sdw_weight *projection; /* NULL where there is none */
};

static void load_layer(struct layer *layer, struct sdw_loader *loader,
                       const struct sdw_clip_text_config *config)
{
    layer->norm1 = sdw_load_norm(loader, "layer_norm1", config->width, 0, config->epsilon);
    size_t mark = sdw_loader_enter(loader, "self_attn");
    sdw_attention_load(&layer->attention, loader, SDW_ATTENTION_CLIP, config->width, config->width,
                       config->heads);
    sdw_loader_leave(loader, mark);
    layer->norm2 = sdw_load_norm(loader, "layer_norm2", config->width, 0, config->epsilon);
    layer->fc1 = sdw_load_linear(loader, "mlp.fc1", config->width, config->mlp_width, SDW_BIAS);
    layer->fc2 = sdw_load_linear(loader, "mlp.fc2", config->mlp_width, config->width, SDW_BIAS);
}

enum sdw_status sdw_clip_text_open(struct sdw_clip_text **text, struct sdw_device *dev,
                                   const struct sdw_weights *weights,
                                   const struct sdw_clip_text_config *config, struct sdw_error *err)
{
    struct sdw_clip_text *model = calloc(1, sizeof *model);
    if (!model)
        return sdw_fail(err, SDW_MEMORY, "no memory for a text encoder");
    model->dev = dev;
    model->config = *config;
    struct sdw_loader loader;
    sdw_loader_init(&loader, dev, weights, &model->parameters);

    size_t mark = sdw_loader_enter(&loader, "text_model");
    sdw_table_load(&model->tokens, &loader, "embeddings.token_embedding", config->vocabulary,
                   config->width);
    model->positions =
        sdw_load_table(&loader, "embeddings.position_embedding", config->positions, config->width);
    for (int i = 0; i < config->layers; i++) {
        size_t inner = sdw_loader_enter(&loader, "encoder.layers.%d", i);
        load_layer(&model->layer[i], &loader, config);
        sdw_loader_leave(&loader, inner);
    }
    model->final_norm =
        sdw_load_norm(&loader, "final_layer_norm", config->width, 0, config->epsilon);
    sdw_loader_leave(&loader, mark);
    if (config->projection > 0)
        model->projection = sdw_load_linear(&loader, "text_projection", config->width,
                                            config->projection, SDW_BIAS_NONE);

    enum sdw_status status = sdw_loader_finish(&loader, err);
    if (status)
        sdw_clip_text_close(model);
    else
        *text = model;
    return status;
}

void sdw_clip_text_close(struct sdw_clip_text *text)
{
    if (!text)
        return;
    sdw_table_free(&text->tokens);
    sdw_parameters_free(&text->parameters);
    free(text);
}

size_t sdw_clip_text_bytes(const struct sdw_clip_text *text)
{
    return text->parameters.bytes;
}

int64_t sdw_clip_text_parameters(const struct sdw_clip_text *text)
{
    return text->parameters.count;
}

static enum sdw_status check_ids(const struct sdw_clip_text *text, const int32_t *ids, int count,
                                 struct sdw_error *err)
{
    for (int i = 0; i < count; i++)
        if (ids[i] < 0 || ids[i] >= text->config.vocabulary)
            return sdw_fail(err, SDW_MODEL,
                            "token %d is outside of the text encoder's vocabulary of %d: the "
                            "tokenizer belongs to another model",
                            ids[i], text->config.vocabulary);
    return SDW_OK;
}

/* Row r of the batch's end token, as an index into the rows of [n,tokens]. */
static int32_t end_token(const int32_t *ids, int tokens, int r)
{
    const int32_t *row = ids + (size_t)r * (size_t)tokens;
    int end = 0;
    for (int i = 1; i < tokens; i++)
        if (row[i] > row[end])
            end = i;
    return r * tokens + end;
}

/* rows [n,tokens,width]: the tokens' rows of the table; read until the next sync. */
static struct sdw_tensor embed(const struct sdw_clip_text *text, const float *rows, int n,
                               int tokens)
{
    struct sdw_device *dev = text->dev;
    struct sdw_tensor stream = sdw_tensor_new(dev, dev->stream, n, tokens, 1, text->config.width);
    struct sdw_tensor positions = text->positions;
    positions.h = tokens;
    struct sdw_tensor from_host = sdw_upload_new(dev, rows, n, tokens, 1, text->config.width);
    struct sdw_tensor embedding = sdw_operand_take(dev, &from_host); /* as all weights are */
    sdw_add(dev, &stream, &embedding, &positions);
    sdw_tensor_free(dev, &embedding);
    return stream;
}

/* stream [n,tokens,1,width] */
static void forward_layer(const struct sdw_clip_text *text, const struct layer *layer,
                          const struct sdw_tensor *stream)
{
    struct sdw_device *dev = text->dev;
    struct sdw_tensor x = sdw_layer_norm_new(dev, &layer->norm1, stream);
    sdw_attention_forward(dev, &layer->attention, stream, x, NULL);
    x = sdw_layer_norm_new(dev, &layer->norm2, stream);
    struct sdw_tensor wide = sdw_linear_new(dev, layer->fc1, &x, text->config.act, dev->compute);
    sdw_tensor_free(dev, &x);
    sdw_linear(dev, stream, &wide, layer->fc2, SDW_ACT_NONE, stream);
    sdw_tensor_free(dev, &wide);
}

/* to_host = norm(stream), or stream itself, in f32. */
static void give(const struct sdw_clip_text *text, float *to_host, const struct sdw_tensor *stream,
                 bool norm)
{
    struct sdw_device *dev = text->dev;
    struct sdw_tensor out =
        sdw_tensor_new(dev, SDW_F32, stream->n, stream->h, stream->w, stream->c);
    if (norm)
        sdw_layer_norm(dev, &out, stream, &text->final_norm);
    else
        sdw_cast(dev, &out, stream);
    sdw_download(dev, to_host, &out);
    sdw_tensor_free(dev, &out);
}

static void give_pooled(const struct sdw_clip_text *text, float *to_host,
                        const struct sdw_tensor *stream, const int32_t *end)
{
    struct sdw_device *dev = text->dev;
    int n = stream->n, width = stream->c;
    struct sdw_tensor rows = *stream; /* [1,n*tokens,1,width] */
    rows.n = 1;
    rows.h = n * stream->h;
    struct sdw_tensor id = sdw_tensor_new(dev, SDW_I32, n, 1, 1, 1);
    struct sdw_tensor last = sdw_tensor_new(dev, dev->stream, n, 1, 1, width);
    struct sdw_tensor out = sdw_tensor_new(dev, SDW_F32, n, 1, 1, width);
    sdw_upload(dev, &id, end);
    sdw_embed(dev, &last, &rows, &id);
    sdw_layer_norm(dev, &out, &last, &text->final_norm);
    if (text->projection) {
        struct sdw_tensor x = sdw_operand_take(dev, &out);
        out = sdw_linear_new(dev, text->projection, &x, SDW_ACT_NONE, SDW_F32);
        sdw_tensor_free(dev, &x);
    }
    sdw_download(dev, to_host, &out);
    sdw_tensor_free(dev, &out);
    sdw_tensor_free(dev, &last);
    sdw_tensor_free(dev, &id);
}

/* Runs the layers that are asked for; rows and end are read until the next sync. */
static void run(const struct sdw_clip_text *text, float *hidden, float *pooled, const float *rows,
                const int32_t *end, int n, int tokens, struct sdw_clip_text_layer layer)
{
    int wanted = text->config.layers - layer.skip; /* layers before `hidden` is taken */
    int needed = pooled ? text->config.layers : wanted;
    struct sdw_tensor stream = embed(text, rows, n, tokens);
    for (int i = 0; i <= needed; i++) {
        if (hidden && i == wanted)
            give(text, hidden, &stream, layer.norm);
        if (i < needed)
            forward_layer(text, &text->layer[i], &stream);
    }
    if (pooled)
        give_pooled(text, pooled, &stream, end);
    sdw_tensor_free(text->dev, &stream);
}

enum sdw_status sdw_clip_text_encode(struct sdw_clip_text *text, float *hidden, float *pooled,
                                     const int32_t *ids, int n, int tokens,
                                     struct sdw_clip_text_layer layer, struct sdw_error *err)
{
    const struct sdw_clip_text_config *config = &text->config;
    assert(n > 0 && tokens > 0 && tokens <= config->positions);
    assert(layer.skip >= 0 && layer.skip <= config->layers);
    enum sdw_status status = check_ids(text, ids, n * tokens, err);
    if (status)
        return status;
    int32_t *end = malloc((size_t)n * sizeof *end);
    float *rows = malloc((size_t)n * (size_t)tokens * (size_t)config->width * sizeof *rows);
    if (!end || !rows)
        status = sdw_fail(err, SDW_MEMORY, "no memory for %d prompts", n);
    if (!status)
        status = sdw_table_read(&text->tokens, rows, ids, n * tokens, err);
    if (!status) {
        for (int r = 0; r < n; r++)
            end[r] = end_token(ids, tokens, r);
        run(text, hidden, pooled, rows, end, n, tokens, layer);
        status = sdw_sync(text->dev, err);
    }
    free(rows);
    free(end);
    return status;
}
