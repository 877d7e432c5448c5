"""Regression and classification as likelihood: P(y | x) of a whole-numbered target y given real features x.

    gaussian       P(y | x) = Φ((y + ½ − μ(x)) / σ) − Φ((y − ½ − μ(x)) / σ),    the two end bins open
    categorical    P(y | x) = softmax(f(x))_y: quantized targets, or classes

μ, σ and f come from a network of fully connected layers; without hidden layers it is linear. The standard deviation σ is fixed, one learned number, or an output of
the network.

With σ fixed, training minimizes the density's code length

    −ln N(y; μ(x), σ²) = (y − μ(x))² / (2 σ²) + ln σ + ½ ln 2π,

which is mean-squared error times 1 / (2 σ²), and a constant that no gradient sees: mean-squared error is a likelihood with one particular σ. What is measured is the mass
above, in nats a target, whichever way σ came about.

Reference: Bishop, "Pattern Recognition and Machine Learning", 2006, sections 3.1.1 and 5.2.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor, nn

from codelength.errors import UsageError, unknown_name
from codelength.models.base import LikelihoodModel
from codelength.nn.conditions import FEATURES
from codelength.space import Space

LIKELIHOODS = ("gaussian", "categorical")
SCALES = ("fixed", "learned", "predicted")
FLOOR = 1e-6
"""Smallest standard deviation, in levels: below it a target's bin has all the mass."""


class Regression(LikelihoodModel):
    """P(y | features).

    Args:
        space: One target, a vector (1,).
        features: Number of features.
        hidden: Units of each hidden layer.
        likelihood: "gaussian" or "categorical".
        scale: Standard deviation of the Gaussian: "fixed" at `deviation`, "learned" or "predicted" from there.
        deviation: Standard deviation in levels; a quarter of the range by default.
        dropout: Of the hidden layers.

    Raises:
        UsageError: Another space, or an option that is not known.
    """

    def __init__(
        self,
        space: Space,
        *,
        features: int,
        hidden: Sequence[int] = (),
        likelihood: Literal["gaussian", "categorical"] = "gaussian",
        scale: Literal["fixed", "learned", "predicted"] = "learned",
        deviation: float | None = None,
        dropout: float = 0.0,
    ) -> None:
        super().__init__(space, conditioning=(FEATURES,))
        if space.kind != "vector" or space.shape != (1,):
            raise UsageError(f"regression speaks of one target, a vector (1,), not of {space.kind} {space.shape}")
        for name, value, known in (("likelihood", likelihood, LIKELIHOODS), ("scale", scale, SCALES)):
            if value not in known:
                raise unknown_name(f"{name} of regression:", value, known)
        self.features, self.likelihood, self.scale = features, likelihood, scale
        self.centre, start = space.levels / 2, space.levels / 4 if deviation is None else deviation
        if not start > 0:
            raise UsageError(f"regression: deviation={deviation}; wanted more than 0")
        outputs = space.levels if likelihood == "categorical" else 2 if scale == "predicted" else 1
        widths, layers = [features, *hidden], []
        for width, units in pairwise(widths):
            layers += [nn.Linear(width, units), nn.GELU(), nn.Dropout(dropout)]
        self.network = nn.Sequential(*layers, nn.Linear(widths[-1], outputs))
        # Means are in quarters of the range: outputs of unit size at the start.
        self.unit = space.levels / 4
        log_deviation = torch.tensor(math.log(start))
        self.log_deviation: Tensor
        if scale == "learned" and likelihood == "gaussian":
            self.log_deviation = nn.Parameter(log_deviation)
        else:
            self.register_buffer("log_deviation", log_deviation)

    def parameters_of(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of the Gaussian in levels from 0, both (B,)."""
        outputs = self._outputs(features)
        mean, log_deviation = self.centre + self.unit * outputs[:, 0], self.log_deviation
        if self.scale == "predicted":
            log_deviation = log_deviation + outputs[:, 1]
        return mean, log_deviation.exp().clamp(min=FLOOR).expand_as(mean)

    def log_prob(self, x: Tensor, *, features: Tensor) -> Tensor:
        """Exact log P(y | features), nats, (B,), float64.

        Args:
            x: Targets, (B, 1).
            features: (B, F).

        Raises:
            SpaceMismatchError, UsageError: Targets or features of another shape.
        """
        y = self.space.validate(x)[:, 0].to(self.device) - self.space.offset
        if self.likelihood == "categorical":
            log_probs = torch.log_softmax(self._outputs(features).double(), dim=1)
            return log_probs.gather(1, y.unsqueeze(1)).squeeze(1)
        mean, deviation = (part.double() for part in self.parameters_of(features))
        return _log_mass(y, mean, deviation, self.space.levels)

    def training_objective(self, x: Tensor, generator: torch.Generator, *, features: Tensor) -> Tensor:
        """−log P(y | features); with a fixed scale the density's, which is squared error up to factor and constant. Nats, (B,)."""
        if self.likelihood == "gaussian" and self.scale == "fixed":
            y = self.space.validate(x)[:, 0].to(self.device) - self.space.offset
            mean, deviation = self.parameters_of(features)
            return ((y - mean) / deviation).square() / 2 + deviation.log() + 0.5 * math.log(2 * math.pi)
        return -self.log_prob(x, features=features)

    def sample(self, n: int, generator: torch.Generator, *, features: Tensor) -> Tensor:
        """Draw a target for each of n rows of features, (n, 1) int64."""
        if self.likelihood == "categorical":
            probs = torch.softmax(self._outputs(features).double(), dim=1)
            return torch.multinomial(probs, 1, generator=generator) + self.space.offset
        mean, deviation = self.parameters_of(features)
        noise = torch.randn(n, generator=generator, dtype=torch.float64).to(self.device)
        y = (mean.double() + deviation.double() * noise).round().clamp(0, self.space.levels - 1)
        return y.long().unsqueeze(1) + self.space.offset

    def _outputs(self, features: Tensor) -> Tensor:
        features = torch.as_tensor(features, device=self.device)
        if features.ndim != 2 or features.shape[1] != self.features or not features.is_floating_point():
            raise UsageError(
                f"condition 'features': {features.dtype} of shape {tuple(features.shape)}; wanted real numbers (B, {self.features})"
            )
        out: Tensor = self.network(features.to(self.dtype))
        return out


def _log_mass(y: Tensor, mean: Tensor, deviation: Tensor, levels: int) -> Tensor:
    """log of the Gaussian's mass on [y − ½, y + ½], end bins open; float64, (B,).

    On the side away from the mean the two tails nearly cancel, so both are taken on the side where they are small: the mass is even in y − μ.
    """
    low, high = (y - 0.5 - mean) / deviation, (y + 0.5 - mean) / deviation
    low = torch.where(y <= 0, torch.full_like(low, -torch.inf), low)
    high = torch.where(y >= levels - 1, torch.full_like(high, torch.inf), high)
    flip = low + high > 0
    low, high = torch.where(flip, -high, low), torch.where(flip, -low, high)
    upper, lower = torch.special.log_ndtr(high), torch.special.log_ndtr(low)
    return upper + torch.log(-torch.expm1(lower - upper))
