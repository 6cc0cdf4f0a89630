"""Stage 1: the autoencoder, from pictures composed on the fly."""
import math
import random

import torch
import torch.nn.functional as F

import configs
from nets import Vae
from objects import COLOURS, OBJECTS
from pictures import SIDE

# Share of the time, side of the frames, pictures a step. Small crops learn colours and edges fast,
# but group norm sees other statistics in them, so most of the time goes to whole frames.
PHASES = [(0.06, 64, 32), (0.30, 128, 12), (1.0, 256, 4)]
RATE = 6e-4
KL = 5e-5


def any_picture(sprites, rng):
    """An object anywhere: the autoencoder is to know all places, not only those of the captions."""
    picture = sprites.background(rng.randrange(len(COLOURS)))
    size = rng.choices(["plain", "small", "large", "part"], [5, 1, 1, 3])[0]
    for _ in range(2 if size in ("small", "part") else 1):
        reach = {"plain": 30, "small": 80, "large": 10, "part": 70}[size]
        sprites.paste(picture, rng.randrange(len(OBJECTS)), size, rng.randint(-reach, reach), rng.randint(-reach, reach))
    return picture


def batch(sprites, rng, side, count):
    crops = []
    for _ in range(count):
        picture = any_picture(sprites, rng)
        x, y = (rng.randrange(SIDE - side + 1) for _ in range(2))
        crops.append(picture[:, y:y + side, x:x + side])
    return torch.stack(crops) * 2 - 1


def edges(x):
    return x[..., 1:] - x[..., :-1], x[..., 1:, :] - x[..., :-1, :]


def loss_of(out, target):
    """L1, and L1 of edges at three scales for sharpness; the pooled L1 keeps colours from drifting under the edges."""
    loss = F.l1_loss(out, target) + 2 * F.mse_loss(out, target)
    a, b = out, target
    for scale in range(3):
        if scale:
            a, b = F.avg_pool2d(a, 2), F.avg_pool2d(b, 2)
        loss = loss + 0.6 / 3 * sum(F.l1_loss(x, y) for x, y in zip(edges(a), edges(b)))
    a, b = F.avg_pool2d(a, 2), F.avg_pool2d(b, 2)
    loss = loss + F.l1_loss(a, b)
    return loss + F.l1_loss(F.avg_pool2d(a, 2), F.avg_pool2d(b, 2))


def psnr(out, target):
    """dB, of pictures in -1..1, averaged over pictures"""
    error = ((out.clamp(-1, 1) - target) / 2).pow(2).mean((1, 2, 3))
    return (-10 * error.log10()).mean().item()


def train(run, sprites, minutes, seed):
    vae = Vae(configs.VAE).to(run.device)
    print(f"vae: {sum(p.numel() for p in vae.parameters()) / 1e6:.2f} M", flush=True)
    optimiser = torch.optim.AdamW(vae.parameters(), lr=RATE, betas=(0.9, 0.98), weight_decay=1e-4)
    state = run.stage("vae", minutes, seed, model=vae, optimiser=optimiser)
    test = batch(sprites, random.Random(1), SIDE, 16).to(run.device)
    for step, progress in state.steps():
        side, count = next((s, n) for until, s, n in PHASES if progress <= until)
        for group in optimiser.param_groups:
            group["lr"] = RATE * min(1, (step + 1) / 100) * (0.02 + 0.98 * (0.5 + 0.5 * math.cos(math.pi * progress)))
        x = batch(sprites, state.rng, side, count).to(run.device)
        mean, logvar = vae.encode(x)
        out = vae.decode(mean + torch.randn_like(mean) * (logvar / 2).exp())
        kl = 0.5 * (mean.pow(2) + logvar.exp() - 1 - logvar).sum(1).mean()
        loss = loss_of(out, x) + KL * kl
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(vae.parameters(), 1)
        optimiser.step()
        state.note(loss=loss.item(), side=side, pictures=count)
        if state.due():
            with torch.no_grad():
                out = torch.cat([vae.decode(vae.encode(part)[0]) for part in test.split(8)])
            state.report(psnr=psnr(out, test))
            run.sheet("vae", torch.cat([test[:8], out[:8]]))
    return vae
