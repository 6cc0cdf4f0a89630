"""torch_unet.py [--xl] [--eager] [--wait FILE]: a plain PyTorch UNet with the shapes of SD 1.5 at 512 x 512, or of SDXL
at 1024 x 1024, in f16 and channels-last, with PyTorch's fused attention, compiled: what sd-worker-cuda is measured against
on the same card. Random weights; a step is one evaluation of two pictures, as guidance asks for. With --wait it compiles,
and is not timed before FILE is there. Prints milliseconds and steps a second, the median of 50."""
import os
import sys
import time

import torch
import torch.nn.functional as F
from torch import nn

XL = "--xl" in sys.argv
# Channels and transformer blocks of each level; the width of a head, or else their number; the width of the text, of the
# time embedding; pixels of the latent's side.
if XL:
    CHANNELS, DEPTHS, HEAD_WIDTH, HEADS, CONTEXT, TIME, SIDE = (320, 640, 1280), (0, 2, 10), 64, 0, 2048, 1280, 128
else:
    CHANNELS, DEPTHS, HEAD_WIDTH, HEADS, CONTEXT, TIME, SIDE = (320, 640, 1280, 1280), (1, 1, 1, 0), 0, 8, 768, 1280, 64
MID_DEPTH = 10 if XL else 1


class Resnet(nn.Module):
    def __init__(self, i, o):
        super().__init__()
        self.norm1, self.conv1 = nn.GroupNorm(32, i), nn.Conv2d(i, o, 3, padding=1)
        self.time = nn.Linear(TIME, o)
        self.norm2, self.conv2 = nn.GroupNorm(32, o), nn.Conv2d(o, o, 3, padding=1)
        self.shortcut = nn.Conv2d(i, o, 1) if i != o else nn.Identity()

    def forward(self, x, t):
        h = self.conv1(F.silu(self.norm1(x))) + self.time(t)[:, :, None, None]
        return self.shortcut(x) + self.conv2(F.silu(self.norm2(h)))


class Attention(nn.Module):
    def __init__(self, c, context):
        super().__init__()
        self.width = HEAD_WIDTH or c // HEADS
        self.q, self.k, self.v = (nn.Linear(n, c, bias=False) for n in (c, context, context))
        self.out = nn.Linear(c, c)

    def forward(self, x, context):
        q, k, v = (f(y).unflatten(-1, (-1, self.width)).transpose(1, 2)
                   for f, y in ((self.q, x), (self.k, context), (self.v, context)))
        return self.out(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))


class Block(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.norm1, self.norm2, self.norm3 = (nn.LayerNorm(c) for _ in range(3))
        self.own, self.cross = Attention(c, c), Attention(c, CONTEXT)
        self.widen, self.narrow = nn.Linear(c, 8 * c), nn.Linear(4 * c, c)

    def forward(self, h, context):
        n = self.norm1(h)
        h = h + self.own(n, n)
        h = h + self.cross(self.norm2(h), context)
        a, gate = self.widen(self.norm3(h)).chunk(2, -1)
        return h + self.narrow(a * F.gelu(gate))


class Transformer(nn.Module):
    def __init__(self, c, depth):
        super().__init__()
        self.norm = nn.GroupNorm(32, c)
        self.enter, self.leave = nn.Linear(c, c), nn.Linear(c, c)
        self.blocks = nn.ModuleList(Block(c) for _ in range(depth))

    def forward(self, x, context):
        h = self.enter(self.norm(x).permute(0, 2, 3, 1).flatten(1, 2))
        for block in self.blocks:
            h = block(h, context)
        return x + self.leave(h).unflatten(1, x.shape[2:]).permute(0, 3, 1, 2)


class Layer(nn.Module):
    def __init__(self, i, o, depth):
        super().__init__()
        self.resnet, self.transformer = Resnet(i, o), Transformer(o, depth) if depth else None

    def forward(self, x, t, context):
        x = self.resnet(x, t)
        return self.transformer(x, context) if self.transformer else x


class UNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.enter = nn.Conv2d(4, CHANNELS[0], 3, padding=1)
        self.down, self.up, skips, c = nn.ModuleList(), nn.ModuleList(), [CHANNELS[0]], CHANNELS[0]
        for i, o in enumerate(CHANNELS):
            for _ in range(2):
                self.down.append(Layer(c, o, DEPTHS[i]))
                skips.append(c := o)
            if i < len(CHANNELS) - 1:
                self.down.append(nn.Conv2d(o, o, 3, 2, 1))
                skips.append(o)
        self.mid, self.last = Layer(c, c, MID_DEPTH), Resnet(c, c)
        for i, o in reversed(list(enumerate(CHANNELS))):
            for _ in range(3):
                self.up.append(Layer(c + skips.pop(), o, DEPTHS[i]))
                c = o
            if i > 0:
                self.up.append(nn.Conv2d(o, o, 3, padding=1))
        self.norm, self.leave = nn.GroupNorm(32, c), nn.Conv2d(c, 4, 3, padding=1)

    def forward(self, x, t, context):
        x = self.enter(x)
        skips = [x]
        for layer in self.down:
            x = layer(x, t, context) if isinstance(layer, Layer) else layer(x)
            skips.append(x)
        x = self.last(self.mid(x, t, context), t)
        for layer in self.up:
            if isinstance(layer, Layer):
                x = layer(torch.cat((x, skips.pop()), 1), t, context)
            else:
                x = layer(F.interpolate(x, scale_factor=2.0))
        return self.leave(F.silu(self.norm(x)))


def wait():
    name = sys.argv[sys.argv.index("--wait") + 1]
    while not os.path.exists(name):
        time.sleep(0.1)


def main():
    torch.manual_seed(1)
    unet = UNet().cuda().half().to(memory_format=torch.channels_last).eval()
    print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}, "
          f"{sum(p.numel() for p in unet.parameters()) / 1e6:.0f} M parameters")
    step = unet if "--eager" in sys.argv else torch.compile(unet, mode="max-autotune-no-cudagraphs"
                                                            if "--no-graphs" in sys.argv else "reduce-overhead")
    x = torch.randn(2, 4, SIDE, SIDE, device="cuda", dtype=torch.half).to(memory_format=torch.channels_last)
    t = torch.randn(2, TIME, device="cuda", dtype=torch.half)
    context = torch.randn(2, 77, CONTEXT, device="cuda", dtype=torch.half)
    times = []
    with torch.inference_mode():
        for i in range(60):
            if i == 5 and "--wait" in sys.argv:
                wait()
            start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            start.record()
            step(x, t, context)
            end.record()
            torch.cuda.synchronize()
            if i >= 10:
                times.append(start.elapsed_time(end))
    ms = sorted(times)[len(times) // 2]
    print(f"{ms:.2f} ms, {1000 / ms:.1f} steps a second")


main()
