"""Stage 3: UNet and text encoder together, on the cached latents."""
import copy

import torch

import configs
from captions import LAYOUTS, Tokenizer, caption
from nets import TextEncoder, Unet
from sample import alphas_cumprod, draw

RATE = 1.4e-3
FALL = 0.35  # the last share of the time, in which the rate falls to nothing
BATCH = 32
EMPTY_PROMPTS = 0.1
UNSAID_COLOUR = 0.2
# SD's schedule does not end in pure noise: the mean of the latents leaks through, and without this the
# model learns to read the background's colour there instead of in the prompt.
OFFSET_NOISE = 0.2
EMA = 0.995
SNR_MOST = 5  # nearly clean latents have little to teach: weigh them down


class Conditioned(torch.nn.Module):
    """The two nets that train together."""

    def __init__(self, tokenizer):
        super().__init__()
        self.text = TextEncoder({**configs.TEXT, "vocab_size": len(tokenizer.ids)})
        self.unet = Unet(configs.UNET)
        # Tokens no caption has stay at zero: an unknown word then says little instead of something at random.
        weight = self.text.text_model.embeddings.token_embedding.weight
        known = torch.zeros(len(weight), 1)
        known[tokenizer.used_ids()] = 1
        with torch.no_grad():
            weight.mul_(known)

    def forward(self, x, t, ids):
        return self.unet(x, t, self.text(ids))


class Pairs:
    """Draws (row of the catalogue, caption), layouts as often as LAYOUTS says."""

    def __init__(self, rows, rng):
        self.rows, self.rng = rows, rng
        self.by_layout = {name: [i for i, row in enumerate(rows) if row[2] == name] for name in LAYOUTS}

    def draw(self):
        layout = self.rng.choices(list(LAYOUTS), list(LAYOUTS.values()))[0]
        index = self.rng.choice(self.by_layout[layout])
        obj, colour, layout, _, _ = self.rows[index]
        if self.rng.random() < EMPTY_PROMPTS:
            return index, ""
        return index, caption(obj, None if self.rng.random() < UNSAID_COLOUR else colour, layout, self.rng)


SHOWN = ["a cat on a blue background", "a red apple", "a photo of a cat", "two stars on a purple background", "a tiny rocket",
         "a house on the left", "a castle on a pink background", "a butterfly on an orange background", "a huge whale on a white background",
         "a guitar on a green background", "two ghosts on a black background", "a snail on a red background", "a panda on a cyan background",
         "a hamburger on the right, gray background", "an umbrella on a yellow background", "a unicorn on a brown background"]


def train(run, vae, rows, latents, minutes, seed):
    tokenizer = Tokenizer()
    model = Conditioned(tokenizer).to(run.device)
    average = copy.deepcopy(model).requires_grad_(False)
    optimiser = torch.optim.AdamW(model.parameters(), lr=RATE, betas=(0.9, 0.99), weight_decay=1e-3)
    state = run.stage("unet", minutes, seed, model=model, average=average, optimiser=optimiser)
    pairs = Pairs(rows, state.rng)
    acp = alphas_cumprod().to(run.device)
    for step, progress in state.steps():
        for group in optimiser.param_groups:
            group["lr"] = RATE * min(1, (step + 1) / 200, (1.01 - progress) / FALL)
        indices, texts = zip(*(pairs.draw() for _ in range(BATCH)))
        x = latents[list(indices)].to(run.device)
        ids = torch.tensor([tokenizer.encode(text) for text in texts], device=run.device)
        # Stratified: every batch sees the whole range of noise.
        t = ((torch.arange(BATCH) + torch.rand(BATCH)) / BATCH * 1000).long().to(run.device)
        noise = torch.randn_like(x) + OFFSET_NOISE * torch.randn_like(x[:, :, :1, :1])
        a = acp[t].view(-1, 1, 1, 1)
        predicted = model(a.sqrt() * x + (1 - a).sqrt() * noise, t, ids)
        snr = a / (1 - a)
        loss = ((predicted - noise).pow(2) * (SNR_MOST / snr).clamp(max=1)).mean()
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1)
        optimiser.step()
        decay = min(EMA, (step + 1) / (step + 10))
        torch._foreach_mul_(list(average.parameters()), decay)
        torch._foreach_add_(list(average.parameters()), [p.detach() for p in model.parameters()], alpha=1 - decay)
        state.note(loss=loss.item(), pictures=BATCH)
        if state.due(every=240):
            state.report()
            run.sheet("unet", draw(average, vae, tokenizer, SHOWN, seed=step))
    return average, tokenizer
