"""Code lengths of the same data under several codes: the model, image codecs, a background model. All scores are made of them."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import torch

from codelength.coding.baselines import image_sizes
from codelength.data.dataset import Split
from codelength.errors import UsageError
from codelength.evaluation.estimate import Progress, per_example_nats
from codelength.models.base import LikelihoodModel

MODEL, BACKGROUND = "model", "background"
CODECS = {
    "png": "PNG IDAT",
    "webp": "WebP",
    "jpegxl": "JPEG XL e7",
}  # PNG's pixels only: its headers are the same for all
BACKGROUND_TABLE = "context_table"
BACKGROUND_DATA = 20_000


@dataclass(frozen=True)
class Lengths:
    """What N data cost under each code.

    Args:
        nats: Code -> (N,) float64 nats: "model", those of CODECS that can hold the data, "background" where there is one.
        seconds: Code -> CPU-seconds it took.
    """

    nats: dict[str, np.ndarray]
    seconds: dict[str, float] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.nats[MODEL])

    def at(self, indices: np.ndarray) -> Lengths:
        """Those of the data at `indices`."""
        return Lengths({name: values[indices] for name, values in self.nats.items()}, self.seconds)


def measure_lengths(
    model: LikelihoodModel,
    split: Split,
    *,
    background: LikelihoodModel | None = None,
    samples: int = 1,
    seed: int = 0,
    batch_size: int = 100,
    indices: np.ndarray | None = None,
    progress: Progress | None = None,
) -> Lengths:
    """Measure every datum of a split under every code.

    Args:
        model: The model.
        split: The data.
        background: A second model of the same space.
        samples, seed, batch_size, progress: Of the evaluation pass.
        indices: Data to measure; all by default.

    Raises:
        CodelengthError: See `per_example_nats`.
    """
    nats: dict[str, np.ndarray] = {}
    seconds: dict[str, float] = {}
    for name, chosen in ((MODEL, model), (BACKGROUND, background)):
        if chosen is None:
            continue
        started = time.process_time()
        bar = progress if name == MODEL else None
        result = per_example_nats(
            chosen, split, samples=samples, seed=seed, batch_size=batch_size, indices=indices, progress=bar
        )
        nats[name], seconds[name] = result.code_length, time.process_time() - started
    if model.space.kind == "image":
        pixels = _pixels(model, split.x[:] if indices is None else split.x[indices])
        for name, codec in CODECS.items():
            started = time.process_time()
            sizes = image_sizes(pixels, [codec])
            if codec in sizes:
                nats[name], seconds[name] = sizes[codec] * math.log(2), time.process_time() - started
    return Lengths(nats, seconds)


def _pixels(model: LikelihoodModel, x: np.ndarray) -> np.ndarray:
    """The data as codecs take them: levels from 0, of 8 or 16 bits."""
    return (x.astype(np.int64) - model.space.offset).astype(np.uint8 if model.space.levels <= 256 else np.uint16)


def fit_background(model: LikelihoodModel, train: Split) -> LikelihoodModel:
    """A context table of the model's own training data: it knows neighbours, and no shapes.

    Raises:
        UsageError: The space holds no images.

    Likelihood ratios against a background model are Ren et al.'s, arXiv:1906.02845; theirs is the same network trained on
    perturbed data. Any other run can be used in its place.
    """
    from codelength.models.registry import build_model

    if model.space.kind != "image":
        raise UsageError(f"a context table of data of kind {model.space.kind!r}; give a run as the background model")
    table = build_model(BACKGROUND_TABLE, model.space)
    fit: object = getattr(table, "fit")  # noqa: B009
    assert callable(fit)
    with torch.no_grad():
        fit(train.batch(slice(0, BACKGROUND_DATA)))
    return table


def stack_codes(lengths: Mapping[str, np.ndarray], names: tuple[str, ...]) -> np.ndarray:
    """The named codes as columns, (N, len(names)).

    Raises:
        UsageError: One was not measured.
    """
    missing = [name for name in names if name not in lengths]
    if missing:
        raise UsageError(f"the code lengths {', '.join(missing)} were not measured; there are {', '.join(lengths)}")
    return np.column_stack([lengths[name] for name in names])
