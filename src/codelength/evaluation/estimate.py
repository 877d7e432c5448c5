"""Code length of every datum of a split: the one loop that all numbers come from."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor, nn

from codelength.data.dataset import Split
from codelength.errors import EvaluationError, UsageError
from codelength.evaluation.bounds import BatchBound, bound_batch
from codelength.models.base import EstimateKind, LikelihoodModel, can, estimate_kind

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class PerExample:
    """Code length of each datum, in the order of the indices scored.

    Args:
        code_length: −log P, or −bound, nats, (N,) float64: a cost, lower is better.
        kind: What the numbers are.
        num_samples: K of a bound, 1 where exact.
        elbo: Code length at K = 1, nats, (N,): the mean over the K log weights, a low-variance ELBO. Bounds only.
        ess: Effective sample size of the K weights, (N,). Bounds only.
        k_hat: Pareto k-hat of the weights' tail, (N,); NaN below 25 samples. Bounds only.
        curve: K -> mean code length with K samples, nats, at K = 1, 10, 100, ... and the last. Bounds only.
        expected_over_binarizations: Whether it is the expectation over dynamic binarizations.
    """

    code_length: np.ndarray
    kind: EstimateKind
    num_samples: int = 1
    elbo: np.ndarray | None = None
    ess: np.ndarray | None = None
    k_hat: np.ndarray | None = None
    curve: dict[int, float] = field(default_factory=dict)
    expected_over_binarizations: bool = False


def per_example_nats(
    model: LikelihoodModel,
    split: Split,
    *,
    samples: int = 1,
    seed: int = 0,
    batch_size: int = 100,
    indices: Sequence[int] | np.ndarray | None = None,
    device: torch.device | str | None = None,
    progress: Progress | None = None,
) -> PerExample:
    """Score every datum once, whatever the batch size.

    Dynamically binarized data (`split.intensity`) are scored by their expectation over binarizations where the model
    has `expected_log_prob`; else the binarized `split.x` is scored.

    Args:
        model: Its members decide what is computed: `log_prob` is exact, `log_weights` gives a K-sample bound.
        split: The data.
        samples: K of a bound; without effect on exact models.
        seed: Seed of the bound's noise, which is a function of (seed, example index, sample index).
        batch_size: Examples a batch; changes nothing but round-off.
        indices: Data to score, in this order; all by default.
        device: Moves the model there first; its own device by default.
        progress: Called with (examples done, examples in all) after each batch.

    Raises:
        UsageError: A size is not positive, or a condition that the model takes is not in the data.
        SpaceMismatchError: The data do not fit the model's space.
        EvaluationError: There are no data, or a code length is NaN or infinite: the examples are named.
    """
    raise NotImplementedError
