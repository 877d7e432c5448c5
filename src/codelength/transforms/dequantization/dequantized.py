"""From a density over reals to a bound on the mass of integers.

With q(y | x) supported on the bin [x, x + 1)^D of the integer vector x,

    log P(x) = log ∫_bin p(y) dy  >=  E_q log (1/K) Σ_k p(y_k) / q(y_k | x),    y_k ~ q(. | x).

References: Theis et al., arXiv:1511.01844, section 3.1 (uniform q); Flow++, arXiv:1902.00275, section 3.1 (any q);
importance weights as in arXiv:1509.00519.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from codelength.errors import EvaluationError, UsageError
from codelength.models.base import LikelihoodModel, LogWeights, can
from codelength.randomness import Noise
from codelength.space import Space
from codelength.transforms.dequantization.dequantizer import Dequantizer


def floor_to_space(y: Tensor, space: Space) -> Tensor:
    """The integers whose bins hold y; reals outside [offset, offset + levels) go to the nearest level.

    Raises:
        EvaluationError: y holds a NaN.
    """
    if bool(y.isnan().any()):
        raise EvaluationError("the density's sampler returned NaN; its weights are not finite or its inverse diverges")
    return y.floor().clamp(space.offset, space.offset + space.levels - 1).long()


class Dequantized(LikelihoodModel):
    """A density made a model of integers by a dequantizer: a bound on their mass, never an exact value.

    Args:
        density: Model of measure "density" with `log_prob`, over [offset, offset + levels)^D.
        dequantizer: q(y | x) on the bins. It need not be the one of training: see `with_dequantizer`.

    Raises:
        UsageError: `density` is a mass already, or has no exact `log_prob`.
    """

    def __init__(self, density: LikelihoodModel, dequantizer: Dequantizer) -> None:
        if density.measure != "density" or not can(density, "log_prob"):
            raise UsageError(
                f"Dequantized: {type(density).__name__} has measure {density.measure!r} and "
                f"{'a' if can(density, 'log_prob') else 'no'} log_prob; wanted a density with log_prob. "
                "A model of integers needs no dequantization"
            )
        super().__init__(density.space, "mass", density.conditioning)
        self.density, self.dequantizer = density, dequantizer

    def log_weights(self, x: Tensor, k: int, generator: Noise, **conditions: Tensor) -> LogWeights:
        """log p(y) − log q(y | x) of k draws for each datum.

        Args:
            x: Integers, (B, ...).
            k: Draws of each datum; all k · B are held in memory, so split a large k.
            generator: Noise of the dequantizer.
            conditions: Conditions of the density, (B, ...) each.

        Returns:
            Terms "log_density" and "minus_log_q", (k, B), nats.
        """
        y, log_q = self.dequantizer.sample(x, k, generator, dtype=self.dtype)
        repeated = {name: torch.cat([value] * k) for name, value in conditions.items()}
        log_density = self.density.log_prob(y.flatten(0, 1), **repeated)  # type: ignore[operator]
        return LogWeights({"log_density": log_density.unflatten(0, (k, x.shape[0])), "minus_log_q": -log_q})

    @torch.no_grad()
    def sample(self, n: int, generator: torch.Generator, temperature: float = 1.0, **conditions: Tensor) -> Tensor:
        """Draw n data: samples of the density, rounded down; a `temperature` other than 1 is the density's affair.

        A density may put mass outside [offset, offset + levels)^D; such a coordinate is clamped to the nearest level.
        Samples then follow P(x) plus the stray mass moved to the edge levels, while the bound is of P(x) alone.
        """
        options = {} if temperature == 1.0 else {"temperature": temperature}
        y = self.density.sample(n, generator, **options, **conditions)  # type: ignore[operator]
        return floor_to_space(y, self.space)

    @torch.no_grad()
    def interpolate(self, first: Tensor, second: Tensor, steps: int, **conditions: Tensor) -> Tensor:
        """Data on the way between two data in the density's latents, (steps, ...), both ends included.

        Args:
            first, second: One datum of integers each, (1, ...); the middle of their bins is what the density is given.
            steps: Number of data, at least 2.
            conditions: Conditions of both, (1,) each.

        Raises:
            UsageError: The density has no latents.
        """
        if not can(self.density, "interpolate"):
            raise UsageError(f"{type(self.density).__name__} has no latents to interpolate between; choose a flow")
        ends = (x.to(self.dtype) + 0.5 for x in (first, second))
        return floor_to_space(self.density.interpolate(*ends, steps, **conditions), self.space)  # type: ignore[operator]

    def initialize(self, x: Tensor, generator: Noise, **conditions: Tensor) -> None:
        """Set the data-dependent parameters of dequantizer and density, if any, from a training batch x, (B, ...)."""
        if can(self.dequantizer, "initialize"):
            self.dequantizer.initialize(x, generator)  # type: ignore[operator]
        if can(self.density, "initialize"):
            y, _ = self.dequantizer.sample(x, 1, generator, dtype=self.dtype)
            self.density.initialize(y[0], generator, **conditions)  # type: ignore[operator]

    @property
    def fit(self) -> Callable[..., None] | None:
        """The density's closed-form fit to integers, where it has one; None otherwise."""
        return self.density.fit if can(self.density, "fit") else None  # type: ignore[return-value]

    def with_dequantizer(self, dequantizer: Dequantizer) -> Dequantized:
        """The same density, weights shared, under another dequantizer: both bound the same P(x)."""
        return Dequantized(self.density, dequantizer)
