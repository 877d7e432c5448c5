"""Two-level pixels: Bernoulli, and the emission probabilities that grey values stand for."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from codelength.pixels.categorical import CategoricalChannel, _at_least_float32
from codelength.pixels.distribution import PixelDistribution


class Bernoulli(PixelDistribution):
    """Independent two-level channels: P(1) = sigmoid(logits).

    Args:
        logits: (B, C, *S).

    Grey values are refused: exp(x log p + (1 − x) log(1 − p)) is no probability of a grey x.
    """

    def __init__(self, logits: Tensor) -> None:
        self.logits = logits
        super().__init__(logits.shape[0], logits.shape[1], logits.shape[2:], 2)

    def channel(self, c: int, previous: Tensor) -> CategoricalChannel:
        logits = self.logits[:, c]
        return CategoricalChannel(torch.stack([torch.zeros_like(logits), logits], dim=-1))

    def log_prob_per_dim(self, value: Tensor) -> Tensor:
        self._check(value)
        logits = _at_least_float32(self.logits)
        return logsigmoid(logits * _signs(value, logits))

    def log_prob_of_draws(self, value: Tensor, k: int) -> Tensor:
        self._check(value)
        # No integer is repeated: a fifth of the time.
        logits = _at_least_float32(self.logits).unflatten(0, (k, len(value)))
        return logsigmoid(logits * _signs(value, logits)).flatten(2).sum(2, dtype=torch.float64)

    @property
    def mean(self) -> Tensor:
        """P(1), (B, C, *S), float64."""
        return torch.sigmoid(self.logits.double())


def _signs(value: Tensor, logits: Tensor) -> Tensor:
    """1 and −1 for 1 and 0: log P is the logsigmoid of ± logits, a third of the time of torch.where."""
    return (2 * value - 1).to(logits.dtype)


class EmissionBernoulli(Bernoulli):
    """Bernoulli pixels of dynamically binarized data, scored by their expectation over binarizations.

    A grey intensity g in [0, 1] emits a 1 with probability g. The code length of the binarized datum, averaged over
    binarizations, is the cross entropy −g log p − (1 − g) log(1 − p): a value for data of two levels, never to be
    ranked beside 8-bit data.
    """

    def expected_log_prob_per_dim(self, intensity: Tensor) -> Tensor:
        """E over binarizations of log P, nats, (B, C, *S).

        Args:
            intensity: Probability of a 1 in [0, 1], (B, C, *S), floating point.

        Raises:
            ValueError: intensity is integer or leaves [0, 1].
        """
        if not intensity.is_floating_point() or (
            intensity.numel() and not (intensity.min() >= 0 and intensity.max() <= 1)
        ):
            raise ValueError(
                "expected_log_prob: wanted floating-point intensities in [0, 1]; divide grey levels by levels - 1"
            )
        logits = _at_least_float32(self.logits)
        intensity = intensity.to(logits.dtype)
        return intensity * logsigmoid(logits) + (1 - intensity) * logsigmoid(-logits)
