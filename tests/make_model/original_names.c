/* original_names.c: see original.h. Counted from the geometry, where src/weights/checkpoint.c looks
 * for what is in the file. */
#include "original.h"

#include <stdio.h>
#include <string.h>

struct rename {
    const char *from, *to;
};

/* Replaces the first place where each row's text stands. */
static void replace_all(char *name, const struct rename *row)
{
    for (; row->from; row++) {
        char *at = strstr(name, row->from), rest[ORIGINAL_NAME_MAX];
        if (!at)
            continue;
        snprintf(rest, sizeof rest, "%s", at + strlen(row->from));
        snprintf(at, ORIGINAL_NAME_MAX - (size_t)(at - name), "%s%s", row->to, rest);
    }
}

void original_unet(char *to, const char *name, const struct original_geometry *geometry)
{
    static const struct rename inner[] = {{"norm1.", "in_layers.0."},
                                          {"conv1.", "in_layers.2."},
                                          {"time_emb_proj.", "emb_layers.1."},
                                          {"norm2.", "out_layers.0."},
                                          {"conv2.", "out_layers.3."},
                                          {"conv_shortcut.", "skip_connection."},
                                          {NULL, NULL}};
    static const struct rename outer[] = {{"time_embedding.linear_1", "time_embed.0"},
                                          {"time_embedding.linear_2", "time_embed.2"},
                                          {"time_embedding.cond_proj", "time_embed.cond_proj"},
                                          {"add_embedding.linear_1", "label_emb.0.0"},
                                          {"add_embedding.linear_2", "label_emb.0.2"},
                                          {"conv_in.", "input_blocks.0.0."},
                                          {"conv_norm_out.", "out.0."},
                                          {"conv_out.", "out.2."},
                                          {"mid_block.resnets.0", "middle_block.0"},
                                          {"mid_block.attentions.0", "middle_block.1"},
                                          {"mid_block.resnets.1", "middle_block.2"},
                                          {NULL, NULL}};
    char work[ORIGINAL_NAME_MAX];
    int block, layer, used = 0, each = geometry->unet_layers + 1;
    snprintf(work, sizeof work, "%s", name);
    if (strstr(work, "resnets."))
        replace_all(work, inner);
    if (sscanf(work, "down_blocks.%d.resnets.%d.%n", &block, &layer, &used) == 2)
        snprintf(to, ORIGINAL_NAME_MAX, "input_blocks.%d.0.%s", 1 + block * each + layer,
                 work + used);
    else if (sscanf(work, "down_blocks.%d.attentions.%d.%n", &block, &layer, &used) == 2)
        snprintf(to, ORIGINAL_NAME_MAX, "input_blocks.%d.1.%s", 1 + block * each + layer,
                 work + used);
    else if (sscanf(work, "down_blocks.%d.downsamplers.0.conv.%n", &block, &used) == 1)
        snprintf(to, ORIGINAL_NAME_MAX, "input_blocks.%d.0.op.%s", (block + 1) * each, work + used);
    else if (sscanf(work, "up_blocks.%d.resnets.%d.%n", &block, &layer, &used) == 2)
        snprintf(to, ORIGINAL_NAME_MAX, "output_blocks.%d.0.%s", block * each + layer, work + used);
    else if (sscanf(work, "up_blocks.%d.attentions.%d.%n", &block, &layer, &used) == 2)
        snprintf(to, ORIGINAL_NAME_MAX, "output_blocks.%d.1.%s", block * each + layer, work + used);
    else if (sscanf(work, "up_blocks.%d.upsamplers.0.%n", &block, &used) == 1)
        snprintf(to, ORIGINAL_NAME_MAX, "output_blocks.%d.%d.%s", block * each + each - 1,
                 geometry->up_attention[block] ? 2 : 1, work + used);
    else {
        replace_all(work, outer);
        snprintf(to, ORIGINAL_NAME_MAX, "%s", work);
    }
}

void original_vae(char *to, const char *name, const struct original_geometry *geometry)
{
    static const struct rename rows[] = {{"mid_block.resnets.0", "mid.block_1"},
                                         {"mid_block.resnets.1", "mid.block_2"},
                                         {"mid_block.attentions.0", "mid.attn_1"},
                                         {"group_norm", "norm"},
                                         {"to_q", "q"},
                                         {"to_k", "k"},
                                         {"to_v", "v"},
                                         {"to_out.0", "proj_out"},
                                         {"conv_norm_out", "norm_out"},
                                         {"conv_shortcut", "nin_shortcut"},
                                         {".resnets.", ".block."},
                                         {"downsamplers.0", "downsample"},
                                         {"upsamplers.0", "upsample"},
                                         {NULL, NULL}};
    int block, used = 0;
    if (sscanf(name, "encoder.down_blocks.%d.%n", &block, &used) == 1)
        snprintf(to, ORIGINAL_NAME_MAX, "encoder.down.%d.%s", block, name + used);
    else if (sscanf(name, "decoder.up_blocks.%d.%n", &block, &used) == 1)
        snprintf(to, ORIGINAL_NAME_MAX, "decoder.up.%d.%s", geometry->vae_levels - 1 - block,
                 name + used);
    else
        snprintf(to, ORIGINAL_NAME_MAX, "%s", name);
    replace_all(to, rows);
}

void original_open_clip(char *to, const char *name)
{
    static const struct rename rows[] = {
        {"text_model.embeddings.token_embedding", "token_embedding"},
        {"text_model.embeddings.position_embedding.weight", "positional_embedding"},
        {"text_model.final_layer_norm", "ln_final"},
        {"text_projection.weight", "text_projection"},
        {"text_model.encoder.layers", "transformer.resblocks"},
        {"layer_norm1", "ln_1"},
        {"layer_norm2", "ln_2"},
        {"mlp.fc1", "mlp.c_fc"},
        {"mlp.fc2", "mlp.c_proj"},
        {"self_attn.out_proj", "attn.out_proj"},
        {"self_attn.q_proj.", "attn.in_proj_"},
        {NULL, NULL}};
    snprintf(to, ORIGINAL_NAME_MAX, "%s", name);
    replace_all(to, rows);
}

/* Old names of the VAE's attention, as the manifest of some models has them. */
void original_modern(char *to, const char *name)
{
    static const struct rename rows[] = {{".query.", ".to_q."},
                                         {".key.", ".to_k."},
                                         {".value.", ".to_v."},
                                         {".proj_attn.", ".to_out.0."},
                                         {NULL, NULL}};
    snprintf(to, ORIGINAL_NAME_MAX, "%s", name);
    replace_all(to, rows);
}
