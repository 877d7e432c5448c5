"""What every flow shares: a transform, a prior of independent latents, and what follows from the two.

log p(y) = log p(z) + log|det dz/dy|, z = f(y); a sample is f⁻¹ of latents drawn from the prior.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from codelength import randomness
from codelength.errors import UsageError, unknown_name
from codelength.models.base import LikelihoodModel
from codelength.randomness import Noise
from codelength.space import Space
from codelength.transforms import Logit, MarginalLogit, Rescale, Transform

PREPROCESSING = ("logit", "marginal", "rescale")
PRIORS = ("normal", "logistic")


def preprocess(space: Space, preprocessing: str, alpha: float) -> tuple[list[Transform], tuple[float, float]]:
    """The first transforms of a flow over images or vectors, and the interval of each number on which it is a density.

    Args:
        space: What the data are.
        preprocessing: "logit": α + (1 − 2α) y / levels, then the logit (RealNVP). "marginal": a trainable histogram of
            each channel, then the logit. "rescale": y / levels alone, onto [0, 1) (NICE).
        alpha: α of "logit".

    Raises:
        UsageError: Unknown preprocessing.
    """
    low, high = float(space.offset), float(space.offset + space.levels)
    if preprocessing == "marginal":
        return [MarginalLogit(space.sizes[0], space.levels, space.offset)], (low, high)
    rescale = Rescale(space.levels, space.offset)
    if preprocessing == "rescale":
        return [rescale], (-math.inf, math.inf)
    if preprocessing != "logit":
        raise unknown_name("preprocessing", preprocessing, PREPROCESSING)
    logit = Logit(alpha)
    margin = logit.margin * space.levels
    return [rescale, logit], (low - margin, high + margin)


def number_of_classes(space: Space, class_conditional: bool) -> int:
    """Classes a class-conditional model is given; 0 for an unconditional one.

    Raises:
        UsageError: The data have no label.
    """
    if class_conditional and "label" not in space.conditions:
        raise UsageError(
            f"class_conditional: the data have conditions {sorted(space.conditions) or 'none'}; wanted 'label'. "
            "Choose data with labels, or leave it out"
        )
    return space.conditions["label"] if class_conditional else 0


class Flow(LikelihoodModel):
    """A density over reals, exact to evaluate and to sample.

    Args:
        space: What the data are.
        flow: f, from data to latents of as many numbers.
        support: Interval of each number outside which the density is 0.
        prior: "normal" or "logistic" latents, standard.
        conditioning: Conditions that f takes as keyword arguments.
    """

    def __init__(
        self,
        space: Space,
        flow: Transform,
        support: tuple[float, float],
        *,
        prior: str = "normal",
        conditioning: tuple[str, ...] = (),
    ) -> None:
        super().__init__(space, "density", conditioning)
        if prior not in PRIORS:
            raise unknown_name("prior", prior, PRIORS)
        self.flow, self.support, self.prior = flow, support, prior

    def log_prior(self, z: Tensor) -> Tensor:
        """log p(z), nats, (B,), of latents (B, ...)."""
        z = z.flatten(1)
        if self.prior == "logistic":
            return (logsigmoid(z) + logsigmoid(-z)).sum(1)
        return -0.5 * (z**2 + math.log(2 * math.pi)).sum(1)

    def log_prob(self, y: Tensor, **conditions: Tensor) -> Tensor:
        """log p(y), nats, (B,), of reals y, (B, ...); −inf outside `support`."""
        conditions = self.check_conditions(conditions, len(y))
        low, high = self.support
        inside = ((y >= low) & (y < high)).flatten(1).all(1)
        if math.isfinite(low):
            y = torch.where(inside.reshape(-1, *[1] * (y.dim() - 1)), y, torch.full_like(y, (low + high) / 2))
        z, log_det_jacobian = self.flow(y, **conditions)
        return torch.where(inside, self.log_prior(z) + log_det_jacobian, -torch.inf)

    def latents(self, y: Tensor, **conditions: Tensor) -> Tensor:
        """z, (B, D), of reals y, (B, ...), inside `support`."""
        z: Tensor = self.flow(y, **conditions)[0]
        return z.flatten(1)

    def inverse(self, z: Tensor, **conditions: Tensor) -> Tensor:
        """y, (B, ...), of latents z, (B, D)."""
        return self.flow.inverse(z.reshape(-1, *self.flow.output_shape(self.space.sizes)), **conditions)[0]

    @torch.no_grad()
    def sample(self, n: int, generator: Noise, temperature: float = 1.0, **conditions: Tensor) -> Tensor:
        """Draw n reals, (n, ...), inside `support`; `temperature` scales the latents."""
        conditions = self.check_conditions(conditions, n)
        shape = (n, self.space.num_dims)
        if self.prior == "logistic":
            u = randomness.uniform(shape, generator, device=self.device, dtype=torch.float64)
            z = torch.logit(u.clamp(min=2.0**-54)).to(self.dtype)
        else:
            z = randomness.normal(shape, generator, device=self.device, dtype=self.dtype)
        return self.inverse(temperature * z, **conditions)

    @torch.no_grad()
    def interpolate(self, first: Tensor, second: Tensor, steps: int, **conditions: Tensor) -> Tensor:
        """Reals on the way between two data, (steps, ...), both ends included.

        With ω the angle between the ends' latents, z(t) = (sin((1 − t)ω) z_1 + sin(tω) z_2) / sin ω. A straight line
        would pass through latents shorter than any that the prior draws.

        Args:
            first, second: One datum of reals each, (1, ...), inside `support`.
            steps: Number of points, at least 2.
            conditions: Conditions of both, (1,) each.

        Reference: White, arXiv:1609.04468 (spherical interpolation).
        """
        if steps < 2:
            raise UsageError(f"interpolate: steps={steps}; wanted at least the two ends")
        a, b = (self.latents(y.to(self.dtype), **conditions) for y in (first, second))
        cosine = torch.nn.functional.cosine_similarity(a, b).clamp(-1 + 1e-6, 1 - 1e-6)
        angle = torch.arccos(cosine)
        t = torch.linspace(0, 1, steps, dtype=a.dtype, device=a.device)[:, None]
        z = (torch.sin((1 - t) * angle) * a + torch.sin(t * angle) * b) / torch.sin(angle)
        return self.inverse(z, **{name: value.expand(steps) for name, value in conditions.items()})

    def initialize(self, y: Tensor, generator: Noise, **conditions: Tensor) -> None:
        """Set the data-dependent parameters from a training batch y, (B, ...), unless they are set."""
        self.flow.initialize(y, **self.check_conditions(conditions, len(y)))
