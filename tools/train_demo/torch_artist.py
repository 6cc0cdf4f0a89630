"""Draws from a model folder with torch, where there is no worker yet: a look at a model just trained."""
import json

from PIL import Image
import torch

import configs
import nets
import safetensors
from captions import Tokenizer
from sample import draw
from unet_stage import Conditioned

BATCH = 20


def load_vae(folder):
    with open(f"{folder}/vae/config.json", encoding="utf-8") as f:
        vae = nets.Vae(json.load(f))
    vae.load_state_dict(safetensors.load(f"{folder}/vae/diffusion_pytorch_model.safetensors"))
    return vae


class TorchArtist:
    """Stands in for worker_client.Worker, in bf16 and with the model's default steps and guidance."""

    def __init__(self, folder):
        self.vae, self.tokenizer = load_vae(folder), Tokenizer()
        self.model = Conditioned(self.tokenizer)
        self.model.unet.load_state_dict(safetensors.load(f"{folder}/unet/diffusion_pytorch_model.safetensors"))
        self.model.text.load_state_dict(safetensors.load(f"{folder}/text_encoder/model.safetensors"))

    def draw_all(self, prompts, first_seed):
        for i in range(0, len(prompts), BATCH):
            pictures = draw(self.model, self.vae, self.tokenizer, prompts[i:i + BATCH], first_seed + i,
                            configs.WORKER["steps"], configs.WORKER["guidance_scale"])
            for pixels in ((pictures.clamp(-1, 1) + 1) * 127.5).round().byte().permute(0, 2, 3, 1).numpy():
                yield Image.fromarray(pixels)

    def stop(self):
        pass
