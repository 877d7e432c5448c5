"""Data sets of a text given a source: translations given messages, names given pictures.

A target is its tokens, then the end token (the last level) to the end of its T places: `models.conditional.prefix_lm` gives that filling probability 1. A source is tokens too, filled
up with the last level (condition "source"), or the patches of a picture, P · F real numbers (condition "features").
"""

from __future__ import annotations

import json
from collections.abc import Sequence

import numpy as np

from codelength.data.conditional import FEATURES
from codelength.data.dataset import DataSet, Split
from codelength.data.embedded import package_file
from codelength.data.gettext import Message, read_mo
from codelength.data.official import OFFICIAL, checked_file
from codelength.data.splitting import stable_order
from codelength.data.vocabulary import Vocabulary, make_vocabulary
from codelength.errors import DataError, UsageError
from codelength.space import Space

SOURCE = "source"
DJANGO = ("conf", *(f"contrib/{app}" for app in (
    "admin", "admindocs", "auth", "contenttypes", "flatpages", "gis", "humanize", "postgres", "redirects", "sessions", "sites",
)))  # fmt: skip
CELL, PICTURE = 34, 32
"""Emojis lie in a sheet of cells of 34 x 34, each with a margin of 1."""
PATCH = 4
"""Side of a patch, after the pictures are halved."""


def fill(texts: Sequence[str], vocabulary: Vocabulary, length: int) -> tuple[np.ndarray, np.ndarray]:
    """Texts as rows of tokens filled up with the level beyond the vocabulary, (N, length) uint16, and which fit with one place left, (N,) bool."""
    rows, fits = np.full((len(texts), length), vocabulary.size, dtype=np.uint16), np.zeros(len(texts), dtype=bool)
    for i, text in enumerate(texts):
        tokens = vocabulary.encode(text.encode())
        fits[i] = len(tokens) < length
        rows[i, : len(tokens)] = tokens[:length]
    return rows, fits


def parts(count: int, name: str, seed: int) -> dict[str, np.ndarray]:
    """Training, validation and test indices, 75 / 5 / 20 %: a difference of two models is to be seen on the test data."""
    order = stable_order(count, name, seed)
    return dict(zip(("train", "validation", "test"), np.split(order, [count * 3 // 4, count * 4 // 5]), strict=True))


def _check(length: int) -> None:
    if isinstance(length, bool) or not isinstance(length, int) or length < 2:
        raise UsageError(f"length={length!r}; wanted the places of a text, 2 or more")


def translations(
    name: str, messages: list[Message], *, length: int, vocabulary: str, seed: int, source: str
) -> DataSet:
    """The data set of a catalogue's messages: each source once, all with one vocabulary, those that fit.

    Forms of one message are in one split and one cluster; equal sources of several catalogues count once, the first.

    Raises:
        UsageError: `length` is too small, or the vocabulary unknown.
        DataError: No message is left.
    """
    _check(length)
    unique: dict[str, Message] = {}
    for message in messages:
        unique.setdefault(message.source, message)
    kept = list(unique.values())
    entries = np.unique([message.entry for message in kept])
    indices = {}
    for split, chosen in parts(len(entries), name, seed).items():
        inside = set(entries[chosen].tolist())
        indices[split] = [i for i, message in enumerate(kept) if message.entry in inside]
    training = "\n".join(f"{kept[i].source}\n{kept[i].target}" for i in indices["train"])
    words = make_vocabulary(vocabulary, training.encode())
    told, first = fill([message.source for message in kept], words, length)
    x, second = fill([message.target for message in kept], words, length)
    splits = {}
    for split, found in indices.items():
        fitting = [i for i in found if first[i] and second[i]]
        if not fitting:
            raise DataError(f"{name}: no {split} message fits length={length}; enlarge it")
        clusters = np.array([kept[i].entry for i in fitting])
        splits[split] = Split(x[fitting], clusters, {SOURCE: told[fitting]})
    space = Space("sequence", (length,), words.size + 1, channels=("byte pair",))
    return DataSet(name, space, splits, "BSD-3-Clause (as Django)", source, vocabulary=words)


def load_django_french(*, length: int = 48, vocabulary: str = "bpe-512", seed: int = 0) -> DataSet:
    """Django's messages and their French translations, from the catalogues inside its wheel.

    Args:
        length: Places of a source and of a target; longer messages are left out.
        vocabulary: Of both languages together, of the training messages.
        seed: Seed of the split.
    """
    messages: list[Message] = []
    for app in DJANGO:
        for domain in ("django", "djangojs"):
            if domain == "djangojs" and app != "contrib/admin":
                continue
            try:
                path = package_file("django", f"{app}/locale/fr/LC_MESSAGES/{domain}.mo")
            except DataError as error:
                raise DataError(f"{error}: pip install 'codelength[translation]'") from error
            first = 1 + (messages[-1].entry if messages else 0)
            found = read_mo(path.read_bytes(), str(path))
            messages += [Message(m.source, m.target, m.entry + first) for m in found]
    return translations(
        "django-french",
        messages,
        length=length,
        vocabulary=vocabulary,
        seed=seed,
        source="gettext catalogues of the package django",
    )


def patches(pictures: np.ndarray, size: int) -> np.ndarray:
    """Pictures (N, H, W, C) as rows of their patches, row by row: (N, H/size · W/size · size · size · C).

    >>> patches(np.arange(16).reshape(1, 4, 4, 1), 2)[0, :4].tolist()
    [0, 1, 4, 5]
    """
    n, height, width, channels = pictures.shape
    cut = pictures.reshape(n, height // size, size, width // size, size, channels)
    return cut.transpose(0, 1, 3, 2, 4, 5).reshape(n, -1)


def load_emoji_names(*, length: int = 24, vocabulary: str = "bpe-384", seed: int = 0) -> DataSet:
    """The names of 1,911 emojis given their pictures (Twemoji): 16 x 16, the mean of 2 x 2 pixels each, as patches of 4 x 4.

    Colours are multiplied by their opacity; each feature has mean 0 and variance 1 on the training data.

    Args:
        length: Places of a name; longer names are left out.
        vocabulary: Of the training names.
        seed: Seed of the split.
    """
    from PIL import Image

    _check(length)
    sheet, listed = (
        checked_file("emoji32", OFFICIAL["emoji32"][f].forms, "emoji-names") for f in ("32.png", "emoji.json")
    )
    emojis = [emoji for emoji in json.loads(listed.read_text()) if emoji["has_img_twitter"]]
    with Image.open(sheet) as image:
        pixels = np.asarray(image.convert("RGBA"))
    pictures = np.stack([_cell(pixels, emoji["sheet_x"], emoji["sheet_y"]) for emoji in emojis]) / np.float32(255)
    pictures[..., :3] *= pictures[..., 3:]
    half = PICTURE // 2
    features = patches(pictures.reshape(-1, half, 2, half, 2, 4).mean((2, 4)), PATCH)
    names = [emoji["name"].lower() for emoji in emojis]
    order = parts(len(names), "emoji-names", seed)
    train = features[order["train"]]
    features = ((features - train.mean(0)) / (train.std(0) + 1e-2)).astype(np.float32)
    words = make_vocabulary(vocabulary, "\n".join(names[i] for i in order["train"]).encode())
    x, fits = fill(names, words, length)
    chosen = {split: found[fits[found]] for split, found in order.items()}
    splits = {split: Split(x[i], conditions={FEATURES: features[i]}) for split, i in chosen.items()}
    space = Space("sequence", (length,), words.size + 1, channels=("byte pair",))
    source = "emoji-datasource-twitter 16.0.0 (names of Unicode, pictures of Twemoji)"
    return DataSet("emoji-names", space, splits, "CC BY 4.0 (pictures), MIT (package)", source, vocabulary=words)


def _cell(pixels: np.ndarray, column: int, row: int) -> np.ndarray:
    top, left = CELL * row + 1, CELL * column + 1
    return pixels[top : top + PICTURE, left : left + PICTURE]


def text_of_target(tokens: np.ndarray, vocabulary: Vocabulary) -> str:
    """The text of a target, up to its end."""
    ends = np.flatnonzero(tokens == vocabulary.size)
    return vocabulary.decode(tokens[: ends[0]] if len(ends) else tokens).decode(errors="replace")
