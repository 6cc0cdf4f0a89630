"""Reads a picture: which object, which layout, which background? The nearest of all those that could have been asked for."""
import numpy as np

from captions import LAYOUTS
from objects import COLOURS, OBJECTS
from pictures import SIDE, Sprites

SMALL = 64  # side at which pictures are compared
BORDER = 4


def shrunk(picture):
    """[256, 256, 3] -> [64, 64, 3], means of blocks"""
    block = SIDE // SMALL
    return picture.reshape(SMALL, block, SMALL, block, 3).mean((1, 3))


class Judge:
    def __init__(self):
        self.sprites = Sprites()
        self.palette = np.array(list(COLOURS.values()), dtype=np.float32) / 255
        self.templates = {}

    def background(self, picture):
        """Index of the colour nearest to the median of the border. picture: [256, 256, 3], 0..1"""
        border = np.concatenate([picture[:BORDER].reshape(-1, 3), picture[-BORDER:].reshape(-1, 3),
                                 picture[:, :BORDER].reshape(-1, 3), picture[:, -BORDER:].reshape(-1, 3)])
        return int(((self.palette - np.median(border, 0)) ** 2).sum(1).argmin())

    def templates_for(self, colour, layout, dx, dy):
        """[objects, 64, 64, 3]"""
        key = colour, layout, dx, dy
        if key not in self.templates:
            self.templates[key] = np.stack([
                shrunk(self.sprites.draw(obj, colour, layout, dx, dy).permute(1, 2, 0).numpy()) for obj in range(len(OBJECTS))])
        return self.templates[key]

    def place(self, picture, colour):
        """Offset of the middle of what is not background, in whole cells of four pixels."""
        mask = np.abs(shrunk(picture) - self.palette[colour]).max(2) > 0.15
        if not mask.any():
            return 0, 0
        ys, xs = np.nonzero(mask)
        return tuple(int(4 * round((v.min() + v.max() + 1 - SMALL) / 2)) for v in (xs, ys))

    def distances(self, picture, colour, layout):
        dx, dy = self.place(picture, colour) if layout == "small" else (0, 0)
        return ((self.templates_for(colour, layout, dx, dy) - shrunk(picture)) ** 2).mean((1, 2, 3))

    def object(self, picture, colour):
        """Index of the nearest object in the plain layout."""
        return int(self.distances(picture, colour, "plain").argmin())

    def object_and_layout(self, picture, colour):
        found = {layout: self.distances(picture, colour, layout) for layout in LAYOUTS}
        layout = min(found, key=lambda name: found[name].min())
        return int(found[layout].argmin()), layout
