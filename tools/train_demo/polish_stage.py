"""Stage 4: the decoder once more, the encoder and so the latents as they are.

It learns to draw from the latents the UNet makes, which are a little off: a quarter of each batch are the UNet's guesses
at the clean latents from slightly noised ones. Without it, pictures come out softer and speckled.
"""
import math
import random

import torch

from sample import alphas_cumprod
from unet_stage import Pairs
from vae_stage import loss_of, psnr

RATE = 5e-4
BATCH = 4
NOISED_UP_TO = 350  # timestep


def guesses(model, tokenizer, x, texts, acp):
    """What the UNet takes for the clean latents."""
    ids = torch.tensor([tokenizer.encode(text) for text in texts], device=x.device)
    t = torch.randint(0, NOISED_UP_TO, (len(x),), device=x.device)
    a = acp[t].view(-1, 1, 1, 1)
    noisy = a.sqrt() * x + (1 - a).sqrt() * torch.randn_like(x)
    return (noisy - (1 - a).sqrt() * model(noisy, t, ids)) / a.sqrt()


def train(run, sprites, vae, model, tokenizer, rows, latents, minutes, seed):
    vae.encoder.requires_grad_(False)
    vae.quant_conv.requires_grad_(False)
    learned = [*vae.decoder.parameters(), *vae.post_quant_conv.parameters()]
    optimiser = torch.optim.AdamW(learned, lr=RATE, betas=(0.9, 0.98), weight_decay=1e-4)
    state = run.stage("polish", minutes, seed, model=vae, optimiser=optimiser)
    acp = alphas_cumprod().to(run.device)
    pairs = Pairs(rows, state.rng)
    fixed = Pairs(rows, random.Random(1))
    probe = [fixed.draw()[0] for _ in range(16)]

    def batch(indices):
        pictures = torch.stack([sprites.draw(*rows[i]) for i in indices]) * 2 - 1
        return latents[list(indices)].to(run.device), pictures.to(run.device)

    for step, progress in state.steps():
        for group in optimiser.param_groups:
            group["lr"] = RATE * min(1, (step + 1) / 50) * (0.02 + 0.98 * (0.5 + 0.5 * math.cos(math.pi * progress)))
        indices, texts = zip(*(pairs.draw() for _ in range(BATCH)))
        x, pictures = batch(indices)
        guessed = BATCH // 4
        with torch.no_grad():
            x[:guessed] = guesses(model, tokenizer, x[:guessed], texts[:guessed], acp)
        drawn = vae.decode(x)
        loss = loss_of(drawn, pictures) + 6 * torch.nn.functional.mse_loss(drawn, pictures)
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(learned, 1)
        optimiser.step()
        state.note(loss=loss.item(), pictures=BATCH)
        if state.due():
            with torch.no_grad():
                x, pictures = batch(probe)
                drawn = torch.cat([vae.decode(part) for part in x.split(8)])
            state.report(psnr=psnr(drawn, pictures))
            run.sheet("polish", torch.cat([pictures[:8], drawn[:8], pictures[8:], drawn[8:]]))
    return vae
