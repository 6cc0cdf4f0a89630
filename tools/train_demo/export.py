"""Stage 5: writes the model folder in diffusers' layout."""
import json
import os

import configs
import safetensors


def write_json(value, *path):
    with open(os.path.join(*path), "w", encoding="utf-8") as f:
        json.dump(value, f, indent=2)
        f.write("\n")


def export(folder, vae, model, tokenizer):
    for name in ("scheduler", "text_encoder", "tokenizer", "unet", "vae"):
        os.makedirs(os.path.join(folder, name), exist_ok=True)
    safetensors.save(f"{folder}/vae/diffusion_pytorch_model.safetensors", vae.state_dict())
    safetensors.save(f"{folder}/unet/diffusion_pytorch_model.safetensors", model.unet.state_dict())
    safetensors.save(f"{folder}/text_encoder/model.safetensors", model.text.state_dict())
    tokenizer.save(os.path.join(folder, "tokenizer"))
    ids = {"vocab_size": len(tokenizer.ids), "bos_token_id": tokenizer.start, "eos_token_id": tokenizer.end, "pad_token_id": tokenizer.end}
    write_json(configs.VAE, folder, "vae/config.json")
    write_json(configs.UNET, folder, "unet/config.json")
    write_json({**configs.TEXT, **ids}, folder, "text_encoder/config.json")
    write_json(configs.SCHEDULER, folder, "scheduler/scheduler_config.json")
    write_json(configs.TOKENIZER, folder, "tokenizer/tokenizer_config.json")
    write_json({k: v for k, v in configs.TOKENIZER.items() if k.endswith("_token")}, folder, "tokenizer/special_tokens_map.json")
    write_json(configs.INDEX, folder, "model_index.json")
    write_json(configs.WORKER, folder, "sdw.json")
