/* original_yaml.c: a model's configuration as the original code had it, as far as the web UIs read
 * it, and three keys more (norm_num_groups, num_attention_heads) for tiny models: real ones all
 * have 32 groups and heads 64 wide. */
#include "original.h"

static void unet(FILE *out, const struct sdw_unet_config *unet)
{
    bool widths = false; /* heads differ by level: then it is their width that does not */
    for (int i = 1; i < unet->levels; i++)
        widths = widths || unet->level[i].heads != unet->level[0].heads;
    fprintf(out,
            "        in_channels: %d\n        out_channels: %d\n        model_channels: %d\n"
            "        context_dim: %d\n        num_res_blocks: %d\n        norm_num_groups: %d\n",
            unet->in_channels, unet->out_channels, unet->level[0].channels, unet->context_width,
            unet->level[0].layers, unet->groups);
    if (widths)
        fprintf(out, "        num_head_channels: %d\n        num_heads: -1\n",
                unet->level[0].channels / unet->level[0].heads);
    else
        fprintf(out, "        num_heads: %d\n", unet->level[0].heads);
    fprintf(out, "        channel_mult: [");
    for (int i = 0; i < unet->levels; i++)
        fprintf(out, "%s%d", i ? ", " : " ", unet->level[i].channels / unet->level[0].channels);
    fprintf(out, " ]\n");
}

static void first_stage(FILE *out, const struct sdw_vae_config *vae)
{
    fprintf(out,
            "    first_stage_config:\n      target: ldm.models.autoencoder.AutoencoderKL\n"
            "      params:\n        embed_dim: %d\n        ddconfig:\n          z_channels: %d\n"
            "          ch: %d\n          num_res_blocks: %d\n          norm_num_groups: %d\n",
            vae->latent_channels, vae->latent_channels, vae->channels[0], vae->layers, vae->groups);
}

static void older(FILE *out, const struct sdw_model_config *config)
{
    bool second = config->text[0].act == SDW_ACT_GELU;
    fprintf(out,
            "    parameterization: \"%s\"\n    unet_config:\n"
            "      target: ldm.modules.diffusionmodules.openaimodel.UNetModel\n      params:\n",
            config->prediction_type[0] == 'v' ? "v" : "eps");
    unet(out, &config->unet);
    first_stage(out, &config->vae);
    fprintf(out,
            "    cond_stage_config:\n      target: ldm.modules.encoders.modules.%s\n"
            "      params:\n        num_attention_heads: %d\n",
            second ? "FrozenOpenCLIPEmbedder" : "FrozenCLIPEmbedder", config->text[0].heads);
    if (second)
        fprintf(out, "        freeze: True\n        layer: \"penultimate\"\n");
}

static void xl(FILE *out, const struct sdw_model_config *config)
{
    fprintf(out,
            "    denoiser_config:\n      params:\n        scaling_config:\n"
            "          target: sgm.modules.diffusionmodules.denoiser_scaling.%s\n"
            "    network_config:\n"
            "      target: sgm.modules.diffusionmodules.openaimodel.UNetModel\n      params:\n",
            config->prediction_type[0] == 'v' ? "VScaling" : "EpsScaling");
    unet(out, &config->unet);
    fprintf(out, "        adm_in_channels: %d\n",
            config->unet.pooled_width + config->unet.time_ids * config->unet.addition_time_width);
    first_stage(out, &config->vae);
    fprintf(out, "    conditioner_config:\n      params:\n        emb_models:\n");
    for (int i = 0; i < config->texts; i++)
        fprintf(out,
                "          - is_trainable: False\n            params:\n"
                "              num_attention_heads: %d\n",
                config->text[i].heads);
    fprintf(out,
            "          - input_key: original_size_as_tuple\n            params:\n"
            "              outdim: %d\n",
            config->unet.addition_time_width);
}

bool original_write_yaml(const struct sdw_model_config *config, FILE *out)
{
    fprintf(out,
            "model:\n  params:\n    linear_start: 0.00085\n    linear_end: 0.0120\n"
            "    timesteps: 1000\n    scale_factor: %g\n",
            (double)config->vae.scaling_factor);
    (config->unet.addition_time_width ? xl : older)(out, config);
    return !ferror(out);
}
