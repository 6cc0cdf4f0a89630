"""Pictures of objects on plain backgrounds, composed from the font's bitmaps.

An object is kept as one premultiplied sprite for each of the few sizes in use, so that
composing a picture is one multiplication: background * (1 - alpha) + sprite.
"""
import numpy as np
from PIL import Image, ImageDraw, ImageFont
import torch

from objects import COLOURS, OBJECTS

FONT = "/usr/share/fonts/truetype/noto/NotoColorEmoji.ttf"
FONT_SIZE = 109  # the one size its bitmaps have: 136 x 128 pixels
SIDE = 256
SCALES = {"plain": 1.25, "small": 0.6, "large": 1.75, "part": 0.85}  # "part": two of them, left, right
PART_OFFSET = 60  # pixels from the middle to the middle of a part


def glyph(character):
    """The font's bitmap, cut to what is drawn and put back in the middle of its square."""
    font = ImageFont.truetype(FONT, FONT_SIZE)
    image = Image.new("RGBA", (136, 136))
    ImageDraw.Draw(image).text((0, 4), character, font=font, embedded_color=True)
    box = image.getbbox()
    centred = Image.new("RGBA", (136, 136))
    centred.paste(image.crop(box), ((136 - box[2] + box[0]) // 2, (136 - box[3] + box[1]) // 2))
    return centred


def premultiplied(image):
    pixels = np.asarray(image, dtype=np.float32) / 255
    pixels = pixels.copy()
    pixels[..., :3] *= pixels[..., 3:]
    return pixels


def resized(pixels, side):
    """Bicubic on premultiplied planes: resizing first would draw dark fringes."""
    planes = [Image.fromarray(pixels[..., c]).resize((side, side), Image.BICUBIC) for c in range(4)]
    return np.clip(np.stack([np.asarray(p) for p in planes], 0), 0, 1)


class Sprites:
    """Every object at every size, as uint8 [4, side, side] (premultiplied red, green, blue, and alpha)."""

    def __init__(self):
        self.colours = torch.tensor(list(COLOURS.values()), dtype=torch.float32) / 255
        self.by_size = {}
        glyphs = [premultiplied(glyph(character)) for _, _, character in OBJECTS]
        for size, scale in SCALES.items():
            side = 2 * round(136 * scale / 2)
            stack = np.stack([resized(g, side) for g in glyphs])
            self.by_size[size] = torch.from_numpy((stack * 255 + 0.5).astype(np.uint8))

    def background(self, colour):
        return self.colours[colour].view(3, 1, 1).expand(3, SIDE, SIDE).clone()

    def paste(self, picture, obj, size, dx=0, dy=0):
        """Draws into a picture [3, SIDE, SIDE] of values 0..1; what lies outside is cut off."""
        sprite = self.by_size[size][obj].float() / 255
        side = sprite.shape[-1]
        x, y = (SIDE - side) // 2 + dx, (SIDE - side) // 2 + dy
        x0, y0, x1, y1 = max(x, 0), max(y, 0), min(x + side, SIDE), min(y + side, SIDE)
        part = sprite[:, y0 - y:y1 - y, x0 - x:x1 - x]
        picture[:, y0:y1, x0:x1] = picture[:, y0:y1, x0:x1] * (1 - part[3:]) + part[:3]

    def draw(self, obj, colour, layout="plain", dx=0, dy=0):
        """layout: plain, small, large, left, right or two."""
        picture = self.background(colour)
        if layout in ("plain", "small", "large"):
            self.paste(picture, obj, layout, dx, dy)
        if layout in ("left", "two"):
            self.paste(picture, obj, "part", -PART_OFFSET)
        if layout in ("right", "two"):
            self.paste(picture, obj, "part", PART_OFFSET)
        return picture
