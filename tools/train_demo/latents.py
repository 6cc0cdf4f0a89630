"""Stage 2: every picture a caption can ask for, encoded once; and the whitening that makes latents easy to learn."""
import random

import torch

from captions import LAYOUTS
from objects import COLOURS, OBJECTS, held_out

# Small things may be anywhere; moving by whole latent cells costs the UNet nothing to learn.
CELL = 16
SMALL_REACH = 5


def catalogue(seed):
    """All (object, colour, layout, dx, dy), never-trained pairs left out."""
    rng = random.Random(seed)
    rows = []
    for obj in range(len(OBJECTS)):
        for colour in range(len(COLOURS)):
            if held_out(obj, colour):
                continue
            for layout in LAYOUTS:
                copies = 2 if layout == "small" else 1
                for _ in range(copies):
                    dx, dy = (CELL * rng.randint(-SMALL_REACH, SMALL_REACH) if layout == "small" else 0 for _ in range(2))
                    rows.append((obj, colour, layout, dx, dy))
    return rows


def encode_all(vae, sprites, rows, device, batch=16):
    """Their means, and the average variance of each channel."""
    means, variances = [], []
    with torch.no_grad():
        for i in range(0, len(rows), batch):
            pictures = torch.stack([sprites.draw(*row) for row in rows[i:i + batch]]) * 2 - 1
            mean, logvar = vae.encode(pictures.to(device))
            means.append(mean.cpu())
            variances.append(logvar.exp().mean((0, 2, 3)).cpu())
    return torch.cat(means), torch.stack(variances).mean(0)


def whiten(vae, latents, variance):
    """Folds a whitening (zero mean, unit variance, no correlation between channels) into the two 1x1 convolutions.

    Exact: decode(encode(x)) stays what it was. The log-variance becomes a constant, the average of what it
    was. Returns the latents in the new coordinates.
    """
    channels = latents.shape[1]
    flat = latents.permute(1, 0, 2, 3).reshape(channels, -1).double()
    mean = flat.mean(1)
    values, vectors = torch.linalg.eigh(torch.cov(flat))
    print("latents: standard deviation along each axis", [round(v, 2) for v in values.sqrt().tolist()], flush=True)
    forward = vectors @ torch.diag(values ** -0.5) @ vectors.T
    backward = vectors @ torch.diag(values ** 0.5) @ vectors.T
    with torch.no_grad():
        quant, post = vae.quant_conv, vae.post_quant_conv
        weight, bias = quant.weight[:, :, 0, 0].double().cpu(), quant.bias.double().cpu()
        weight[:channels], bias[:channels] = forward @ weight[:channels], forward @ (bias[:channels] - mean)
        weight[channels:], bias[channels:] = 0, (forward.pow(2) @ variance.double()).log()
        quant.weight.copy_(weight[:, :, None, None])
        quant.bias.copy_(bias)
        weight, bias = post.weight[:, :, 0, 0].double().cpu(), post.bias.double().cpu()
        post.weight.copy_((weight @ backward)[:, :, None, None])
        post.bias.copy_(bias + weight @ mean)
    return torch.einsum("ij,njhw->nihw", forward.float(), latents - mean.float()[:, None, None])


def prepare(run, vae, sprites, seed):
    """The whitened autoencoder and the latents, from the file of an earlier call where there is one."""
    file = run.path("latents.pt")
    rows = catalogue(seed)
    try:
        saved = torch.load(file, map_location=run.device)
        vae.load_state_dict(saved["vae"])
        return rows, saved["latents"].float()
    except FileNotFoundError:
        pass
    latents = whiten(vae, *encode_all(vae, sprites, rows, run.device))
    torch.save({"vae": vae.state_dict(), "latents": latents.half()}, file)
    return rows, latents
