"""Draws pictures with torch: Euler on SD's schedule, for a look while training. The worker is the real thing."""
import torch

import configs


def alphas_cumprod():
    betas = torch.linspace(0.00085 ** 0.5, 0.012 ** 0.5, 1000) ** 2
    return (1 - betas).cumprod(0)


@torch.no_grad()
def draw(model, vae, tokenizer, prompts, seed=0, steps=20, guidance=4.0):
    """-> pictures [n, 3, h, w] in -1..1"""
    device = next(model.parameters()).device
    n = len(prompts)
    times = torch.arange(steps - 1, -1, -1) * (1000 // steps) + 1  # leading spacing, steps_offset 1
    acp = alphas_cumprod()[times]
    sigmas = [*((1 - acp) / acp).sqrt().tolist(), 0.0]
    shape = configs.LATENTS, configs.UNET["sample_size"], configs.UNET["sample_size"]
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(n, *shape, generator=generator).to(device) * (sigmas[0] ** 2 + 1) ** 0.5
    context = model.text(torch.tensor([tokenizer.encode(p) for p in [""] * n + list(prompts)], device=device))
    for i, t in enumerate(times.tolist()):
        scaled = x / (sigmas[i] ** 2 + 1) ** 0.5
        blank, said = model.unet(scaled.repeat(2, 1, 1, 1), torch.full((2 * n,), t, device=device), context).chunk(2)
        x = x + (blank + guidance * (said - blank)) * (sigmas[i + 1] - sigmas[i])
    return torch.cat([vae.decode(part) for part in x.split(8)])
