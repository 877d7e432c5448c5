"""Multi-sample bounds, one implementation for all: dequantized densities and latent models alike.

With weights w_k = p(x + u_k) / q(u_k | x), or p(x, z_k) / q(z_k | x), whose mean in probability is P(x),

    E log w_1  <=  E log (1/K) Σ_k w_k  <=  log P(x),

and the middle term rises to log P(x) with K (Burda et al., arXiv:1509.00519, theorem 1). The weights are streamed:
memory does not depend on K. Besides the bound the stream gives what tells whether K was enough: the effective sample
size, the weights' largest values for the Pareto k-hat, and the bound at smaller K.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from codelength.errors import EvaluationError
from codelength.evaluation.pareto import pareto_k_hat, tail_length
from codelength.functional import log_mean_exp
from codelength.randomness import ExampleNoise, make_generator
from codelength.units import bits_per_dim

DIMS_PER_CHUNK = 2**18
"""Dims of data in one call of a model: 334 images of 28 x 28. Networks hold some hundred numbers a dim."""

CURVE_BASE = 10


@dataclass(frozen=True)
class BatchBound:
    """What a stream of log weights says about each of B data; nats, float64.

    Args:
        bound: log (1/K) Σ_k w_k, (B,).
        elbo: Mean of the log weights, (B,): the bound at K = 1 with K times less variance.
        ess: (Σ w)² / Σ w², (B,), between 1 and K; None where the weights are not known.
        k_hat: Pareto k-hat, (B,); NaN below 25 samples; None where the weights are not known.
        curve: K' -> the bound at K' = 1, 10, 100, ..., K, (B,), averaged over the disjoint groups of K' samples.
        terms: Name -> mean of that term of the log weights, (B,): they add up to `elbo`. Empty where they are not known.
    """

    bound: Tensor
    elbo: Tensor
    ess: Tensor | None
    k_hat: Tensor | None
    curve: dict[int, Tensor]
    terms: dict[str, Tensor] = field(default_factory=dict)


@dataclass
class WeightStream:
    """Running statistics of K log weights that arrive in chunks.

    Args:
        samples: K, known beforehand: it fixes how many of the largest weights are kept.
    """

    samples: int
    _log_sum: Tensor | None = None
    _log_sum_squares: Tensor | None = None
    _largest: Tensor | None = None
    _count: int = 0
    _levels: list[_CurveLevel] = field(default_factory=list)

    def add(self, log_weights: Tensor) -> None:
        """Take the next (k, B) log weights, nats."""
        w = log_weights.double()
        self._log_sum = _log_add(self._log_sum, torch.logsumexp(w, dim=0))
        self._log_sum_squares = _log_add(self._log_sum_squares, torch.logsumexp(2 * w, dim=0))
        candidates = w if self._largest is None else torch.cat([self._largest, w])
        keep = min(tail_length(self.samples) + 1, len(candidates))
        self._largest = candidates.topk(keep, dim=0).values
        self._count += len(w)
        level = 0
        while len(w):
            if level == len(self._levels):
                self._levels.append(_CurveLevel())
            w = self._levels[level].add(w)
            level += 1

    def result(self) -> BatchBound:
        """The statistics of all K samples."""
        assert self._count == self.samples
        assert self._log_sum is not None
        assert self._log_sum_squares is not None
        assert self._largest is not None
        bound = self._log_sum - np.log(self.samples)
        curve = {CURVE_BASE**i: level.mean for i, level in enumerate(self._levels)}
        return BatchBound(
            bound=bound,
            elbo=curve[1],
            ess=torch.exp(2 * self._log_sum - self._log_sum_squares),
            k_hat=pareto_k_hat(self._largest, self.samples),
            curve=curve | {self.samples: bound},
        )


class _CurveLevel:
    """Bounds of groups of 10^i samples: their mean, and those that wait to become a group of 10^(i + 1)."""

    def __init__(self) -> None:
        self._total: Tensor | None = None
        self._count = 0
        self._waiting: Tensor | None = None

    def add(self, bounds: Tensor) -> Tensor:
        """Take (g, B) bounds; returns the (g', B) bounds of the groups of ten that are now full."""
        self._total = bounds.sum(0) if self._total is None else self._total + bounds.sum(0)
        self._count += len(bounds)
        waiting = bounds if self._waiting is None else torch.cat([self._waiting, bounds])
        full = len(waiting) // CURVE_BASE * CURVE_BASE
        self._waiting = waiting[full:].clone()
        return log_mean_exp(waiting[:full].unflatten(0, (full // CURVE_BASE, CURVE_BASE)), dim=1)

    @property
    def mean(self) -> Tensor:
        assert self._total is not None
        return self._total / self._count


def _log_add(a: Tensor | None, b: Tensor) -> Tensor:
    return b if a is None else torch.logaddexp(a, b)


def chunk_length(samples: int, batch: int, num_dims: int) -> int:
    """Samples a call of the model: as many as keep batch * samples * dims within the budget, at least one."""
    return max(1, min(samples, DIMS_PER_CHUNK // (batch * num_dims)))


def bound_batch(
    model: Any,
    x: Tensor,
    examples: np.ndarray,
    *,
    samples: int,
    seed: int,
    conditions: dict[str, Tensor] | None = None,
) -> BatchBound:
    """The K-sample bound of each datum of a batch.

    Args:
        model: A model with `log_weights`.
        x: Data, (B, *shape).
        examples: Index of each datum in its data set, (B,): what its noise depends on.
        samples: K.
        seed: Seed of the noise.
        conditions: The model's conditions, each (B,).

    Raises:
        EvaluationError: The model returns weights of another shape than (k, B).
    """
    stream = WeightStream(samples)
    sums: dict[str, Tensor] = {}
    length = chunk_length(samples, len(x), max(1, x[0].numel()))
    for first in range(0, samples, length):
        k = min(length, samples - first)
        found = model.log_weights(x, k, ExampleNoise(seed, examples, first), **(conditions or {}))
        weights = found.total
        if tuple(weights.shape) != (k, len(x)):
            raise EvaluationError(
                f"{type(model).__name__}.log_weights returned {tuple(weights.shape)}; wanted (k, B) = {(k, len(x))}: "
                "one log weight for each sample and datum, summed over dims"
            )
        stream.add(weights)
        for name, term in found.terms.items():
            sums[name] = sums.get(name, 0.0) + term.double().sum(0)
    return replace(stream.result(), terms={name: total / samples for name, total in sums.items()})


def given_bound_batch(
    model: Any,
    x: Tensor,
    examples: np.ndarray,
    *,
    samples: int,
    seed: int,
    conditions: dict[str, Tensor] | None = None,
) -> BatchBound:
    """The bound of each datum by a model that computes it itself, `bound(x, k, generator)`.

    Its values are taken as they are, at K' = 1, K / 10 and K: they may be noisy, and the mean of exponentials of noisy
    bounds is no bound. Each datum is asked for alone, with its own generator, so that its noise does not depend on
    the batch.

    Arguments as for `bound_batch`.
    """
    points = sorted({1, max(1, samples // CURVE_BASE), samples})
    rows = []
    for i, example in enumerate(examples):
        given = {name: value[i : i + 1] for name, value in (conditions or {}).items()}
        for k in points:
            generator = make_generator(seed, "given-bound", int(example), k)
            rows.append(model.bound(x[i : i + 1], k, generator, **given).double())
    table = torch.cat(rows).reshape(len(examples), len(points)).T
    curve = dict(zip(points, table, strict=True))
    return BatchBound(bound=curve[samples], elbo=curve[1], ess=None, k_hat=None, curve=curve)


MIN_ESS = 5.0
MAX_MOVE_BITS_PER_DIM = 0.005


def has_converged(curve: dict[int, float], ess_median: float, num_dims: int) -> bool:
    """Whether a bound stopped moving with K.

    Args:
        curve: K' -> mean code length with K' samples, nats, at K' = 1, 10, ... and K.
        ess_median: Median effective sample size.
        num_dims: Dims a datum.

    Returns:
        False where the median effective sample size is under 5 or where the last decade of the curve, from K / 10 to
        K, still moves by more than 0.005 bits/dim. Between its points the curve is taken as linear in log K.

    >>> has_converged({1: 10.0, 10: 9.0, 100: 8.999}, ess_median=30.0, num_dims=1)
    True
    >>> has_converged({1: 10.0, 10: 9.0, 100: 8.9}, ess_median=30.0, num_dims=1)
    False
    """
    points = sorted(curve)
    before = np.interp(np.log(points[-1] / CURVE_BASE), np.log(points), [curve[k] for k in points])
    move = abs(float(before) - curve[points[-1]])
    return ess_median >= MIN_ESS and float(bits_per_dim(move, num_dims)) <= MAX_MOVE_BITS_PER_DIM
