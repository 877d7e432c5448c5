"""Any object with some of the members below, as a model of this package.

    log_prob(x) -> (N,)               exact log P(x) of integers, nats
    conditionals(x)                   a distribution, or (N, D, levels) probabilities in x's flattening order
    density_log_prob(y) -> (N,)       log density of reals y on [offset, offset + levels)^D, of x's shape, nats
    bound(x, k, generator) -> (N,)    a lower bound of log P(x) from k samples, nats
    sample(n), evaluate(batches), encode(x) -> bytes, decode(bytes, n)

with the attributes `space`, or `shape` and `levels` (and `offset`), where it knows them. The object is taken as it is: nothing
puts it in evaluation mode, so that what is measured is what its author would measure.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from codelength.adapters.table import as_pixel_distribution, conditional_table
from codelength.errors import EvaluationError, UsageError
from codelength.models.base import LikelihoodModel, LogWeights
from codelength.pixels import PixelDistribution
from codelength.randomness import ExampleNoise, Noise, SharedNoise, derive_seed
from codelength.space import Kind, Space
from codelength.transforms import UniformDequantization

SCORES = ("log_prob", "conditionals", "density_log_prob", "bound")
OTHERS = ("sample", "evaluate", "encode", "decode")
KINDS: dict[int, Kind] = {1: "sequence", 2: "audio", 3: "image"}


def has(subject: Any, member: str) -> bool:
    """Whether a foreign object answers `member`."""
    return callable(getattr(subject, member, None))


def declared_space(subject: Any, data_space: Space | None = None) -> Space:
    """The space a foreign object declares, completed by that of the data.

    Args:
        subject: May have `space` (a Space), or `shape`, `levels` and `offset`.
        data_space: Space of the data it is to be scored on.

    Raises:
        UsageError: Neither says what a datum is.
    """
    space = getattr(subject, "space", None)
    if isinstance(space, Space):
        return space
    shape, levels = getattr(subject, "shape", space), getattr(subject, "levels", None)
    if data_space is not None:
        if shape is None and levels is None:
            return data_space
        shape = data_space.shape if shape is None else shape
        levels = data_space.levels if levels is None else levels
    if shape is None or levels is None:
        raise UsageError(
            f"{type(subject).__name__} declares {'no shape' if shape is None else 'no levels'}; give it the attributes "
            "shape, such as (1, 28, 28), and levels, such as 256, or name the data it is for (--data)"
        )
    shape = tuple(int(size) for size in shape)
    if len(shape) not in KINDS:
        raise UsageError(f"{type(subject).__name__}.shape is {shape}; wanted (C, H, W) of images or (T,) of sequences")
    kind = data_space.kind if data_space is not None and len(data_space.shape) == len(shape) else KINDS[len(shape)]
    offset = getattr(subject, "offset", 0 if data_space is None else data_space.offset)
    return Space(kind, shape, int(levels), int(offset))


class ForeignModel(LikelihoodModel):
    """A foreign object behind the interface of `LikelihoodModel`: it has the members that the object can answer.

    Args:
        subject: The object.
        space: What a datum is.
        spec: Where it came from, `FILE.py:NAME`, if from a file: it can then be built again.

    Raises:
        UsageError: The object has no member that scores data.

    A `bound` becomes `log_weights` whose k rows are all bound(x, k): the K-sample bound is the object's own, and values that
    may be noisy are never exponentiated again. A `density_log_prob` alone is dequantized uniformly.
    """

    def __init__(self, subject: Any, space: Space, spec: str | None = None) -> None:
        super().__init__(space, "mass")
        if not any(has(subject, member) for member in SCORES):
            raise UsageError(
                f"{type(subject).__name__} has none of {', '.join(SCORES)}; a likelihood model needs one of them"
            )
        self.subject, self.spec = subject, spec
        offered: dict[str, Any] = {name: getattr(self, f"_{name}") for name in OTHERS if has(subject, name)}
        if has(subject, "log_prob"):
            offered["log_prob"] = self._log_prob
        if has(subject, "conditionals"):
            offered["conditionals"] = self._conditionals
            offered["conditional_table"] = self._conditional_table
            offered.setdefault("log_prob", self._log_prob_of_conditionals)
        if has(subject, "density_log_prob"):
            offered["density_log_prob"] = self._density_log_prob
        if has(subject, "bound"):
            offered["bound"], offered["log_weights"] = self._bound, self._log_weights_of_bound
        elif has(subject, "density_log_prob"):
            offered["log_weights"] = self._log_weights_of_density
        for name, member in offered.items():
            setattr(self, name, member)

    @property
    def name(self) -> str:
        """Name of the object's class."""
        return type(self.subject).__name__

    def train(self, mode: bool = True) -> ForeignModel:
        """Sets its own flag only: the object keeps the mode in which its author gave it."""
        self.training = mode
        return self

    def _checked(self, values: Any, member: str, count: int) -> Tensor:
        """(count,) floating-point values of a member, or an error that says what came instead."""
        values = torch.as_tensor(np.asarray(values) if not isinstance(values, Tensor) else values)
        if tuple(values.shape) != (count,):
            raise EvaluationError(
                f"{self.name}.{member} returned shape {tuple(values.shape)} for {count} data; wanted ({count},): one value a "
                "datum, summed over its dims and not over the batch"
            )
        return values if values.is_floating_point() else values.double()

    def _log_prob(self, x: Tensor) -> Tensor:
        return self._checked(self.subject.log_prob(self.space.validate(x)), "log_prob", len(x))

    def _conditional_table(self, x: Tensor) -> Tensor:
        """Probabilities of every dim's levels as the object gives them, (N, D, levels): not normalized again."""
        return conditional_table(self.subject.conditionals(self.space.validate(x)), x, self.space, self.name)

    def _conditionals(self, x: Tensor) -> PixelDistribution:
        result = self.subject.conditionals(self.space.validate(x))
        if isinstance(result, PixelDistribution):
            return result
        return as_pixel_distribution(conditional_table(result, x, self.space, self.name), self.space)

    def _log_prob_of_conditionals(self, x: Tensor) -> Tensor:
        index = (self.space.validate(x) - self.space.offset).flatten(1).unsqueeze(-1)
        return self._conditional_table(x).gather(-1, index).squeeze(-1).log().sum(1)

    def _density_log_prob(self, y: Tensor) -> Tensor:
        return self._checked(self.subject.density_log_prob(y), "density_log_prob", len(y))

    def _bound(self, x: Tensor, k: int, generator: torch.Generator) -> Tensor:
        return self._checked(self.subject.bound(self.space.validate(x), k, generator), "bound", len(x))

    def _log_weights_of_bound(self, x: Tensor, k: int, generator: Noise) -> LogWeights:
        if isinstance(generator, ExampleNoise):  # one datum at a time: its noise must not depend on the batch
            rows = []
            for i, example in enumerate(generator.examples):
                seed = derive_seed(generator.seed, "foreign-bound", example, generator.first_sample)
                rows.append(self._bound(x[i : i + 1], k, torch.Generator().manual_seed(seed)))
            bound = torch.cat(rows)
        elif isinstance(generator, SharedNoise):
            raise UsageError(
                f"{self.name} draws its own noise, so that a batch cannot be cut into parts; use one process"
            )
        else:
            bound = self._bound(x, k, generator)
        return LogWeights({"bound": bound.expand(k, -1)})

    def _log_weights_of_density(self, x: Tensor, k: int, generator: Noise) -> LogWeights:
        y, log_q = UniformDequantization(self.space.levels).sample(x, k, generator, dtype=self.dtype)
        log_density = self._density_log_prob(y.flatten(0, 1)).unflatten(0, (k, len(x)))
        return LogWeights({"log_density": log_density, "minus_log_q": -log_q})

    def _sample(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        """n data; an object whose `sample` takes no generator draws from the global one, seeded from `generator`."""
        arguments: dict[str, Any] = {}
        if "generator" in inspect.signature(self.subject.sample).parameters:
            arguments["generator"] = generator
        with torch.random.fork_rng(devices=[]):
            if generator is not None:
                torch.manual_seed(int(torch.randint(2**62, (), generator=generator)))
            drawn = self.subject.sample(n, **arguments)
        return torch.as_tensor(drawn)

    def _evaluate(self, batches: Iterable[Tensor]) -> Any:
        return self.subject.evaluate(batches)

    def _encode(self, x: Tensor) -> bytes:
        return self.subject.encode(x)

    def _decode(self, blob: bytes, n: int) -> Tensor:
        return torch.as_tensor(self.subject.decode(blob, n))


def is_module(model: Any) -> bool:
    """Whether a model's arithmetic can be moved to float64: it, or the object it holds, is a torch module."""
    return isinstance(model.subject if isinstance(model, ForeignModel) else model, nn.Module)
