"""Values of single pixels, and mixtures of logistics fitted to them: the one-dimensional test bed of the figures.

A fit needs the histogram only, so that its loss is exact and takes milliseconds.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from codelength.data import load_data
from codelength.functional.discretized_logistic import discretized_logistic_log_mass
from codelength.units import bits

LEVELS = 256
QUADRATURE = 16  # points of a bin at which noise u ~ U(0, 1) is averaged


def red_histogram() -> Tensor:
    """Relative frequencies of the 256 red levels in photos32's training split, (256,) float64."""
    return _frequencies(load_data("photos32").split("train").x[:, 0])


def digit_histogram() -> Tensor:
    """Relative frequencies of the 256 levels in mnist5k's training split, (256,) float64; four pixels of five are 0."""
    return _frequencies(load_data("mnist5k").split("train").x)


def _frequencies(x: np.ndarray) -> Tensor:
    counts = np.bincount(x.reshape(-1), minlength=LEVELS)
    return torch.tensor(counts / counts.sum())


def entropy_bits(frequencies: Tensor) -> float:
    """Entropy in bits: the least mean code length of any model of single values."""
    kept = frequencies[frequencies > 0]
    return float(bits(-(kept * kept.log()).sum()))


def quadrature() -> Tensor:
    """Midpoints of QUADRATURE equal parts of every bin, (256, QUADRATURE)."""
    inside = (torch.arange(QUADRATURE, dtype=torch.float64) + 0.5) / QUADRATURE
    return torch.arange(LEVELS, dtype=torch.float64).unsqueeze(1) + inside


class Mixture:
    """Logistics with free weights, means and log scales on a scale where the levels span [−1, 1].

    Args:
        components: K; means start at quantiles of `frequencies`.
        frequencies: What is fitted.
        scale_levels: Scales at the start, in levels; 1/(4 K) of the range without it.
    """

    def __init__(self, components: int, frequencies: Tensor, scale_levels: float | None = None) -> None:
        middles = (torch.arange(components, dtype=torch.float64) + 0.5) / components
        places = torch.searchsorted(frequencies.cumsum(0), middles).clamp(max=LEVELS - 1)
        self.logits = torch.zeros(components, dtype=torch.float64, requires_grad=True)
        self.mean = (2 * places.double() / LEVELS - 1).requires_grad_()
        scale = 1 / (2 * components) if scale_levels is None else 2 * scale_levels / LEVELS
        self.log_scale = torch.full((components,), math.log(scale), dtype=torch.float64, requires_grad=True)

    @property
    def parameters(self) -> list[Tensor]:
        """What is trained."""
        return [self.logits, self.mean, self.log_scale]

    def log_density(self, y: Tensor) -> Tensor:
        """Log density of reals y on [0, 256), bins of width 1."""
        z = (2 * y.unsqueeze(-1) / LEVELS - 1 - self.mean) * torch.exp(-self.log_scale)
        each = torch.nn.functional.logsigmoid(z) + torch.nn.functional.logsigmoid(-z) - self.log_scale
        return torch.logsumexp(torch.log_softmax(self.logits, 0) + each, -1) - math.log(LEVELS / 2)

    def log_mass(self) -> Tensor:
        """Log mass of the 256 levels, open edges, (256,)."""
        value = torch.arange(LEVELS).unsqueeze(-1)
        each = discretized_logistic_log_mass(value, self.mean, self.log_scale, LEVELS)
        return torch.logsumexp(torch.log_softmax(self.logits, 0) + each, -1)


def fit(mixture: Mixture, loss: Callable[[Mixture], Tensor], steps: int, *, free_means: bool = True) -> list[float]:
    """Adam on a loss in nats, its rate falling to 0; returns the loss in bits before every step and after the last.

    With `free_means` false, means stay and the rate is constant: the scales then shrink as long as that pays.
    """
    parameters = mixture.parameters if free_means else [mixture.logits, mixture.log_scale]
    optimizer = torch.optim.Adam(parameters, lr=0.02)
    decay = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 - step / steps if free_means else 1.0)
    history = []
    for _ in range(steps):
        optimizer.zero_grad()
        value = loss(mixture)
        value.backward()
        optimizer.step()
        decay.step()
        history.append(float(bits(value.detach())))
    with torch.no_grad():
        history.append(float(bits(loss(mixture))))
    return history
