"""Pictures of a report: samples beside data, maps of bits spent per pixel, the easiest and hardest items."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from codelength.errors import UsageError
from codelength.models.base import LikelihoodModel, can
from codelength.pixels import PixelDistribution
from codelength.randomness import derive_seed
from codelength.report.collect import Group, Measured
from codelength.report.draw import draw_samples
from codelength.report.images import HEAT_ANCHORS, data_uri, heat, tile, to_pixels
from codelength.report.page import Block, Gallery, Note, Picture
from codelength.report.svg import Drawing, format_tick
from codelength.space import Space
from codelength.units import bits, bits_per_dim

SAMPLES = 16
MAPPED_ITEMS = 4
EXTREME_ITEMS = 8
SHOWN = 200  # pixels a picture is drawn wide
_ids = itertools.count(1)


@dataclass(frozen=True)
class Bits:
    """Where a model's bits go on some items.

    Args:
        per_dim: Bits of each dim, (N, C, H, W).
    """

    per_dim: np.ndarray

    @property
    def per_site(self) -> np.ndarray:
        """Bits of each pixel, channels together, (N, H, W)."""
        return np.asarray(self.per_dim.sum(1))

    @property
    def per_channel(self) -> np.ndarray:
        """Mean bits/dim of each channel, (C,)."""
        return np.asarray(self.per_dim.mean((0, 2, 3)))


def drawable(space: Space) -> bool:
    """Whether data of this space can be shown as images."""
    return space.kind == "image" and space.shape[0] in (1, 3, 4) and None not in space.shape


def choose_items(count: int, n: int, *names: str) -> np.ndarray:
    """n of `count` items, at random as a function of the names alone: nobody picked them."""
    generator = np.random.default_rng(derive_seed("report", *names))
    return np.sort(generator.choice(count, size=min(n, count), replace=False))


def samples_beside_data(group: Group, n: int = SAMPLES) -> list[Block]:
    """A gallery of random data of the split, and random samples of each run that can be sampled, classes taking turns."""
    space = group.measured[0].subject.run.space
    pictures, silent = [], []
    if group.dataset is not None:
        split = group.dataset.split(group.split)
        chosen = choose_items(len(split), n, "data", group.data, group.split)
        pictures.append(_sheet(split.x[chosen], space, f"{group.data}, {group.split} data", "data"))
    for m in group.measured:
        model = group.model(m.subject)
        try:
            classes = {name: range(model.space.conditions.get(name, 1)) for name in model.conditioning}
            x = draw_samples(model, n, seed=0, conditions=classes).numpy()
        except UsageError as error:
            silent.append(f"{m.subject.name}: {error}")
            continue
        pictures.append(_sheet(x, space, m.subject.name, "samples"))
    caption = f"Data and samples: {n} of each, drawn at random with a fixed seed, none chosen by hand."
    blocks: list[Block] = [Gallery(caption, pictures)] if pictures else []
    return blocks + [Note(f"No samples of {line}") for line in silent]


def _sheet(x: np.ndarray, space: Space, label: str, what: str) -> Picture:
    pixels = tile(to_pixels(x, space))
    factor = max(1, SHOWN // pixels.shape[1])
    return Picture(data_uri(pixels), f"{len(x)} random {what} of {label}", label, max(SHOWN, pixels.shape[1] * factor))


def bits_of(model: LikelihoodModel, x: Tensor, conditions: dict[str, Tensor]) -> Bits | None:
    """Where the model's bits go on x, (N, C, H, W) integers; None where it has no distribution of each dim."""
    if not can(model, "conditionals") or model.measure != "mass":
        return None
    taken = {name: conditions[name] for name in model.conditioning}
    with torch.no_grad():
        distribution = model.conditionals(x, **taken)  # type: ignore[operator]
        if not isinstance(distribution, PixelDistribution):
            return None
        log_probs = distribution.log_prob_per_dim(x - model.space.offset).double()
    return Bits(bits(-log_probs.numpy()))


def bit_maps(group: Group, n: int = MAPPED_ITEMS) -> list[Block]:
    """For a few random items, the bits that each run with conditionals spends on each pixel."""
    if group.dataset is None:
        return []
    split, space = group.dataset.split(group.split), group.dataset.space
    chosen = choose_items(len(split), n, "maps", group.data, group.split)
    x, conditions = split.batch(chosen), split.condition_batch(chosen)
    maps = {m: found for m in group.measured if (found := bits_of(group.model(m.subject), x, conditions)) is not None}
    if not maps:
        return []
    high = float(np.quantile(np.stack([found.per_site for found in maps.values()]), 0.995))
    data = tile(to_pixels(split.x[chosen], space), columns=n)
    factor = max(1, 3 * SHOWN // data.shape[1])
    pictures = [
        Picture(data_uri(data), f"{n} random {group.split} items of {group.data}", "data", factor * data.shape[1])
    ]
    for m, found in maps.items():
        mean = found.per_dim.mean((1, 2, 3))
        sheet = tile(heat(found.per_site, high), columns=n)
        words = ", ".join(f"{value:.2f}" for value in mean)
        alt = f"Bits that {m.subject.name} spends on each pixel of the {n} items; bits/dim of the items: {words}"
        pictures.append(Picture(data_uri(sheet), alt, f"{m.subject.name}: {words} bits/dim", factor * sheet.shape[1]))
    caption = (
        f"Where the bits go: −log2 P of each pixel given the pixels before it, {'channels together, ' if space.shape[0] != 1 else ''}"
        f"for {n} random {group.split} items. Bright pixels cost many bits, dark ones next to nothing."
    )
    return [Gallery(caption, pictures, colour_bar(high))]


def colour_bar(high: float) -> str:
    """The scale of a heat map from 0 to `high` bits a pixel."""
    name = f"heat{next(_ids)}"
    drawing = Drawing(360, 44, "Colours of the map", f"Dark is 0 bits a pixel, bright {high:.1f} bits a pixel or more.")
    stops = "".join(
        f'<stop offset="{i / (len(HEAT_ANCHORS) - 1):.3f}" stop-color="rgb{colour}"/>'
        for i, colour in enumerate(HEAT_ANCHORS)
    )
    drawing.parts.append(f'<defs><linearGradient id="{name}">{stops}</linearGradient></defs>')
    drawing.parts.append(f'<rect x="10" y="4" width="340" height="14" fill="url(#{name})"/>')
    for part, anchor in ((0.0, "start"), (0.5, "middle"), (1.0, "end")):
        unit = " bits a pixel" if part == 1 else ""
        drawing.text(10 + 340 * part, 36, f"{format_tick(round(part * high, 1))}{unit}", "tick", anchor)
    return drawing.render()


def extremes(group: Group, n: int = EXTREME_ITEMS) -> list[Block]:
    """The items that the best run finds easiest and hardest."""
    if group.dataset is None:
        return []
    best = group.measured[0]
    nats = best.evaluation.per_example
    order = np.argsort(nats, kind="stable")
    n = min(n, len(order) // 2)
    if n == 0:
        return []
    x, space = group.dataset.split(group.split).x, group.dataset.space
    pictures = []
    for what, chosen in (("easiest", order[:n]), ("hardest", order[::-1][:n])):
        costs = bits_per_dim(nats[chosen], group.num_dims)
        sheet = tile(to_pixels(x[chosen], space), columns=n)
        factor = max(1, 3 * SHOWN // sheet.shape[1])
        words = f"{what}: {best.mark}{costs[0]:.2f} … {best.mark}{costs[-1]:.2f} bits/dim, items {_listed(chosen)}"
        pictures.append(
            Picture(data_uri(sheet), f"The {n} {what} items for {best.subject.name}", words, factor * sheet.shape[1])
        )
    return [Gallery(f"The {n} easiest and hardest {group.split} items for {best.subject.name}.", pictures)]


def _listed(indices: Sequence[int] | np.ndarray) -> str:
    return ", ".join(str(int(i)) for i in indices)


def channel_costs(group: Group, n: int = 64) -> list[tuple[Measured, np.ndarray]]:
    """Mean bits/dim of each channel over n random items, for runs with conditionals; empty for one channel."""
    if group.dataset is None or group.dataset.space.shape[0] == 1:
        return []
    split = group.dataset.split(group.split)
    chosen = choose_items(len(split), n, "channels", group.data, group.split)
    x, conditions = split.batch(chosen), split.condition_batch(chosen)
    costs = [(m, bits_of(group.model(m.subject), x, conditions)) for m in group.measured]
    return [(m, found.per_channel) for m, found in costs if found is not None]
