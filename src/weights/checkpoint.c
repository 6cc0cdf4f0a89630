/* checkpoint.c: see checkpoint.h. A name is rewritten in two steps: the block that a tensor lies in
 * (its head), then the layer within the block (its tail), each by a table of prefixes. */
#include "weights/checkpoint.h"

#include "weights/file.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NAME_BYTES_MAX 256
#define BLOCKS_MAX     64 /* of input_blocks, output_blocks, decoder.up */

enum kind { UNET, VAE, CLIP, OPEN_CLIP };

static const struct component {
    const char *name, *prefix;
    enum kind kind;
} components[] = {
    {"unet", "model.diffusion_model.", UNET},
    {"vae", "first_stage_model.", VAE},
    {"text_encoder", "cond_stage_model.transformer.", CLIP},         /* 1.x */
    {"text_encoder", "cond_stage_model.model.", OPEN_CLIP},          /* 2.x */
    {"text_encoder", "conditioner.embedders.0.transformer.", CLIP},  /* XL */
    {"text_encoder_2", "conditioner.embedders.1.model.", OPEN_CLIP}, /* XL */
    {"text_encoder_2", "conditioner.embedders.0.model.", OPEN_CLIP}, /* XL's refiner */
};

/* A file of a VAE alone has no prefix; one in diffusers' names passes through as it is. */
static const struct component bare_vae = {"vae", "", VAE};

/* `from` at the head of a name becomes `to`; the first row that fits is taken. */
struct row {
    const char *from, *to;
};

static const struct row unet_heads[] = {
    {"time_embed.0.", "time_embedding.linear_1."},
    {"time_embed.2.", "time_embedding.linear_2."},
    {"time_embed.cond_proj.", "time_embedding.cond_proj."}, /* LCM */
    {"label_emb.0.0.", "add_embedding.linear_1."},
    {"label_emb.0.2.", "add_embedding.linear_2."},
    {"input_blocks.0.0.", "conv_in."},
    {"out.0.", "conv_norm_out."},
    {"out.2.", "conv_out."},
    {"middle_block.0.", "mid_block.resnets.0."},
    {"middle_block.1.", "mid_block.attentions.0."},
    {"middle_block.2.", "mid_block.resnets.1."},
};

static const struct row resnet_tails[] = {
    {"in_layers.0.", "norm1."},          {"in_layers.2.", "conv1."},
    {"emb_layers.1.", "time_emb_proj."}, {"out_layers.0.", "norm2."},
    {"out_layers.3.", "conv2."},         {"skip_connection.", "conv_shortcut."},
};

static const struct row vae_heads[] = {
    {"encoder.mid.block_1.", "encoder.mid_block.resnets.0."},
    {"encoder.mid.block_2.", "encoder.mid_block.resnets.1."},
    {"encoder.mid.attn_1.", "encoder.mid_block.attentions.0."},
    {"encoder.norm_out.", "encoder.conv_norm_out."},
    {"decoder.mid.block_1.", "decoder.mid_block.resnets.0."},
    {"decoder.mid.block_2.", "decoder.mid_block.resnets.1."},
    {"decoder.mid.attn_1.", "decoder.mid_block.attentions.0."},
    {"decoder.norm_out.", "decoder.conv_norm_out."},
};

static const struct row vae_tails[] = {
    {"nin_shortcut.", "conv_shortcut."},
    {"norm.", "group_norm."},
    {"q.", "to_q."},
    {"k.", "to_k."},
    {"v.", "to_v."},
    {"proj_out.", "to_out.0."},
};

static const struct row open_clip_heads[] = {
    {"token_embedding.weight", "text_model.embeddings.token_embedding.weight"},
    {"positional_embedding", "text_model.embeddings.position_embedding.weight"},
    {"ln_final.", "text_model.final_layer_norm."},
    {"text_projection", "text_projection.weight"}, /* [in,out] there: turned over below */
};

static const struct row open_clip_tails[] = {
    {"ln_1.", "layer_norm1."},
    {"ln_2.", "layer_norm2."},
    {"mlp.c_fc.", "mlp.fc1."},
    {"mlp.c_proj.", "mlp.fc2."},
    {"attn.out_proj.", "self_attn.out_proj."},
};

/* What the walk needs to know of the file. */
struct naming {
    const struct sdw_weights *file;
    const struct component *component;
    struct place {
        int block, layer;
    } input[BLOCKS_MAX], output[BLOCKS_MAX];
    int decoder_levels;
};

#define COUNT(rows) ((int)(sizeof(rows) / sizeof(rows)[0]))

/* Writes the row that fits, and the rest of the name; false when none does. */
static bool replace(char *to, const char *from, const struct row *rows, int count)
{
    for (int i = 0; i < count; i++) {
        size_t n = strlen(rows[i].from);
        if (strncmp(from, rows[i].from, n) == 0) {
            snprintf(to, NAME_BYTES_MAX, "%s%s", rows[i].to, from + n);
            return true;
        }
    }
    return false;
}

/* `head`, then the tail as the table has it or as it is. */
static void join(char *to, const char *head, const char *tail, const struct row *rows, int count)
{
    char replaced[NAME_BYTES_MAX];
    snprintf(to, NAME_BYTES_MAX, "%s%s", head,
             replace(replaced, tail, rows, count) ? replaced : tail);
}

static bool has(const struct naming *naming, const char *format, int i)
{
    char name[NAME_BYTES_MAX];
    struct sdw_array array;
    int n = snprintf(name, sizeof name, "%s", naming->component->prefix);
    snprintf(name + n, sizeof name - (size_t)n, format, i);
    return sdw_weights_shape(naming->file, name, &array);
}

/* ---- the UNet ---- */

/* input_blocks are numbered through: a downsampler ends a resolution. Likewise upwards. */
static void find_places(struct naming *naming)
{
    struct place down = {0}, up = {0};
    for (int i = 1; i < BLOCKS_MAX; i++) {
        naming->input[i] = down;
        down.layer++;
        if (has(naming, "input_blocks.%d.0.op.weight", i))
            down = (struct place){down.block + 1, 0};
    }
    for (int i = 0; i < BLOCKS_MAX; i++) {
        naming->output[i] = up;
        up.layer++;
        if (has(naming, "output_blocks.%d.1.conv.weight", i) ||
            has(naming, "output_blocks.%d.2.conv.weight", i))
            up = (struct place){up.block + 1, 0};
    }
}

static bool rename_unet(char *to, const char *from, const struct naming *naming)
{
    char head[NAME_BYTES_MAX];
    int i, part, used = 0;
    if (replace(head, from, unet_heads, COUNT(unet_heads))) {
        const char *tail = strstr(head, "resnets.");
        if (!tail) {
            snprintf(to, NAME_BYTES_MAX, "%s", head);
            return true;
        }
        used = (int)(tail - head) + (int)strlen("resnets.0.");
        char rest[NAME_BYTES_MAX];
        snprintf(rest, sizeof rest, "%s", head + used);
        head[used] = 0;
        join(to, head, rest, resnet_tails, COUNT(resnet_tails));
        return true;
    }
    bool input = sscanf(from, "input_blocks.%d.%d.%n", &i, &part, &used) == 2 && used > 0;
    if (!input && (sscanf(from, "output_blocks.%d.%d.%n", &i, &part, &used) != 2 || used == 0))
        return false;
    if (i < 0 || i >= BLOCKS_MAX)
        return false;
    const struct place *place = input ? &naming->input[i] : &naming->output[i];
    const char *tail = from + used, *block = input ? "down" : "up";
    if (input && strncmp(tail, "op.", 3) == 0)
        snprintf(to, NAME_BYTES_MAX, "down_blocks.%d.downsamplers.0.conv.%s", place->block,
                 tail + 3);
    else if (!input && strncmp(tail, "conv.", 5) == 0)
        snprintf(to, NAME_BYTES_MAX, "up_blocks.%d.upsamplers.0.%s", place->block, tail);
    else {
        snprintf(head, sizeof head, "%s_blocks.%d.%s.%d.", block, place->block,
                 part == 0 ? "resnets" : "attentions", place->layer);
        join(to, head, tail, resnet_tails, part == 0 ? COUNT(resnet_tails) : 0);
    }
    return true;
}

/* ---- the VAE ---- */

static bool rename_vae(char *to, const char *from, const struct naming *naming)
{
    char head[NAME_BYTES_MAX], rest[NAME_BYTES_MAX];
    int block, layer, used = 0;
    const char *inner;
    if (replace(head, from, vae_heads, COUNT(vae_heads))) {
        inner = strstr(head, "mid_block.");
        used = inner ? (int)(strchr(strchr(inner + 10, '.') + 1, '.') + 1 - head) : 0;
        snprintf(rest, sizeof rest, "%s", head + used);
        head[used] = 0;
        join(to, head, rest, vae_tails, inner ? COUNT(vae_tails) : 0);
        return true;
    }
    bool down = strncmp(from, "encoder.down.", 13) == 0;
    if (!down && strncmp(from, "decoder.up.", 11) != 0) { /* conv_in, conv_out, quant_conv, ... */
        snprintf(to, NAME_BYTES_MAX, "%s", from);
        return true;
    }
    from += down ? 13 : 11;
    const char *side = down ? "encoder.down" : "decoder.up";
    if (sscanf(from, "%d.block.%d.%n", &block, &layer, &used) == 2 && used > 0) {
        snprintf(head, sizeof head, "%s_blocks.%d.resnets.%d.", side,
                 down ? block : naming->decoder_levels - 1 - block, layer);
        join(to, head, from + used, vae_tails, COUNT(vae_tails));
        return true;
    }
    used = 0;
    if (sscanf(from, "%d.%*[a-z].%n", &block, &used) != 1 || used == 0)
        return false;
    snprintf(to, NAME_BYTES_MAX, "%s_blocks.%d.%ssamplers.0.%s", side,
             down ? block : naming->decoder_levels - 1 - block, down ? "down" : "up", from + used);
    return true;
}

/* ---- text encoders ---- */

static bool rename_clip(char *to, const char *from)
{
    bool bare = strncmp(from, "text_model.", 11) != 0; /* some converters left that out */
    snprintf(to, NAME_BYTES_MAX, "%s%s", bare ? "text_model." : "", from);
    return true;
}

static bool rename_open_clip(char *to, const char *from)
{
    char head[NAME_BYTES_MAX];
    int layer, used = 0;
    if (replace(to, from, open_clip_heads, COUNT(open_clip_heads)))
        return true;
    if (sscanf(from, "transformer.resblocks.%d.%n", &layer, &used) != 1 || used == 0)
        return false;
    snprintf(head, sizeof head, "text_model.encoder.layers.%d.", layer);
    join(to, head, from + used, open_clip_tails, COUNT(open_clip_tails));
    return true;
}

/* ---- the walk ---- */

/* attn.in_proj holds queries, keys and values above each other: thirds of its rows. */
static enum sdw_status add_thirds(struct sdw_weights *part, const char *name, const char *ending,
                                  const struct sdw_array *array, struct sdw_error *err)
{
    static const char letter[] = "qkv";
    enum sdw_status status = SDW_OK;
    struct sdw_array third = *array;
    if (array->rank < 1 || array->dim[0] % 3 != 0)
        return sdw_fail(err, SDW_FORMAT, "%s: tensor %s has no rows for q, k and v", part->path,
                        name);
    third.dim[0] /= 3;
    size_t bytes = (size_t)sdw_array_count(&third) * sdw_dtype_bytes(third.dtype);
    for (int i = 0; i < 3 && !status; i++) {
        char to[2 * NAME_BYTES_MAX];
        int n = snprintf(to, sizeof to, "%.*sself_attn.%c_proj.%s",
                         (int)(ending - name - (ptrdiff_t)strlen("attn.in_proj_")), name, letter[i],
                         ending);
        third.data = (const char *)array->data + (size_t)i * bytes;
        status = sdw_weights_add(part, to, (size_t)n, &third, err);
    }
    return status;
}

static enum sdw_status add_renamed(struct sdw_weights *part, const struct naming *naming,
                                   const struct sdw_weights_entry *entry, struct sdw_error *err)
{
    const char *from = entry->name + strlen(naming->component->prefix);
    char to[NAME_BYTES_MAX];
    bool known = false;
    if (strlen(entry->name) >= NAME_BYTES_MAX / 2)
        return SDW_OK; /* no name of a model is that long */
    switch (naming->component->kind) {
    case UNET: known = rename_unet(to, from, naming); break;
    case VAE: known = rename_vae(to, from, naming); break;
    case CLIP: known = rename_clip(to, from); break;
    case OPEN_CLIP: known = rename_open_clip(to, from); break;
    }
    if (!known)
        return SDW_OK; /* what trainers leave there: logit_scale, attn_mask, loss */
    const char *thirds = strstr(to, "attn.in_proj_");
    if (thirds)
        return add_thirds(part, to, thirds + strlen("attn.in_proj_"), &entry->array, err);
    enum sdw_status status = sdw_weights_add(part, to, strlen(to), &entry->array, err);
    if (!status && strcmp(from, "text_projection") == 0)
        part->entry[part->count - 1].transposed = entry->array.rank == 2;
    return status;
}

static enum sdw_status fill(struct sdw_weights *part, struct naming *naming, struct sdw_error *err)
{
    enum sdw_status status = SDW_OK;
    const char *prefix = naming->component->prefix;
    if (naming->component->kind == UNET)
        find_places(naming);
    while (naming->decoder_levels < BLOCKS_MAX &&
           has(naming, "decoder.up.%d.block.0.norm1.weight", naming->decoder_levels))
        naming->decoder_levels++;
    for (int i = 0; i < naming->file->count && !status; i++)
        if (strncmp(naming->file->entry[i].name, prefix, strlen(prefix)) == 0)
            status = add_renamed(part, naming, &naming->file->entry[i], err);
    return status;
}

bool sdw_checkpoint_is(const struct sdw_weights *file)
{
    struct sdw_array array;
    return sdw_weights_shape(file, "model.diffusion_model.input_blocks.0.0.weight", &array);
}

enum sdw_status sdw_checkpoint_part(struct sdw_weights **part, const struct sdw_weights *file,
                                    const char *component, struct sdw_error *err)
{
    struct sdw_weights *made = malloc(sizeof *made);
    *part = NULL;
    if (made) {
        *made = *file;
        for (int i = 0; i < made->mappings; i++)
            sdw_mapping_hold(made->mapping[i]);
        made->entry = NULL;
        made->count = made->capacity = 0;
        made->path = strdup(file->path);
    }
    if (!made || !made->path) {
        free(made);
        return sdw_fail(err, SDW_MEMORY, "no memory for the names of %s", file->path);
    }
    enum sdw_status status = SDW_OK;
    struct naming naming = {.file = file};
    for (int i = 0; i < COUNT(components) && !status; i++) {
        naming = (struct naming){.file = file, .component = &components[i]};
        if (strcmp(components[i].name, component) == 0)
            status = fill(made, &naming, err);
    }
    naming = (struct naming){.file = file, .component = &bare_vae};
    if (!status && made->count == 0 && strcmp(component, bare_vae.name) == 0 &&
        has(&naming, "encoder.conv_in.weight", 0))
        status = fill(made, &naming, err);
    if (!status)
        status = sdw_weights_sort(made, err);
    if (!status && made->count == 0)
        status = sdw_fail(err, SDW_NOT_FOUND, "%s holds no %s under the names of a checkpoint",
                          file->path, component);
    if (status)
        sdw_weights_close(made);
    else
        *part = made;
    return status;
}
