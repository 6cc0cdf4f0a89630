"""Geometry of the three nets, and every config file of the model folder (keys as diffusers 0.27 writes them)."""

LATENTS = 12
SIDE = 256

VAE = {
    "_class_name": "AutoencoderKL",
    "_diffusers_version": "0.27.2",
    "act_fn": "silu",
    "block_out_channels": [16, 16, 48, 96, 128],
    "down_block_types": ["DownEncoderBlock2D"] * 5,
    "force_upcast": True,
    "in_channels": 3,
    "latent_channels": LATENTS,
    "layers_per_block": 1,
    "norm_num_groups": 2,  # many groups hide colour from the net: pictures shift
    "out_channels": 3,
    "sample_size": SIDE,
    "scaling_factor": 1.0,  # the whitening of stage 2 is in quant_conv
    "up_block_types": ["UpDecoderBlock2D"] * 5,
}

TEXT = {
    "architectures": ["CLIPTextModel"],
    "attention_dropout": 0.0,
    "hidden_act": "quick_gelu",
    "hidden_size": 96,
    "intermediate_size": 384,
    "layer_norm_eps": 1e-05,
    "max_position_embeddings": 77,
    "model_type": "clip_text_model",
    "num_attention_heads": 4,
    "num_hidden_layers": 2,
    "projection_dim": 96,
}

UNET = {
    "_class_name": "UNet2DConditionModel",
    "_diffusers_version": "0.27.2",
    "act_fn": "silu",
    "attention_head_dim": 4,  # means heads, as in SD 1.5's own config
    "block_out_channels": [64, 96, 128],
    "center_input_sample": False,
    "cross_attention_dim": TEXT["hidden_size"],
    # No transformer at 16 x 16: it costs 1.7 times the time and is not needed.
    "down_block_types": ["DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"],
    "downsample_padding": 1,
    "flip_sin_to_cos": True,
    "freq_shift": 0,
    "in_channels": LATENTS,
    "layers_per_block": 1,
    "mid_block_scale_factor": 1,
    "mid_block_type": "UNetMidBlock2DCrossAttn",
    "norm_eps": 1e-05,
    "norm_num_groups": 8,
    "out_channels": LATENTS,
    "sample_size": SIDE // 16,
    "up_block_types": ["CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"],
    "use_linear_projection": False,
}

SCHEDULER = {
    "_class_name": "EulerDiscreteScheduler",
    "_diffusers_version": "0.27.2",
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "beta_start": 0.00085,
    "clip_sample": False,
    "num_train_timesteps": 1000,
    "prediction_type": "epsilon",
    "set_alpha_to_one": False,
    "skip_prk_steps": True,
    "steps_offset": 1,
    "timestep_spacing": "leading",
    "trained_betas": None,
}

TOKENIZER = {
    "tokenizer_class": "CLIPTokenizer",
    "model_max_length": 77,
    "bos_token": "<|startoftext|>",
    "eos_token": "<|endoftext|>",
    "unk_token": "<|endoftext|>",
    "pad_token": "<|endoftext|>",
    "do_lower_case": True,
    "errors": "replace",
    "add_prefix_space": False,
}

INDEX = {
    "_class_name": "StableDiffusionPipeline",
    "_diffusers_version": "0.27.2",
    "requires_safety_checker": False,
    "feature_extractor": [None, None],
    "safety_checker": [None, None],
    "image_encoder": [None, None],
    "scheduler": ["diffusers", SCHEDULER["_class_name"]],
    "text_encoder": ["transformers", "CLIPTextModel"],
    "tokenizer": ["transformers", "CLIPTokenizer"],
    "unet": ["diffusers", "UNet2DConditionModel"],
    "vae": ["diffusers", "AutoencoderKL"],
}

# The worker's defaults for this model.
WORKER = {"steps": 20, "guidance_scale": 4.0, "sampler": "euler"}
