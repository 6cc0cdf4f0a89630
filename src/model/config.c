/* config.c: a model's config.json files, component by component. Defaults are those of
 * the diffusers classes, because files of old versions leave out what later ones write. What we
 * have no code for is refused by name rather than ignored. */
#include "model/config.h"

#include "model/config_file.h"

#include <stdio.h>
#include <string.h>

#define REQUIRED SDW_CONFIG_REQUIRED

static void copy_text(char *to, size_t size, const char *from)
{
    snprintf(to, size, "%s", from);
}

static void check_divides(struct sdw_config_file *file, const char *what, int width,
                          const char *parts_name, int parts)
{
    if (width % parts != 0)
        sdw_config_fail(file, SDW_MODEL, "%s %d is not divisible by %s %d", what, width, parts_name,
                        parts);
}

/* ---- text encoder ---- */

static bool has_projection(struct sdw_config_file *file)
{
    json_t *classes = json_object_get(file->root, "architectures");
    const char *name = json_string_value(json_array_get(classes, 0));
    return name && strcmp(name, "CLIPTextModelWithProjection") == 0;
}

static enum sdw_act text_act(struct sdw_config_file *file)
{
    const char *name = sdw_config_text(file, "hidden_act", "quick_gelu");
    if (strcmp(name, "quick_gelu") == 0)
        return SDW_ACT_QUICK_GELU;
    if (strcmp(name, "gelu") != 0)
        sdw_config_fail(file, SDW_MODEL, "hidden_act is \"%.40s\", expected quick_gelu or gelu",
                        name);
    return SDW_ACT_GELU;
}

static enum sdw_status read_text(struct sdw_clip_text_config *config,
                                 const struct sdw_model_source *source, const char *component,
                                 struct sdw_error *err)
{
    char name[64];
    snprintf(name, sizeof name, "%s/config.json", component);
    struct sdw_config_file file;
    sdw_config_file_open(&file, source, name);
    *config = (struct sdw_clip_text_config){
        .vocabulary = sdw_config_int(&file, "vocab_size", 1, SDW_VOCABULARY_MAX, 49408),
        .positions = sdw_config_int(&file, "max_position_embeddings", 1, SDW_TOKENS_MAX, 77),
        .width = sdw_config_int(&file, "hidden_size", 1, SDW_CHANNELS_MAX, REQUIRED),
        .mlp_width = sdw_config_int(&file, "intermediate_size", 1, 8 * SDW_CHANNELS_MAX, REQUIRED),
        .heads = sdw_config_int(&file, "num_attention_heads", 1, SDW_CHANNELS_MAX, REQUIRED),
        .layers = sdw_config_int(&file, "num_hidden_layers", 1, SDW_DEPTH_MAX, REQUIRED),
        .act = text_act(&file),
        .epsilon = (float)sdw_config_real(&file, "layer_norm_eps", 1e-12, 1, 1e-5),
    };
    if (has_projection(&file))
        config->projection = sdw_config_int(&file, "projection_dim", 1, SDW_CHANNELS_MAX, 512);
    check_divides(&file, "hidden_size", config->width, "num_attention_heads", config->heads);
    return sdw_config_file_close(&file, err);
}

/* ---- UNet ---- */

/* Fields for which one value is known; every other one is refused by name. */
static const struct {
    const char *key, *value;
} unet_only[] = {
    {"act_fn", "\"silu\""},
    {"attention_type", "\"default\""},
    {"center_input_sample", "false"},
    {"class_embed_type", "\"none\""},
    {"class_embeddings_concat", "false"},
    {"conv_in_kernel", "3"},
    {"conv_out_kernel", "3"},
    {"cross_attention_norm", "false"},
    {"downsample_padding", "1"},
    {"dual_cross_attention", "false"},
    {"encoder_hid_dim", "0"},
    {"encoder_hid_dim_type", "\"none\""},
    {"mid_block_only_cross_attention", "false"},
    {"mid_block_scale_factor", "1"},
    {"num_class_embeds", "0"},
    {"only_cross_attention", "false"},
    {"resnet_out_scale_factor", "1"},
    {"resnet_skip_time_act", "false"},
    {"resnet_time_scale_shift", "\"default\""},
    {"reverse_transformer_layers_per_block", "false"},
    {"time_embedding_act_fn", "\"none\""},
    {"time_embedding_type", "\"positional\""},
    {"timestep_post_act", "\"none\""},
};

/* True for a block type with cross-attention. `plain` and `cross` are the two names known. */
static bool block_has_attention(struct sdw_config_file *file, const char *key, int i, int count,
                                const char *plain, const char *cross)
{
    json_t *list = json_object_get(file->root, key);
    const char *name = json_string_value(json_array_get(list, (size_t)i));
    if (json_array_size(list) != (size_t)count || !name)
        sdw_config_fail(file, SDW_MODEL, "%s must be a list of %d names, as block_out_channels has",
                        key, count);
    else if (strcmp(name, plain) != 0 && strcmp(name, cross) != 0)
        sdw_config_fail(file, SDW_MODEL, "%s has a \"%.60s\", expected %s or %s", key, name, plain,
                        cross);
    return name && strcmp(name, cross) == 0;
}

static void read_unet_levels(struct sdw_unet_config *config, struct sdw_config_file *file)
{
    int channels[SDW_LEVELS_MAX], layers[SDW_LEVELS_MAX], heads[SDW_LEVELS_MAX],
        depth[SDW_LEVELS_MAX];
    int n =
        sdw_config_list(file, "block_out_channels", channels, SDW_LEVELS_MAX, 1, SDW_CHANNELS_MAX);
    config->levels = n;
    sdw_config_ints(file, "layers_per_block", layers, n, 1, SDW_LAYERS_MAX, 2);
    /* What the class calls attention_head_dim is the number of heads, an old mistake of its own. */
    const char *heads_key =
        sdw_config_has(file, "num_attention_heads") ? "num_attention_heads" : "attention_head_dim";
    sdw_config_ints(file, heads_key, heads, n, 1, SDW_CHANNELS_MAX, 8);
    sdw_config_ints(file, "transformer_layers_per_block", depth, n, 1, SDW_DEPTH_MAX, 1);
    for (int i = 0; i < n; i++) {
        struct sdw_unet_level *level = &config->level[i];
        *level = (struct sdw_unet_level){
            .channels = channels[i],
            .layers = layers[i],
            .heads = heads[i],
            .depth = depth[i],
            .down_attention = block_has_attention(file, "down_block_types", i, n, "DownBlock2D",
                                                  "CrossAttnDownBlock2D"),
            .up_attention = block_has_attention(file, "up_block_types", n - 1 - i, n, "UpBlock2D",
                                                "CrossAttnUpBlock2D"),
        };
        check_divides(file, "block_out_channels", channels[i], "norm_num_groups", config->groups);
        if (level->down_attention || level->up_attention || (config->mid_block && i == n - 1))
            check_divides(file, "block_out_channels", channels[i], heads_key, heads[i]);
    }
}

static void read_unet_time(struct sdw_unet_config *config, struct sdw_config_file *file)
{
    int width = config->level[0].channels;
    config->time_width =
        sdw_config_int(file, "time_embedding_dim", 1, 4 * SDW_CHANNELS_MAX, 4 * width);
    config->freq_shift = sdw_config_int(file, "freq_shift", 0, 1, 0);
    config->flip_sin_to_cos = sdw_config_bool(file, "flip_sin_to_cos", true);
    config->time_cond_width = sdw_config_int(file, "time_cond_proj_dim", 4, SDW_CHANNELS_MAX, 0);
    if (width % 2 != 0 || width / 2 <= config->freq_shift || config->time_cond_width % 2 != 0)
        sdw_config_fail(file, SDW_MODEL,
                        "block_out_channels starts with %d and time_cond_proj_dim is %d: sines and "
                        "cosines need even numbers",
                        width, config->time_cond_width);

    const char *addition = sdw_config_text(file, "addition_embed_type", NULL);
    if (!addition)
        return;
    if (strcmp(addition, "text_time") != 0)
        sdw_config_fail(file, SDW_MODEL,
                        "addition_embed_type is \"%.40s\", of which only text_time is known",
                        addition);
    int each = sdw_config_int(file, "addition_time_embed_dim", 4, SDW_CHANNELS_MAX, REQUIRED);
    config->addition_time_width = each;
    if (each % 2 != 0)
        sdw_config_fail(file, SDW_MODEL, "addition_time_embed_dim %d is not even", each);
    /* The rest of it is the pooled text; the text encoder's projection says how wide that is. */
    config->pooled_width = sdw_config_int(file, "projection_class_embeddings_input_dim", 1,
                                          16 * SDW_CHANNELS_MAX, REQUIRED);
}

static enum sdw_status read_unet(struct sdw_unet_config *config,
                                 const struct sdw_model_source *source, struct sdw_error *err)
{
    struct sdw_config_file file;
    sdw_config_file_open(&file, source, "unet/config.json");
    for (size_t i = 0; i < sizeof unet_only / sizeof unet_only[0]; i++)
        sdw_config_only(&file, unet_only[i].key, unet_only[i].value);
    int size[2]; /* height, width */
    sdw_config_ints(&file, "sample_size", size, 2, 1, SDW_SAMPLE_MAX, 64);
    const char *mid = sdw_config_text(&file, "mid_block_type", NULL);
    /* Absent means the default class; null means that there is none. */
    bool mid_is_null = json_is_null(json_object_get(file.root, "mid_block_type"));
    if (mid && strcmp(mid, "UNetMidBlock2DCrossAttn") != 0)
        sdw_config_fail(&file, SDW_MODEL,
                        "mid_block_type is \"%.60s\", of which only UNetMidBlock2DCrossAttn is "
                        "known",
                        mid);
    *config = (struct sdw_unet_config){
        .in_channels = sdw_config_int(&file, "in_channels", 1, 256, 4),
        .out_channels = sdw_config_int(&file, "out_channels", 1, 256, 4),
        .sample_height = size[0],
        .sample_width = size[1],
        .mid_block = !mid_is_null,
        .groups = sdw_config_int(&file, "norm_num_groups", 1, SDW_CHANNELS_MAX, 32),
        .epsilon = (float)sdw_config_real(&file, "norm_eps", 1e-12, 1, 1e-5),
        .context_width =
            sdw_config_int(&file, "cross_attention_dim", 1, 2 * SDW_CHANNELS_MAX, 1280),
    };
    read_unet_levels(config, &file);
    read_unet_time(config, &file);
    return sdw_config_file_close(&file, err);
}

/* ---- VAE ---- */

static void check_all(struct sdw_config_file *file, const char *key, const char *name)
{
    json_t *list = json_object_get(file->root, key), *entry;
    size_t i;
    json_array_foreach(list, i, entry)
    {
        const char *found = json_string_value(entry);
        if (!found || strcmp(found, name) != 0)
            sdw_config_fail(file, SDW_MODEL, "%s has a \"%.60s\", of which only %s is known", key,
                            found ? found : "?", name);
    }
}

static enum sdw_status read_vae(struct sdw_vae_config *config,
                                const struct sdw_model_source *source, struct sdw_error *err)
{
    struct sdw_config_file file;
    sdw_config_file_open(&file, source, "vae/config.json");
    sdw_config_only(&file, "act_fn", "\"silu\"");
    sdw_config_only(&file, "mid_block_add_attention", "true");
    sdw_config_only(&file, "use_quant_conv", "true");
    sdw_config_only(&file, "use_post_quant_conv", "true");
    sdw_config_only(&file, "shift_factor", "0");
    sdw_config_only(&file, "latents_mean", "0");
    sdw_config_only(&file, "latents_std", "1");
    sdw_config_only(&file, "in_channels", "3");
    sdw_config_only(&file, "out_channels", "3");
    check_all(&file, "down_block_types", "DownEncoderBlock2D");
    check_all(&file, "up_block_types", "UpDecoderBlock2D");
    *config = (struct sdw_vae_config){
        .image_channels = 3,
        .latent_channels = sdw_config_int(&file, "latent_channels", 1, 64, 4),
        .layers = sdw_config_int(&file, "layers_per_block", 1, SDW_LAYERS_MAX, 1),
        .groups = sdw_config_int(&file, "norm_num_groups", 1, SDW_CHANNELS_MAX, 32),
        .scaling_factor = (float)sdw_config_real(&file, "scaling_factor", 1e-6, 1e6, 0.18215),
    };
    config->levels = sdw_config_list(&file, "block_out_channels", config->channels, SDW_LEVELS_MAX,
                                     1, SDW_CHANNELS_MAX);
    config->factor = 1 << (config->levels - 1);
    for (int i = 0; i < config->levels; i++)
        check_divides(&file, "block_out_channels", config->channels[i], "norm_num_groups",
                      config->groups);
    return sdw_config_file_close(&file, err);
}

/* ---- the whole model ---- */

static bool index_has(struct sdw_config_file *file, const char *component)
{
    return json_is_string(json_array_get(json_object_get(file->root, component), 1));
}

static enum sdw_status read_index(struct sdw_model_config *config,
                                  const struct sdw_model_source *source, struct sdw_error *err)
{
    static const char *const encoders[] = {"text_encoder", "text_encoder_2"};
    static const char *const tokenizers[] = {"tokenizer", "tokenizer_2"};
    struct sdw_config_file file;
    sdw_config_file_open(&file, source, "model_index.json");
    copy_text(config->pipeline_class, sizeof config->pipeline_class,
              sdw_config_text(&file, "_class_name", ""));
    config->zeros_when_empty = sdw_config_bool(&file, "force_zeros_for_empty_prompt", false);
    for (int i = 0; i < SDW_TEXTS_MAX; i++) {
        if (!index_has(&file, encoders[i]))
            continue;
        config->text_component[config->texts] = encoders[i];
        config->tokenizer[config->texts++] = tokenizers[i];
    }
    if (config->texts == 0 || !index_has(&file, "unet") || !index_has(&file, "vae"))
        sdw_config_fail(&file, SDW_MODEL,
                        "a Stable Diffusion model has a text_encoder, a unet and a vae; this one "
                        "is a \"%s\" without one of them",
                        config->pipeline_class);
    return sdw_config_file_close(&file, err);
}

static enum sdw_status read_scheduler(struct sdw_model_config *config,
                                      const struct sdw_model_source *source, struct sdw_error *err)
{
    struct sdw_config_file file;
    sdw_config_file_open(&file, source, "scheduler/scheduler_config.json");
    copy_text(config->scheduler_class, sizeof config->scheduler_class,
              sdw_config_text(&file, "_class_name", ""));
    copy_text(config->prediction_type, sizeof config->prediction_type,
              sdw_config_text(&file, "prediction_type", "epsilon"));
    return sdw_config_file_close(&file, err);
}

/* What one component says must fit what the others say. */
static enum sdw_status check_fit(struct sdw_model_config *config, struct sdw_error *err)
{
    struct sdw_unet_config *unet = &config->unet;
    int latent = config->vae.latent_channels, context = 0;
    for (int i = 0; i < config->texts; i++)
        context += config->text[i].width;
    if (config->text[config->texts - 1].positions != config->text[0].positions)
        return sdw_fail(err, SDW_MODEL,
                        "%s: the text encoders take %d and %d tokens, but the unet reads them side "
                        "by side",
                        config->path, config->text[0].positions,
                        config->text[config->texts - 1].positions);
    if (context != unet->context_width)
        return sdw_fail(err, SDW_MODEL,
                        "%s: the text encoders give %d channels, the unet's cross_attention_dim is "
                        "%d",
                        config->path, context, unet->context_width);
    if (unet->out_channels != latent ||
        (unet->in_channels != latent && unet->in_channels != 2 * latent + 1))
        return sdw_fail(err, SDW_MODEL,
                        "%s: the unet has %d channels in and %d out, the vae %d latent channels",
                        config->path, unet->in_channels, unet->out_channels, latent);
    if (unet->addition_time_width == 0)
        return SDW_OK;
    const struct sdw_clip_text_config *last = &config->text[config->texts - 1];
    int pooled = last->projection ? last->projection : last->width;
    int ids_width = unet->pooled_width - pooled, each = unet->addition_time_width;
    if (ids_width <= 0 || ids_width % each != 0 || ids_width / each > SDW_TIME_IDS_MAX)
        return sdw_fail(err, SDW_MODEL,
                        "%s: projection_class_embeddings_input_dim %d is not the pooled text's %d "
                        "and some time ids of %d",
                        config->path, unet->pooled_width, pooled, each);
    unet->pooled_width = pooled;
    unet->time_ids = ids_width / each;
    return SDW_OK;
}

enum sdw_status sdw_model_config_from(struct sdw_model_config *config,
                                      const struct sdw_model_source *source, struct sdw_error *err)
{
    *config = (struct sdw_model_config){0};
    copy_text(config->path, sizeof config->path, sdw_model_source_path(source));
    enum sdw_status status = read_index(config, source, err);
    if (!status)
        status = read_scheduler(config, source, err);
    for (int i = 0; !status && i < config->texts; i++)
        status = read_text(&config->text[i], source, config->text_component[i], err);
    if (!status)
        status = read_unet(&config->unet, source, err);
    if (!status)
        status = read_vae(&config->vae, source, err);
    if (!status)
        status = check_fit(config, err);
    bool xl = config->unet.addition_time_width > 0;
    config->hidden_skip = xl ? 1 : 0;
    config->hidden_norm = !xl;
    config->width = config->unet.sample_width * config->vae.factor;
    config->height = config->unet.sample_height * config->vae.factor;
    return status;
}

enum sdw_status sdw_model_config_read(struct sdw_model_config *config, const char *path,
                                      struct sdw_error *err)
{
    struct sdw_model_source *source;
    enum sdw_status status =
        sdw_model_source_open(&source, &(struct sdw_model_source_options){.path = path}, err);
    if (!status)
        status = sdw_model_config_from(config, source, err);
    sdw_model_source_close(source);
    return status;
}
