"""From grey to two levels, in the three ways that give three different data sets.

static      one draw with probability grey / (levels − 1), made once and for all
dynamic     a fresh draw whenever a datum is seen; `Split.x` is the draw of one seed, `Split.intensity` what it is drawn from
threshold   1 where grey is at least half of the range; no noise, so its numbers are not comparable with the others

The coin flips of MNIST's static and dynamic forms alone cost 45.5 nats an image.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from codelength.data.dataset import DataSet, Split
from codelength.data.splitting import stable_uniform
from codelength.errors import UsageError
from codelength.space import Binarization

CHUNK = 4096  # data drawn at a time, so that the noise of 50,000 images is never held at once


def intensities(x: np.ndarray, levels: int) -> np.ndarray:
    """Probability of a 1 of each dim: grey / (levels − 1), float32."""
    return x.astype(np.float32) / np.float32(levels - 1)


def draw(x: np.ndarray, levels: int, *parts: int | str) -> np.ndarray:
    """One binarization: 1 with probability grey / (levels − 1); uint8, of the shape of x, a function of `parts`.

    With levels=2, x are the probabilities themselves.
    """
    out = np.empty(x.shape, dtype=np.uint8)
    for start in range(0, len(x), CHUNK):
        chunk = x[start : start + CHUNK]
        # u (levels − 1) < grey: a grey of 0 never gives a 1, the highest always does.
        out[start : start + CHUNK] = stable_uniform(chunk.shape, *parts, start) * (levels - 1) < chunk
    return out


def threshold(x: np.ndarray, levels: int) -> np.ndarray:
    """1 where grey is at least half of the range, (levels − 1) / 2; uint8."""
    return (2 * x.astype(np.int64) >= levels - 1).astype(np.uint8)


def binarize(data: DataSet, how: Binarization, seed: int = 0) -> DataSet:
    """The binarized form of a grey data set, named after it.

    Args:
        data: Grey images.
        how: "static", "dynamic" or "threshold".
        seed: Seed of the draw of a dynamic binarization; the static one is the same for ever.

    Raises:
        UsageError: The data are in colour or have two levels already.
    """
    levels = data.space.levels
    if data.space.kind != "image" or data.space.shape[0] != 1 or levels == 2:
        raise UsageError(f"{data.name} cannot be binarized; wanted grey images of more than 2 levels")

    def convert(name: str, split: Split) -> Split:
        if how == "threshold":
            return replace(split, x=threshold(split.x, levels))
        drawn = draw(split.x, levels, "binarization", how, data.name, name, seed if how == "dynamic" else 0)
        return replace(split, x=drawn, intensity=intensities(split.x, levels) if how == "dynamic" else None)

    return replace(
        data,
        name=f"{data.name}-{how}",
        space=data.space.with_binarization(how),
        splits={name: convert(name, split) for name, split in data.splits.items()},
        source=f"{data.source}; {how} binarization",
    )
