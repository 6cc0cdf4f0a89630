"""Captions, and the tokenizer: CLIP's byte-pair format with one token for every word the captions use."""
import json
import re

from objects import COLOURS, OBJECTS

COLOUR_NAMES = list(COLOURS)
LAYOUTS = {"plain": 0.30, "small": 0.30, "large": 0.08, "two": 0.14, "left": 0.09, "right": 0.09}
SIZE_WORDS = {"small": ["small", "tiny", "little"], "large": ["large", "huge", "big"]}
UNCOUNTED = {"grapes", "fries", "dice"}
OPENINGS = [("", 12), ("a photo of ", 3), ("a picture of ", 2), ("an image of ", 1), ("an emoji of ", 1), ("a drawing of ", 1)]
FILLERS = ["cute", "nice", "beautiful", "pretty"]
# Natural colours, said now and then, so that "a red apple" is about the apple and not about the background.
NATURAL = {"apple": "red", "tomato": "red", "strawberry": "red", "cherry": "red", "rose": "red", "car": "red", "crab": "red",
           "banana": "yellow", "lemon": "yellow", "star": "yellow", "cheese": "yellow", "chick": "yellow", "sunflower": "yellow",
           "tangerine": "orange", "carrot": "orange", "pumpkin": "orange", "fox": "orange", "basketball": "orange",
           "frog": "green", "broccoli": "green", "cactus": "green", "clover": "green", "pear": "green", "turtle": "green",
           "whale": "blue", "fish": "blue", "butterfly": "blue", "umbrella": "purple", "grapes": "purple", "eggplant": "purple",
           "pig": "pink", "tulip": "pink", "blossom": "pink", "bear": "brown", "coconut": "brown", "koala": "gray", "sheep": "white",
           "ghost": "white", "snowman": "white", "hat": "black"}


def article(phrase):
    return ("an " if phrase[0] in "aeiou" and not phrase.startswith(("uni", "ufo")) else "a ") + phrase


def noun_phrase(obj, layout, rng):
    name, plural, _ = OBJECTS[obj]
    words = []
    if layout in SIZE_WORDS:
        words.append(rng.choice(SIZE_WORDS[layout]))
    if rng.random() < 0.05:
        words.append(rng.choice(FILLERS))
    if name in NATURAL and rng.random() < 0.2:
        words.append(NATURAL[name])
    if layout == "two":
        return " ".join(["two", *words, plural])
    phrase = " ".join([*words, name])
    if name in UNCOUNTED or rng.random() < 0.08:
        return phrase
    return "the " + phrase if rng.random() < 0.04 else article(phrase)


def caption(obj, colour, layout, rng):
    """colour None: the caption does not say, any background fits."""
    thing = noun_phrase(obj, layout, rng)
    if layout in ("left", "right"):
        thing += f" on the {layout}" if rng.random() < 0.8 else f" on the {layout} side"
    text = rng.choices([o for o, _ in OPENINGS], [w for _, w in OPENINGS])[0] + thing
    if colour is None:
        return text
    name = COLOUR_NAMES[colour]
    if layout in ("left", "right"):
        forms = [f"{text} on {article(name)} background", f"{text} of {article(name)} background", f"{text}, {name} background"]
    else:
        forms = [f"{text} on {article(name)} background"] * 6 + [
            f"{text} on {name}", f"{text}, {name} background", f"{article(name)} background with {thing}"]
    return rng.choice(forms)


def vocabulary_words():
    """Every word captions may use, in a fixed order."""
    text = ["a an the of on with two left right side background , .", *OBJECTS_TEXT, *COLOUR_NAMES, *FILLERS]
    text += [opening for opening, _ in OPENINGS] + [w for words in SIZE_WORDS.values() for w in words]
    return list(dict.fromkeys(" ".join(text).split()))


OBJECTS_TEXT = [text for name, plural, _ in OBJECTS for text in (name, plural)]


def byte_characters():
    """CLIP's printable stand-ins for the 256 bytes, in its order."""
    plain = [*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    return [chr(b) for b in plain] + [chr(256 + i) for i in range(256 - len(plain))]


def merged(pieces, pair):
    out = []
    for piece in pieces:
        if out and (out[-1], piece) == pair:
            out[-1] += piece
        else:
            out.append(piece)
    return out


class Tokenizer:
    """Each word gets the merges it lacks, after all those before it: later ones rank lower, so they cannot split earlier words."""

    LENGTH = 77

    def __init__(self):
        self.words = vocabulary_words()
        self.merges = []
        for word in self.words:
            pieces = [*word[:-1], word[-1] + "</w>"]
            for pair in self.merges:
                pieces = merged(pieces, pair)
            while len(pieces) > 1:
                self.merges.append((pieces[0], pieces[1]))
                pieces = merged(pieces, self.merges[-1])
        single = byte_characters()
        tokens = single + [c + "</w>" for c in single] + [a + b for a, b in self.merges] + ["<|startoftext|>", "<|endoftext|>"]
        self.ids = {token: i for i, token in enumerate(tokens)}
        self.start, self.end = len(tokens) - 2, len(tokens) - 1

    def encode(self, text):
        """77 ids of a caption made of known words."""
        ids = [self.ids[word + "</w>"] for word in re.findall(r"[a-z]+|[,.]", text)]
        return [self.start, *ids, *[self.end] * (self.LENGTH - 1 - len(ids))]

    def used_ids(self):
        return [self.ids[word + "</w>"] for word in self.words] + [self.start, self.end]

    def save(self, folder):
        with open(folder + "/vocab.json", "w", encoding="utf-8") as f:
            json.dump(self.ids, f, ensure_ascii=False)
        with open(folder + "/merges.txt", "w", encoding="utf-8") as f:
            f.write("#version: 0.2\n" + "".join(f"{a} {b}\n" for a, b in self.merges))
