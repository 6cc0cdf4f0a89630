/* recognise.c: see recognise.h. One table of families; all else is counted from the tensors under
 * their diffusers names, and written as those configurations, which are read and checked like any
 * other. */
#include "model/recognise.h"

#include "base/log.h"
#include "model/config_file.h"
#include "weights/checkpoint.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define BLOCKS_MAX    64 /* of anything that is counted */
#define KEY_MAX       128
#define TEXT_HEAD     64   /* width of a head in every CLIP that these models use */
#define V_NORM_SPREAD 0.09 /* see predicts_v */

#define MODEL     "model.params."
#define COND      MODEL "cond_stage_config.params."
#define EMBEDDERS MODEL "conditioner_config.params.emb_models."

/* A text encoder of a family. */
struct encoder {
    const char *component, *tokenizer;
    const char *yaml; /* where a .yaml describes it */
    bool open_clip;   /* GELU, padded with "!"; else quick-GELU, padded with the end token */
    bool pooled;      /* its projection is used */
    int layers_used;  /* of those in published files; 0: all */
};

static const struct family {
    const char *title;
    const char *marker; /* tensors under this prefix show it; the first row that fits is taken */
    const char *pipeline, *scheduler;
    int heads, head_width; /* of the UNet: so many, or so wide */
    int size, size_v;      /* pixels along a side; of a model that predicts v */
    double scaling_factor;
    int time_id_width;     /* XL: of each embedded number about sizes */
    bool zeros_when_empty; /* XL: no negative prompt is zeros */
    struct encoder text[2];
} families[] = {
    {"Stable Diffusion XL",
     "conditioner.embedders.1.model.",
     "StableDiffusionXLPipeline",
     "EulerDiscreteScheduler",
     0,
     64,
     1024,
     1024,
     0.13025,
     256,
     true,
     {{"text_encoder", "tokenizer", EMBEDDERS "0.params.", false, false, 0},
      {"text_encoder_2", "tokenizer_2", EMBEDDERS "1.params.", true, true, 0}}},
    {"the refiner of Stable Diffusion XL",
     "conditioner.embedders.0.model.",
     "StableDiffusionXLImg2ImgPipeline",
     "EulerDiscreteScheduler",
     0,
     64,
     1024,
     1024,
     0.13025,
     256,
     false,
     {{"text_encoder_2", "tokenizer_2", EMBEDDERS "0.params.", true, true, 0}}},
    {"Stable Diffusion 2.x",
     "cond_stage_model.model.",
     "StableDiffusionPipeline",
     "DDIMScheduler",
     0,
     64,
     512,
     768,
     0.18215,
     0,
     false,
     {{"text_encoder", "tokenizer", COND, true, false, 23}}},
    {"Stable Diffusion 1.x",
     "cond_stage_model.transformer.",
     "StableDiffusionPipeline",
     "PNDMScheduler",
     8,
     0,
     512,
     512,
     0.18215,
     0,
     false,
     {{"text_encoder", "tokenizer", COND, false, false, 0}}},
};

/* Tensors without numbers of their own that show a way of sampling nothing here computes. */
static const struct {
    const char *name, *meaning;
} unknown[] = {
    {"edm_mean", "latents with a mean and spread of their own (edm_mean)"},
    {"edm_vpred.sigma_max", "the EDM form of v-prediction (edm_vpred.sigma_max)"},
};

/* What is being described. */
struct sketch {
    const struct sdw_weights *file;
    const struct family *family;
    struct sdw_config_file yaml; /* without fields where there is no such file */
    const char *unet_yaml;       /* where it describes the UNet */
    json_t *files;
    const char *prediction;
};

#define COUNT(rows) ((int)(sizeof(rows) / sizeof(rows)[0]))

/* ---- looking at tensors ---- */

/* The size of a tensor along an axis; 0 when there is no such tensor or axis. */
static int dim(const struct sdw_weights *part, int axis, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
static int dim(const struct sdw_weights *part, int axis, const char *format, ...)
{
    char name[KEY_MAX];
    struct sdw_array array;
    va_list args;
    va_start(args, format);
    vsnprintf(name, sizeof name, format, args);
    va_end(args);
    if (!sdw_weights_shape(part, name, &array) || array.rank <= axis || array.dim[axis] > INT32_MAX)
        return 0;
    return (int)array.dim[axis];
}

/* How many there are of BEFORE0AFTER, BEFORE1AFTER, ... */
static int count(const struct sdw_weights *part, const char *before, const char *after)
{
    int n = 0;
    while (n < BLOCKS_MAX && dim(part, 0, "%s%d%s", before, n, after) > 0)
        n++;
    return n;
}

static bool has_under(const struct sdw_weights *file, const char *prefix)
{
    for (int i = 0; i < sdw_weights_count(file); i++)
        if (strncmp(sdw_weights_name(file, i), prefix, strlen(prefix)) == 0)
            return true;
    return false;
}

static bool has(const struct sdw_weights *file, const char *name)
{
    struct sdw_array array;
    return sdw_weights_shape(file, name, &array);
}

/* ---- what a .yaml says ---- */

/* PREFIX KEY of the .yaml, or the fallback. */
static int yaml_int(struct sketch *s, const char *prefix, const char *key, int min, int max,
                    int fallback)
{
    char path[KEY_MAX];
    snprintf(path, sizeof path, "%s%s", prefix, key);
    return sdw_config_int(&s->yaml, path, min, max, fallback);
}

/* What the tensors show, too, must be the same: else the .yaml is another model's. */
static void yaml_agrees(struct sketch *s, const char *prefix, const char *key, int shown)
{
    int said = yaml_int(s, prefix, key, 0, INT32_MAX, shown);
    if (said != shown)
        sdw_config_fail(&s->yaml, SDW_MODEL,
                        "%s%s is %d, the tensors of the checkpoint show %d: is it the .yaml of "
                        "another model?",
                        prefix, key, said, shown);
}

static void open_yaml(struct sketch *s)
{
    const char *path = sdw_weights_path(s->file), *slash = strrchr(path, '/'),
               *dot = strrchr(path, '.');
    int stem = (int)(dot && (!slash || dot > slash) ? (size_t)(dot - path) : strlen(path));
    char beside[SDW_MODEL_PATH_MAX];
    snprintf(beside, sizeof beside, "%.*s.yaml", stem, path);
    if (access(beside, F_OK) == 0) {
        sdw_config_yaml_open(&s->yaml, beside);
        sdw_log_info("%s is obeyed", beside);
    }
    s->unet_yaml = sdw_config_has(&s->yaml, MODEL "network_config.target")
                       ? MODEL "network_config.params." /* XL's own spelling */
                       : MODEL "unet_config.params.";
}

/* "eps" and "v" in 1.x and 2.x, a class of sgm in XL; NULL when it says nothing. */
static const char *yaml_prediction(struct sketch *s)
{
    static const struct {
        const char *word, *type;
    } words[] = {
        {"eps", "epsilon"},        {"v", "v_prediction"},        {"x0", "sample"},
        {"EpsScaling", "epsilon"}, {"VScaling", "v_prediction"},
    };
    const char *word = sdw_config_text(&s->yaml, MODEL "parameterization", NULL);
    if (!word)
        word =
            sdw_config_text(&s->yaml, MODEL "denoiser_config.params.scaling_config.target", NULL);
    const char *dot = word ? strrchr(word, '.') : NULL;
    for (int i = 0; word && i < COUNT(words); i++)
        if (strcmp(dot ? dot + 1 : word, words[i].word) == 0)
            return words[i].type;
    if (word)
        sdw_config_fail(&s->yaml, SDW_MODEL, "\"%.60s\" is no known parameterization: eps, v or x0",
                        word);
    return NULL;
}

/* ---- the UNet ---- */

/* Blocks of each transformer under `block`; 0: it has none; -1: they differ. */
static int depth_of(const struct sdw_weights *unet, const char *block)
{
    char before[KEY_MAX];
    int depth = 0;
    snprintf(before, sizeof before, "%s.attentions.", block);
    int attentions = count(unet, before, ".norm.weight");
    for (int i = 0; i < attentions; i++) {
        snprintf(before, sizeof before, "%s.attentions.%d.transformer_blocks.", block, i);
        int n = count(unet, before, ".norm1.weight");
        if (i > 0 && n != depth)
            return -1;
        depth = n;
    }
    return depth;
}

/* One resolution: what its down and up block have. */
struct level {
    int channels, layers, depth;
    bool down, up; /* transformers there */
};

static struct level see_level(const struct sdw_weights *unet, int i, int levels)
{
    char block[KEY_MAX];
    struct level level = {.channels = dim(unet, 0, "down_blocks.%d.resnets.0.conv1.weight", i)};
    snprintf(block, sizeof block, "down_blocks.%d.resnets.", i);
    level.layers = count(unet, block, ".conv1.weight");
    snprintf(block, sizeof block, "down_blocks.%d", i);
    int down = depth_of(unet, block);
    snprintf(block, sizeof block, "up_blocks.%d", levels - 1 - i);
    int up = depth_of(unet, block);
    int mid = i == levels - 1 ? depth_of(unet, "mid_block") : 0;
    level.down = down != 0;
    level.up = up != 0;
    level.depth = down ? down : up ? up : mid;
    if ((up && up != level.depth) || (mid && mid != level.depth))
        level.depth = -1;
    return level;
}

/* Width of the text that the first cross-attention reads. */
static int context_width(const struct sdw_weights *unet)
{
    static const char ending[] = "transformer_blocks.0.attn2.to_k.weight";
    for (int i = 0; i < BLOCKS_MAX; i++) {
        int width = dim(unet, 1, "down_blocks.%d.attentions.0.%s", i, ending);
        if (width)
            return width;
    }
    return dim(unet, 1, "mid_block.attentions.0.%s", ending);
}

static int heads_of(struct sketch *s, int channels)
{
    int heads = yaml_int(s, s->unet_yaml, "num_heads", -1, SDW_CHANNELS_MAX, s->family->heads);
    int width = yaml_int(s, s->unet_yaml, "num_head_channels", -1, SDW_CHANNELS_MAX,
                         heads > 0 ? 0 : s->family->head_width);
    return width > 0 ? channels / width : heads;
}

static void append(json_t *config, const char *key, json_t *value)
{
    json_t *list = json_object_get(config, key);
    if (!list) {
        list = json_array();
        json_object_set_new(config, key, list);
    }
    json_array_append_new(list, value);
}

static void describe_levels(struct sketch *s, json_t *config, const struct sdw_weights *unet)
{
    int levels = count(unet, "down_blocks.", ".resnets.0.conv1.weight");
    int model = dim(unet, 0, "conv_in.weight");
    for (int i = 0; i < levels; i++) {
        struct level level = see_level(unet, i, levels);
        char key[KEY_MAX];
        if (level.depth < 0 && !s->yaml.error.status)
            sdw_fail(&s->yaml.error, SDW_MODEL,
                     "%s: transformers at resolution %d of the UNet differ in depth, as those of "
                     "pruned models: that is not known here",
                     sdw_weights_path(s->file), i);
        snprintf(key, sizeof key, "channel_mult.%d", i);
        yaml_agrees(s, s->unet_yaml, key, model > 0 ? level.channels / model : 0);
        append(config, "block_out_channels", json_integer(level.channels));
        append(config, "layers_per_block", json_integer(level.layers));
        append(config, "attention_head_dim", json_integer(heads_of(s, level.channels)));
        append(config, "transformer_layers_per_block", json_integer(level.depth ? level.depth : 1));
        append(config, "down_block_types",
               json_string(level.down ? "CrossAttnDownBlock2D" : "DownBlock2D"));
    }
    for (int i = levels - 1; i >= 0; i--)
        append(config, "up_block_types",
               json_string(see_level(unet, i, levels).up ? "CrossAttnUpBlock2D" : "UpBlock2D"));
}

static int time_id_width(struct sketch *s)
{
    for (int i = 0; i < BLOCKS_MAX / 8; i++) {
        char key[KEY_MAX];
        snprintf(key, sizeof key, "%d.params.outdim", i);
        int width = yaml_int(s, EMBEDDERS, key, 1, SDW_CHANNELS_MAX, 0);
        if (width)
            return width;
    }
    return s->family->time_id_width;
}

static json_t *describe_unet(struct sketch *s, const struct sdw_weights *unet)
{
    int in = dim(unet, 1, "conv_in.weight"), out = dim(unet, 0, "conv_out.weight"),
        context = context_width(unet), added = dim(unet, 1, "add_embedding.linear_1.weight"),
        guidance = dim(unet, 1, "time_embedding.cond_proj.weight");
    bool v = strcmp(s->prediction, "v_prediction") == 0;
    json_t *config = json_pack(
        "{s:i,s:i,s:i,s:i,s:i,s:i}", "in_channels", in, "out_channels", out, "cross_attention_dim",
        context, "sample_size", (v ? s->family->size_v : s->family->size) / 8, "norm_num_groups",
        yaml_int(s, s->unet_yaml, "norm_num_groups", 1, SDW_CHANNELS_MAX, 32), "time_embedding_dim",
        dim(unet, 0, "time_embedding.linear_1.weight"));
    yaml_agrees(s, s->unet_yaml, "in_channels", in);
    yaml_agrees(s, s->unet_yaml, "out_channels", out);
    yaml_agrees(s, s->unet_yaml, "context_dim", context);
    yaml_agrees(s, s->unet_yaml, "model_channels", dim(unet, 0, "conv_in.weight"));
    if (guidance)
        json_object_set_new(config, "time_cond_proj_dim", json_integer(guidance));
    if (added) {
        yaml_agrees(s, s->unet_yaml, "adm_in_channels", added);
        json_object_set_new(config, "addition_embed_type", json_string("text_time"));
        json_object_set_new(config, "addition_time_embed_dim", json_integer(time_id_width(s)));
        json_object_set_new(config, "projection_class_embeddings_input_dim", json_integer(added));
    }
    describe_levels(s, config, unet);
    return config;
}

/* The spread of a norm's biases late in the UNet tells 2.x models that predict v from those that
 * predict noise (an observation of ComfyUI's; the published ones lie far from the limit on either
 * side). Inpainting models predict noise. */
static bool predicts_v(const struct sdw_weights *unet)
{
    int levels = count(unet, "down_blocks.", ".resnets.0.conv1.weight");
    char name[KEY_MAX];
    struct sdw_array array;
    snprintf(name, sizeof name, "up_blocks.%d.attentions.", levels - 1);
    int last = count(unet, name, ".norm.weight") - 1;
    snprintf(name, sizeof name, "up_blocks.%d.attentions.%d.transformer_blocks.0.norm1.bias",
             levels - 1, last);
    if (dim(unet, 1, "conv_in.weight") != 4 || !sdw_weights_find(unet, name, &array))
        return false;
    int64_t n = sdw_array_count(&array);
    double sum = 0, squares = 0;
    for (int64_t i = 0; i < n; i++) {
        float value;
        sdw_array_to_f32(&value, &array, i, 1);
        sum += value;
        squares += (double)value * value;
    }
    double mean = sum / (double)n;
    return n > 0 && sqrt(fmax(squares / (double)n - mean * mean, 0)) > V_NORM_SPREAD;
}

static const char *prediction_of(struct sketch *s, const struct sdw_weights *unet)
{
    const char *said = yaml_prediction(s);
    if (said)
        return said;
    bool second = s->family->size_v != s->family->size;
    return has(s->file, "v_pred") || (second && predicts_v(unet)) ? "v_prediction" : "epsilon";
}

/* ---- the other components ---- */

void sdw_recognise_vae(json_t *config, const struct sdw_weights *vae)
{
    int levels = count(vae, "encoder.down_blocks.", ".resnets.0.conv1.weight");
    json_object_del(config, "block_out_channels");
    json_object_del(config, "down_block_types");
    json_object_del(config, "up_block_types");
    for (int i = 0; i < levels; i++)
        append(config, "block_out_channels",
               json_integer(dim(vae, 0, "encoder.down_blocks.%d.resnets.0.conv1.weight", i)));
    json_object_set_new(
        config, "layers_per_block",
        json_integer(count(vae, "encoder.down_blocks.0.resnets.", ".conv1.weight")));
    json_object_set_new(config, "latent_channels",
                        json_integer(dim(vae, 1, "decoder.conv_in.weight")));
}

static json_t *describe_vae(struct sketch *s, const struct sdw_weights *vae)
{
    static const char details[] = MODEL "first_stage_config.params.ddconfig.";
    json_t *config = json_pack(
        "{s:f,s:i}", "scaling_factor",
        sdw_config_real(&s->yaml, MODEL "scale_factor", 1e-6, 1e6, s->family->scaling_factor),
        "norm_num_groups", yaml_int(s, details, "norm_num_groups", 1, SDW_CHANNELS_MAX, 32));
    if (vae) {
        yaml_agrees(s, details, "z_channels", dim(vae, 1, "decoder.conv_in.weight"));
        yaml_agrees(s, details, "ch", dim(vae, 0, "encoder.conv_in.weight"));
        sdw_recognise_vae(config, vae);
    }
    return config;
}

/* How many layers are run: where a family reads the last but one, its .yaml says "penultimate", and
 * the last layer goes unused; some converters leave it out of the file. */
static int layers_of(struct sketch *s, const struct encoder *encoder, int layers)
{
    char key[KEY_MAX];
    snprintf(key, sizeof key, "%slayer", encoder->yaml);
    const char *layer = sdw_config_text(&s->yaml, key, NULL);
    int used = encoder->layers_used;
    if (used == 0 || layers == used || (layer && strcmp(layer, "last") == 0))
        return layers;
    if (layers > used)
        return used;
    return layer && strcmp(layer, "penultimate") == 0 ? layers - 1 : layers;
}

static json_t *describe_text(struct sketch *s, const struct encoder *encoder,
                             const struct sdw_weights *text)
{
    static const char table[] = "text_model.embeddings.token_embedding.weight";
    int width = dim(text, 1, table);
    int layers = count(text, "text_model.encoder.layers.", ".layer_norm1.weight");
    json_t *config = json_pack(
        "{s:i,s:i,s:i,s:i,s:i,s:i,s:s,s:[s]}", "vocab_size", dim(text, 0, table), "hidden_size",
        width, "max_position_embeddings",
        dim(text, 0, "text_model.embeddings.position_embedding.weight"), "intermediate_size",
        dim(text, 0, "text_model.encoder.layers.0.mlp.fc1.weight"), "num_attention_heads",
        yaml_int(s, encoder->yaml, "num_attention_heads", 1, SDW_CHANNELS_MAX, width / TEXT_HEAD),
        "num_hidden_layers", layers_of(s, encoder, layers), "hidden_act",
        encoder->open_clip ? "gelu" : "quick_gelu", "architectures",
        encoder->pooled ? "CLIPTextModelWithProjection" : "CLIPTextModel");
    if (encoder->pooled)
        json_object_set_new(config, "projection_dim",
                            json_integer(dim(text, 0, "text_projection.weight")));
    return config;
}

static json_t *describe_schedule(struct sketch *s)
{
    double first = sdw_config_real(&s->yaml, MODEL "linear_start", 1e-9, 0.999, 0.00085);
    double last = sdw_config_real(&s->yaml, MODEL "linear_end", 1e-9, 0.999, 0.012);
    bool zero = has(s->file, "ztsnr"); /* then the first step must be at the last timestep, which
                                          is nothing but noise: not every class can begin there */
    return json_pack("{s:s,s:f,s:f,s:s,s:i,s:s,s:s,s:i,s:b,s:b,s:b,s:b}", "_class_name",
                     zero ? "EulerDiscreteScheduler" : s->family->scheduler, "beta_start", first,
                     "beta_end", last, "beta_schedule", "scaled_linear", "num_train_timesteps",
                     yaml_int(s, MODEL, "timesteps", 2, 10000, 1000), "prediction_type",
                     s->prediction, "timestep_spacing", zero ? "trailing" : "leading",
                     "steps_offset", 1, "set_alpha_to_one", 0, "clip_sample", 0, "skip_prk_steps",
                     1, "rescale_betas_zero_snr", (int)zero);
}

/* ---- the model ---- */

static void put(struct sketch *s, const char *folder, const char *name, json_t *content)
{
    char key[KEY_MAX];
    snprintf(key, sizeof key, "%s%s%s", folder, *folder ? "/" : "", name);
    json_object_set_new(s->files, key, content);
}

static enum sdw_status describe_encoders(struct sketch *s, struct sdw_error *err)
{
    json_t *index =
        json_pack("{s:s,s:b,s:[ss],s:[ss]}", "_class_name", s->family->pipeline,
                  "force_zeros_for_empty_prompt", (int)s->family->zeros_when_empty, "unet",
                  "diffusers", "UNet2DConditionModel", "vae", "diffusers", "AutoencoderKL");
    put(s, "", "model_index.json", index);
    for (int i = 0; i < 2 && s->family->text[i].component; i++) {
        const struct encoder *encoder = &s->family->text[i];
        struct sdw_weights *part;
        enum sdw_status status = sdw_checkpoint_part(&part, s->file, encoder->component, err);
        if (status)
            return status;
        put(s, encoder->component, "config.json", describe_text(s, encoder, part));
        sdw_weights_close(part);
        json_object_set_new(index, encoder->component,
                            json_pack("[ss]", "transformers", "CLIPTextModel"));
        put(s, encoder->tokenizer, "special_tokens_map.json",
            json_pack("{s:s}", "pad_token", encoder->open_clip ? "!" : "<|endoftext|>"));
    }
    return SDW_OK;
}

static enum sdw_status describe(struct sketch *s, struct sdw_error *err)
{
    struct sdw_weights *part;
    enum sdw_status status = sdw_checkpoint_part(&part, s->file, "unet", err);
    if (status)
        return status;
    s->prediction = prediction_of(s, part);
    put(s, "unet", "config.json", describe_unet(s, part));
    sdw_weights_close(part);
    status = sdw_checkpoint_part(&part, s->file, "vae", err);
    if (status && status != SDW_NOT_FOUND) /* another VAE may be given */
        return status;
    put(s, "vae", "config.json", describe_vae(s, part));
    sdw_weights_close(part);
    put(s, "scheduler", "scheduler_config.json", describe_schedule(s));
    return describe_encoders(s, err);
}

static enum sdw_status find_family(struct sketch *s, struct sdw_error *err)
{
    const char *path = sdw_weights_path(s->file);
    int tensors = sdw_weights_count(s->file);
    if (!sdw_checkpoint_is(s->file))
        return sdw_fail(err, SDW_MODEL,
                        "%s is no checkpoint of Stable Diffusion 1.x, 2.x or XL: none of its %d "
                        "tensors is model.diffusion_model.input_blocks.0.0.weight, one is %.100s",
                        path, tensors, tensors ? sdw_weights_name(s->file, 0) : "not there");
    for (int i = 0; i < COUNT(unknown); i++)
        if (has(s->file, unknown[i].name))
            return sdw_fail(err, SDW_MODEL, "%s needs %s, which is not known here", path,
                            unknown[i].meaning);
    for (int i = 0; i < COUNT(families) && !s->family; i++)
        if (has_under(s->file, families[i].marker))
            s->family = &families[i];
    if (s->family)
        return SDW_OK;
    return sdw_fail(err, SDW_MODEL,
                    "%s has a UNet, but no text encoder that is known (cond_stage_model or "
                    "conditioner.embedders): a checkpoint of the whole model is needed",
                    path);
}

enum sdw_status sdw_recognise_checkpoint(json_t *files, const struct sdw_weights *file,
                                         struct sdw_error *err)
{
    struct sketch s = {.file = file, .files = files};
    enum sdw_status status = find_family(&s, err);
    if (status)
        return status;
    open_yaml(&s);
    status = describe(&s, err);
    enum sdw_status said = sdw_config_file_close(&s.yaml, status ? NULL : err);
    if (status || said)
        return status ? status : said;
    sdw_log_info("%s is %s, prediction type %s", sdw_weights_path(file), s.family->title,
                 s.prediction);
    return SDW_OK;
}
