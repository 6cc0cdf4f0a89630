"""AutoencoderKL, UNet2DConditionModel and CLIPTextModel, as small as the demo needs.

Attribute names are those of diffusers and transformers, so a state_dict is the weight file.
Activations and the operands of every product are bf16, master weights f32: on a CPU with
AVX512-BF16 that is several times faster than f32 with Debian's PyTorch 1.13, and its autocast fails.
"""
import math

import torch
from torch import nn
import torch.nn.functional as F

import fused

DTYPE = torch.bfloat16


class Conv2d(nn.Conv2d):
    """N(0, 1/fan_in): with PyTorch's default (a third of that variance) the autoencoder stays grey."""

    def __init__(self, cin, cout, kernel=3, stride=1, padding=None):
        super().__init__(cin, cout, kernel, stride, kernel // 2 if padding is None else padding)
        nn.init.normal_(self.weight, 0, (cin * kernel * kernel) ** -0.5)
        nn.init.zeros_(self.bias)

    def forward(self, x):
        w = self.weight.to(DTYPE).contiguous(memory_format=torch.channels_last)
        return F.conv2d(x.to(DTYPE), w, self.bias.to(DTYPE), self.stride, self.padding)


class Linear(nn.Linear):
    def __init__(self, cin, cout, bias=True):
        super().__init__(cin, cout, bias)
        nn.init.normal_(self.weight, 0, cin ** -0.5)
        if bias:
            nn.init.zeros_(self.bias)

    def forward(self, x):
        return F.linear(x.to(DTYPE), self.weight.to(DTYPE), None if self.bias is None else self.bias.to(DTYPE))


def zero(module):
    """A residual branch that starts as nothing lets a deep net start as a shallow one."""
    nn.init.zeros_(module.weight)
    return module


class GroupNorm(nn.GroupNorm):
    def forward(self, x, silu=False):
        if silu and fused.OPS and x.dtype == torch.bfloat16:
            return fused.NormSilu.apply(x, self.weight, self.bias, self.num_groups, self.eps)
        y = F.group_norm(x, self.num_groups, self.weight.to(x.dtype), self.bias.to(x.dtype), self.eps)
        return F.silu(y) if silu else y


class LayerNorm(nn.LayerNorm):
    """In f32: PyTorch 1.13's bf16 kernel is three times slower."""

    def forward(self, x):
        return super().forward(x.float()).to(x.dtype)


def sequence(x):
    """[n, c, h, w] -> [n, h*w, c]"""
    return x.permute(0, 2, 3, 1).flatten(1, 2)


def image(x, like):
    """[n, h*w, c] -> [n, c, h, w], channels last"""
    n, _, h, w = like.shape
    return x.view(n, h, w, -1).permute(0, 3, 1, 2)


def attend(q, k, v, heads, mask=None):
    def split(x):
        return x.view(x.shape[0], x.shape[1], heads, -1).transpose(1, 2)
    q, k, v = split(q), split(k), split(v)
    scores = q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5
    if mask is not None:
        scores = scores + mask
    return (scores.softmax(-1) @ v).transpose(1, 2).flatten(2)


def upsample(x):
    """Nearest neighbour, twice the size."""
    return fused.Upsample.apply(x) if fused.OPS and x.dtype == torch.bfloat16 else F.interpolate(x, scale_factor=2.0)


class ResnetBlock(nn.Module):
    def __init__(self, cin, cout, groups, eps, time_dim=None):
        super().__init__()
        self.norm1 = GroupNorm(groups, cin, eps)
        self.conv1 = Conv2d(cin, cout)
        if time_dim:
            self.time_emb_proj = Linear(time_dim, cout)
        self.norm2 = GroupNorm(groups, cout, eps)
        self.conv2 = zero(Conv2d(cout, cout))
        if cin != cout:
            self.conv_shortcut = Conv2d(cin, cout, 1)

    def forward(self, x, temb=None):
        h = self.conv1(self.norm1(x, silu=True))
        if temb is not None:
            h = h + self.time_emb_proj(F.silu(temb))[:, :, None, None]
        h = self.conv2(self.norm2(h, silu=True))
        return (self.conv_shortcut(x) if hasattr(self, "conv_shortcut") else x) + h


class Sampler(nn.Module):
    def __init__(self, channels, stride=1, padding=1):
        super().__init__()
        self.conv = Conv2d(channels, channels, 3, stride, padding)


class Downsampler(Sampler):
    """asymmetric: pads right and bottom only, as the VAE's encoder does."""

    def __init__(self, channels, asymmetric):
        super().__init__(channels, 2, 0 if asymmetric else 1)
        self.asymmetric = asymmetric

    def forward(self, x):
        return self.conv(F.pad(x, (0, 1, 0, 1)) if self.asymmetric else x)


class Upsampler(Sampler):
    def forward(self, x):
        return self.conv(upsample(x))


class VaeAttention(nn.Module):
    def __init__(self, channels, groups):
        super().__init__()
        self.group_norm = GroupNorm(groups, channels, 1e-6)
        self.to_q, self.to_k, self.to_v = (Linear(channels, channels) for _ in range(3))
        self.to_out = nn.ModuleList([zero(Linear(channels, channels))])

    def forward(self, x):
        h = sequence(self.group_norm(x))
        h = attend(self.to_q(h), self.to_k(h), self.to_v(h), 1)
        return x + image(self.to_out[0](h), x)


class VaeBlock(nn.Module):
    """resnets, then a down- or upsampler if there is one."""

    def __init__(self, cin, cout, layers, groups, down=False, up=False):
        super().__init__()
        self.resnets = nn.ModuleList([ResnetBlock(cin if i == 0 else cout, cout, groups, 1e-6) for i in range(layers)])
        if down:
            self.downsamplers = nn.ModuleList([Downsampler(cout, asymmetric=True)])
        if up:
            self.upsamplers = nn.ModuleList([Upsampler(cout)])

    def forward(self, x):
        for resnet in self.resnets:
            x = resnet(x)
        for sampler in [*getattr(self, "downsamplers", []), *getattr(self, "upsamplers", [])]:
            x = sampler(x)
        return x


class VaeMid(nn.Module):
    def __init__(self, channels, groups):
        super().__init__()
        self.resnets = nn.ModuleList([ResnetBlock(channels, channels, groups, 1e-6) for _ in range(2)])
        self.attentions = nn.ModuleList([VaeAttention(channels, groups)])

    def forward(self, x):
        return self.resnets[1](self.attentions[0](self.resnets[0](x)))


class Encoder(nn.Module):
    def __init__(self, widths, layers, latents, groups):
        super().__init__()
        self.conv_in = Conv2d(3, widths[0])
        cins = [widths[0], *widths[:-1]]
        self.down_blocks = nn.ModuleList([
            VaeBlock(cin, cout, layers, groups, down=i + 1 < len(widths)) for i, (cin, cout) in enumerate(zip(cins, widths))])
        self.mid_block = VaeMid(widths[-1], groups)
        self.conv_norm_out = GroupNorm(groups, widths[-1], 1e-6)
        self.conv_out = Conv2d(widths[-1], 2 * latents)

    def forward(self, x):
        x = self.conv_in(x)
        for block in self.down_blocks:
            x = block(x)
        return self.conv_out(self.conv_norm_out(self.mid_block(x), silu=True))


class Decoder(nn.Module):
    def __init__(self, widths, layers, latents, groups):
        super().__init__()
        widths = widths[::-1]
        self.conv_in = Conv2d(latents, widths[0])
        self.mid_block = VaeMid(widths[0], groups)
        cins = [widths[0], *widths[:-1]]
        self.up_blocks = nn.ModuleList([
            VaeBlock(cin, cout, layers + 1, groups, up=i + 1 < len(widths)) for i, (cin, cout) in enumerate(zip(cins, widths))])
        self.conv_norm_out = GroupNorm(groups, widths[-1], 1e-6)
        self.conv_out = Conv2d(widths[-1], 3)

    def forward(self, z):
        x = self.mid_block(self.conv_in(z))
        for block in self.up_blocks:
            x = block(x)
        return self.conv_out(self.conv_norm_out(x, silu=True))


class Vae(nn.Module):
    def __init__(self, config):
        super().__init__()
        args = config["block_out_channels"], config["layers_per_block"], config["latent_channels"], config["norm_num_groups"]
        latents = config["latent_channels"]
        self.encoder, self.decoder = Encoder(*args), Decoder(*args)
        self.quant_conv = Conv2d(2 * latents, 2 * latents, 1)
        self.post_quant_conv = Conv2d(latents, latents, 1)
        # Start with quant_conv as the identity and little noise (log-variance -5).
        for conv in (self.quant_conv, self.post_quant_conv):
            with torch.no_grad():
                conv.weight.copy_(torch.eye(conv.out_channels)[:, :, None, None])
        with torch.no_grad():
            self.quant_conv.bias[latents:] = -5

    def encode(self, picture):
        """picture [n, 3, h, w] in -1..1 -> mean, log-variance [n, c, h/f, w/f] (f32)"""
        x = picture.to(DTYPE).contiguous(memory_format=torch.channels_last)
        mean, logvar = self.quant_conv(self.encoder(x)).float().chunk(2, 1)
        return mean, logvar.clamp(-30, 20)

    def decode(self, z):
        z = z.to(DTYPE).contiguous(memory_format=torch.channels_last)
        return self.decoder(self.post_quant_conv(z)).float()


class Attention(nn.Module):
    def __init__(self, channels, context, heads):
        super().__init__()
        self.heads = heads
        self.to_q = Linear(channels, channels, bias=False)
        self.to_k, self.to_v = Linear(context, channels, bias=False), Linear(context, channels, bias=False)
        self.to_out = nn.ModuleList([zero(Linear(channels, channels))])

    def forward(self, x, context):
        return self.to_out[0](attend(self.to_q(x), self.to_k(context), self.to_v(context), self.heads))


class Geglu(nn.Module):
    def __init__(self, channels, hidden):
        super().__init__()
        self.proj = Linear(channels, 2 * hidden)

    def forward(self, x):
        value, gate = self.proj(x).chunk(2, -1)
        return value * F.gelu(gate)


class FeedForward(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.net = nn.ModuleList([Geglu(channels, 4 * channels), nn.Identity(), zero(Linear(4 * channels, channels))])

    def forward(self, x):
        return self.net[2](self.net[0](x))


class TransformerBlock(nn.Module):
    def __init__(self, channels, context, heads):
        super().__init__()
        self.norm1, self.norm2, self.norm3 = (LayerNorm(channels) for _ in range(3))
        self.attn1, self.attn2 = Attention(channels, channels, heads), Attention(channels, context, heads)
        self.ff = FeedForward(channels)

    def forward(self, x, context):
        h = self.norm1(x)
        x = x + self.attn1(h, h)
        x = x + self.attn2(self.norm2(x), context)
        return x + self.ff(self.norm3(x))


class SpatialTransformer(nn.Module):
    def __init__(self, channels, context, heads, groups):
        super().__init__()
        self.norm = GroupNorm(groups, channels, 1e-6)
        self.proj_in = Conv2d(channels, channels, 1)
        self.transformer_blocks = nn.ModuleList([TransformerBlock(channels, context, heads)])
        self.proj_out = zero(Conv2d(channels, channels, 1))

    def forward(self, x, context):
        h = sequence(self.proj_in(self.norm(x)))
        return x + self.proj_out(image(self.transformer_blocks[0](h, context), x))


class UnetBlock(nn.Module):
    """One level of the UNet, down or up: `cins` are what its resnets are given."""

    def __init__(self, cins, cout, config, attention, down=False, up=False):
        super().__init__()
        groups, time_dim = config["norm_num_groups"], 4 * config["block_out_channels"][0]
        self.resnets = nn.ModuleList([ResnetBlock(cin, cout, groups, 1e-5, time_dim) for cin in cins])
        if attention:
            self.attentions = nn.ModuleList([
                SpatialTransformer(cout, config["cross_attention_dim"], config["attention_head_dim"], groups) for _ in cins])
        if down:
            self.downsamplers = nn.ModuleList([Downsampler(cout, asymmetric=False)])
        if up:
            self.upsamplers = nn.ModuleList([Upsampler(cout)])

    def down(self, x, temb, context, skips):
        for i, resnet in enumerate(self.resnets):
            x = resnet(x, temb)
            if hasattr(self, "attentions"):
                x = self.attentions[i](x, context)
            skips.append(x)
        if hasattr(self, "downsamplers"):
            x = self.downsamplers[0](x)
            skips.append(x)
        return x

    def up(self, x, temb, context, skips):
        for i, resnet in enumerate(self.resnets):
            x = resnet(torch.cat([x, skips.pop()], 1), temb)
            if hasattr(self, "attentions"):
                x = self.attentions[i](x, context)
        return self.upsamplers[0](x) if hasattr(self, "upsamplers") else x


class UnetMid(nn.Module):
    def __init__(self, channels, config):
        super().__init__()
        groups, time_dim = config["norm_num_groups"], 4 * config["block_out_channels"][0]
        self.resnets = nn.ModuleList([ResnetBlock(channels, channels, groups, 1e-5, time_dim) for _ in range(2)])
        self.attentions = nn.ModuleList([SpatialTransformer(channels, config["cross_attention_dim"], config["attention_head_dim"], groups)])

    def forward(self, x, temb, context):
        return self.resnets[1](self.attentions[0](self.resnets[0](x, temb), context), temb)


class TimeEmbedding(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.half = channels // 2
        self.linear_1, self.linear_2 = Linear(channels, 4 * channels), Linear(4 * channels, 4 * channels)

    def forward(self, t):
        rates = torch.exp(torch.arange(self.half, device=t.device) * (-math.log(10000) / self.half))
        angles = t.float()[:, None] * rates
        return self.linear_2(F.silu(self.linear_1(torch.cat([angles.cos(), angles.sin()], 1))))


class Unet(nn.Module):
    def __init__(self, config):
        super().__init__()
        widths, layers = config["block_out_channels"], config["layers_per_block"]
        self.conv_in = Conv2d(config["in_channels"], widths[0])
        self.time_embedding = TimeEmbedding(widths[0])
        self.down_blocks, self.up_blocks = nn.ModuleList(), nn.ModuleList()
        skips, last = [widths[0]], len(widths) - 1
        for i, width in enumerate(widths):
            cins = [skips[-1]] + [width] * (layers - 1)
            skips += [width] * (layers + (i < last))
            attention = config["down_block_types"][i].startswith("CrossAttn")
            self.down_blocks.append(UnetBlock(cins, width, config, attention, down=i < last))
        self.mid_block = UnetMid(widths[-1], config)
        below = widths[-1]
        for i, width in enumerate(widths[::-1]):
            cins = []
            for _ in range(layers + 1):
                cins.append(below + skips.pop())
                below = width
            attention = config["up_block_types"][i].startswith("CrossAttn")
            self.up_blocks.append(UnetBlock(cins, width, config, attention, up=i < last))
        self.conv_norm_out = GroupNorm(config["norm_num_groups"], widths[0], 1e-5)
        self.conv_out = zero(Conv2d(widths[0], config["out_channels"]))

    def forward(self, x, t, context):
        """x [n, c, h, w], t [n], context [n, 77, d] -> predicted noise (f32)"""
        temb = self.time_embedding(t)
        x = self.conv_in(x.to(DTYPE).contiguous(memory_format=torch.channels_last))
        skips = [x]
        for block in self.down_blocks:
            x = block.down(x, temb, context, skips)
        x = self.mid_block(x, temb, context)
        for block in self.up_blocks:
            x = block.up(x, temb, context, skips)
        return self.conv_out(self.conv_norm_out(x, silu=True)).float()


class ClipAttention(nn.Module):
    def __init__(self, channels, heads):
        super().__init__()
        self.heads = heads
        self.q_proj, self.k_proj, self.v_proj = (Linear(channels, channels) for _ in range(3))
        self.out_proj = zero(Linear(channels, channels))

    def forward(self, x, mask):
        return self.out_proj(attend(self.q_proj(x), self.k_proj(x), self.v_proj(x), self.heads, mask))


class ClipMlp(nn.Module):
    def __init__(self, channels, hidden):
        super().__init__()
        self.fc1, self.fc2 = Linear(channels, hidden), zero(Linear(hidden, channels))

    def forward(self, x):
        x = self.fc1(x)
        return self.fc2(x * torch.sigmoid(1.702 * x))


class ClipLayer(nn.Module):
    def __init__(self, config):
        super().__init__()
        channels = config["hidden_size"]
        self.layer_norm1, self.layer_norm2 = LayerNorm(channels), LayerNorm(channels)
        self.self_attn = ClipAttention(channels, config["num_attention_heads"])
        self.mlp = ClipMlp(channels, config["intermediate_size"])

    def forward(self, x, mask):
        x = x + self.self_attn(self.layer_norm1(x), mask)
        return x + self.mlp(self.layer_norm2(x))


class ClipEmbeddings(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.token_embedding = nn.Embedding(config["vocab_size"], config["hidden_size"])
        self.position_embedding = nn.Embedding(config["max_position_embeddings"], config["hidden_size"])
        nn.init.normal_(self.token_embedding.weight, 0, 0.5)
        nn.init.normal_(self.position_embedding.weight, 0, 0.1)

    def forward(self, ids):
        return (self.token_embedding(ids) + self.position_embedding.weight).to(DTYPE)


class ClipEncoder(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.layers = nn.ModuleList([ClipLayer(config) for _ in range(config["num_hidden_layers"])])


class ClipTextModel(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.embeddings, self.encoder = ClipEmbeddings(config), ClipEncoder(config)
        self.final_layer_norm = LayerNorm(config["hidden_size"])

    def forward(self, ids):
        """ids [n, 77] -> [n, 77, d]"""
        x = self.embeddings(ids)
        mask = torch.full((ids.shape[1],) * 2, -1e4, device=ids.device, dtype=DTYPE).triu(1)
        for layer in self.encoder.layers:
            x = layer(x, mask)
        return self.final_layer_norm(x)


class TextEncoder(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.text_model = ClipTextModel(config)

    def forward(self, ids):
        return self.text_model(ids)
