/* transformer.c: in NHWC the 1x1 convolutions of SD 1.x and the linear projections of later models
 * are the same thing, and nothing is ever permuted. */
#include "nn/transformer.h"

#include "nn/layers.h"

#include <stdlib.h>

#define NORM_EPSILON       1e-6f /* of the transformer's group norm, whatever the UNet has */
#define LAYER_NORM_EPSILON 1e-5f

static void load_block(struct sdw_transformer_block *block, struct sdw_loader *loader,
                       struct sdw_transformer_shape shape)
{
    int width = shape.width;
    block->norm1 = sdw_load_norm(loader, "norm1", width, 0, LAYER_NORM_EPSILON);
    block->norm2 = sdw_load_norm(loader, "norm2", width, 0, LAYER_NORM_EPSILON);
    block->norm3 = sdw_load_norm(loader, "norm3", width, 0, LAYER_NORM_EPSILON);
    size_t mark = sdw_loader_enter(loader, "attn1");
    sdw_attention_load(&block->self, loader, SDW_ATTENTION_UNET, width, width, shape.heads);
    sdw_loader_leave(loader, mark);
    mark = sdw_loader_enter(loader, "attn2");
    sdw_attention_load(&block->cross, loader, SDW_ATTENTION_UNET, width, shape.context_width,
                       shape.heads);
    sdw_loader_leave(loader, mark);
    block->widen = sdw_load_linear(loader, "ff.net.0.proj", width, 8 * width, SDW_BIAS);
    block->narrow = sdw_load_linear(loader, "ff.net.2", 4 * width, width, SDW_BIAS);
}

void sdw_transformer_load(struct sdw_transformer *transformer, struct sdw_loader *loader,
                          struct sdw_transformer_shape shape)
{
    int width = shape.width;
    transformer->norm = sdw_load_norm(loader, "norm", width, shape.groups, NORM_EPSILON);
    transformer->proj_in = sdw_load_linear(loader, "proj_in", width, width, SDW_BIAS);
    transformer->proj_out = sdw_load_linear(loader, "proj_out", width, width, SDW_BIAS);
    transformer->block = calloc((size_t)shape.depth, sizeof *transformer->block);
    transformer->depth = transformer->block ? shape.depth : 0;
    if (!transformer->block)
        sdw_loader_out_of_memory(loader);
    for (int i = 0; i < transformer->depth; i++) {
        size_t mark = sdw_loader_enter(loader, "transformer_blocks.%d", i);
        load_block(&transformer->block[i], loader, shape);
        sdw_loader_leave(loader, mark);
    }
}

void sdw_transformer_free(struct sdw_transformer *transformer)
{
    free(transformer->block);
    transformer->block = NULL;
    transformer->depth = 0;
}

static void feed_forward(struct sdw_device *dev, const struct sdw_transformer_block *block,
                         const struct sdw_tensor *stream)
{
    struct sdw_tensor x = sdw_layer_norm_new(dev, &block->norm3, stream); /* [n,h,w,c] */
    struct sdw_tensor wide = sdw_linear_new(dev, block->widen, &x, SDW_ACT_NONE, dev->compute);
    sdw_tensor_free(dev, &x);
    struct sdw_tensor gated =
        sdw_tensor_new(dev, dev->compute, wide.n, wide.h, wide.w, wide.c / 2); /* [n,h,w,4c] */
    sdw_geglu(dev, &gated, &wide);
    sdw_tensor_free(dev, &wide);
    sdw_linear(dev, stream, &gated, block->narrow, SDW_ACT_NONE, stream);
    sdw_tensor_free(dev, &gated);
}

void sdw_transformer_forward(struct sdw_device *dev, const struct sdw_transformer *transformer,
                             const struct sdw_tensor *stream, const struct sdw_keys *keys)
{
    struct sdw_tensor x = sdw_group_norm_new(dev, &transformer->norm, stream, SDW_ACT_NONE, NULL);
    struct sdw_tensor tokens =
        sdw_linear_new(dev, transformer->proj_in, &x, SDW_ACT_NONE, dev->stream); /* [n,h,w,c] */
    sdw_tensor_free(dev, &x);
    for (int i = 0; i < transformer->depth; i++) {
        const struct sdw_transformer_block *block = &transformer->block[i];
        x = sdw_layer_norm_new(dev, &block->norm1, &tokens);
        sdw_attention_forward(dev, &block->self, &tokens, x, NULL);
        x = sdw_layer_norm_new(dev, &block->norm2, &tokens);
        sdw_attention_forward(dev, &block->cross, &tokens, x, &keys[i]);
        feed_forward(dev, block, &tokens);
    }
    x = sdw_operand_take(dev, &tokens);
    sdw_linear(dev, stream, &x, transformer->proj_out, SDW_ACT_NONE, stream);
    sdw_tensor_free(dev, &x);
}
