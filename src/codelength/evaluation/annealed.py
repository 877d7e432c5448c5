"""Annealed importance sampling for latent-variable models, and bidirectional Monte Carlo on simulated data.

In the coordinates e of the latents' noise the prior is N(0, I) and the posterior is proportional to N(e; 0, I) P(x | e).
Between them lie π_t ∝ N(e; 0, I) P(x | e)^β_t, 0 = β_0 < ... < β_T = 1, each left invariant by a Hamiltonian step:

    forward     e_0 ~ N(0, I);        log w = Σ_t (β_t − β_{t−1}) log P(x | e_{t−1}),  e_t by a step at β_t
    reverse     e_T ~ p(e | x);       the same sum from the top, downwards

E w = P(x) forward and E 1/w = 1/P(x) in reverse, so that by Jensen log-mean-exp of log w is below log P(x) in expectation and
minus log-mean-exp of −log w above it. A draw from the posterior exists for data that the model itself made: only there is
the interval at hand. On other data the forward value is an estimate from below, without an encoder to blame.

Step sizes are tuned by a pilot chain of other noise, then held: tuned inside the chain they would break E w = P(x).

References: Neal 2001 (AIS); Wu et al., arXiv:1611.04273 (decoder-based models); Grosse et al., arXiv:1511.02543 (both ways).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from codelength import randomness
from codelength.errors import UsageError
from codelength.functional import log_mean_exp
from codelength.models.base import EstimateKind, can
from codelength.randomness import ExampleNoise, derive_seed

ACCEPTANCE = 0.65
FIRST_STEP = 0.3
ADAPTATION = 0.15
SIGMOID_SPREAD = 4.0


@dataclass(frozen=True)
class AnnealingSchedule:
    """How chains run.

    Args:
        steps: T, temperatures between prior and posterior.
        chains: Chains of each datum.
        leapfrog: Gradients of a Hamiltonian step.

    Raises:
        UsageError: One is not positive.
    """

    steps: int = 1000
    chains: int = 16
    leapfrog: int = 10

    def __post_init__(self) -> None:
        if min(self.steps, self.chains, self.leapfrog) < 1:
            raise UsageError(f"annealing: {self}; wanted 1 or more of each")

    @property
    def betas(self) -> list[float]:
        """β_0 = 0 .. β_T = 1, densest at both ends (sigmoidal, as in arXiv:1611.04273).

        >>> [round(b, 3) for b in AnnealingSchedule(4).betas]
        [0.0, 0.105, 0.5, 0.895, 1.0]
        """
        low, high = 1 / (1 + math.exp(SIGMOID_SPREAD)), 1 / (1 + math.exp(-SIGMOID_SPREAD))
        points = [1 / (1 + math.exp(-SIGMOID_SPREAD * (2 * t / self.steps - 1))) for t in range(self.steps + 1)]
        return [(point - low) / (high - low) for point in points]


@dataclass(frozen=True)
class Annealed:
    """Chains of B data.

    Args:
        log_weights: (chains, B), nats, float64.
        acceptance: Mean acceptance of the Hamiltonian steps, (B,).
        reverse: Whether the chains went from posterior to prior.
    """

    log_weights: Tensor
    acceptance: Tensor
    reverse: bool = False

    @property
    def value(self) -> Tensor:
        """Forward: log-mean-exp, below log P(x) in expectation. Reverse: above it. (B,), nats."""
        return -log_mean_exp(-self.log_weights) if self.reverse else log_mean_exp(self.log_weights)

    @property
    def kind(self) -> EstimateKind:
        """A forward run alone is an "estimate": nothing says how far below it is. Reverse runs give an upper "bound"."""
        return "bound" if self.reverse else "estimate"


@dataclass(frozen=True)
class Interval:
    """Bidirectional Monte Carlo: log P(x) of simulated data between a lower and an upper bound, in expectation.

    Args:
        forward, reverse: The two runs.
    """

    forward: Annealed
    reverse: Annealed
    kind: EstimateKind = "bound"

    @property
    def lower(self) -> Tensor:
        """(B,), nats."""
        return self.forward.value

    @property
    def upper(self) -> Tensor:
        """(B,), nats."""
        return self.reverse.value


class _Target:
    """log P(x | e) of k chains of B data, with its gradient; e flat, (k, B, D)."""

    def __init__(self, model: Any, x: Tensor, chains: int) -> None:
        if not (can(model, "log_likelihood") and can(model, "layers")):
            raise UsageError(
                f"{type(model).__name__} has no latents to anneal: wanted a model with layers and log_likelihood, such as a VAE"
            )
        self.model, self.chains, self.batch = model, chains, len(x)
        self.sizes = {name: math.prod(shape) for name, shape in model.layers.items()}
        self.x = x.repeat(chains, *[1] * (x.ndim - 1))

    @property
    def shape(self) -> tuple[int, int, int]:
        return self.chains, self.batch, sum(self.sizes.values())

    def flat(self, noise: dict[str, Tensor]) -> Tensor:
        """Noise of one draw, layer -> (B, *shape), the same for every chain."""
        one = torch.cat([noise[name].flatten(1) for name in self.sizes], dim=1)
        return one.expand(self.shape).clone()

    def _likelihood(self, e: Tensor) -> Tensor:
        parts = e.flatten(0, 1).split(list(self.sizes.values()), dim=1)
        layers = self.model.layers.items()
        noise = {name: part.unflatten(1, shape) for (name, shape), part in zip(layers, parts, strict=True)}
        likelihood: Tensor = self.model.log_likelihood(self.x, noise)
        return likelihood.double().unflatten(0, (self.chains, self.batch))

    def __call__(self, e: Tensor) -> tuple[Tensor, Tensor]:
        """log P(x | e), (k, B), and its gradient, (k, B, D)."""
        with torch.enable_grad():
            e = e.detach().requires_grad_()
            likelihood = self._likelihood(e)
            (gradient,) = torch.autograd.grad(likelihood.sum(), e)
        return likelihood.detach(), gradient


@dataclass
class _Chain:
    """Where the chains are: e, (k, B, D), with log P(x | e) and its gradient there."""

    e: Tensor
    likelihood: Tensor
    gradient: Tensor


def _hamiltonian_step(
    target: _Target, chain: _Chain, beta: float, size: Tensor, leapfrog: int, noise: ExampleNoise
) -> Tensor:
    """One step that leaves π_β invariant, in place; returns the probability of acceptance, (k, B).

    Args:
        size: Step size of each datum, (B,).
    """
    e, dtype = chain.e, chain.e.dtype
    momentum = randomness.normal(e.shape, noise, device=e.device, dtype=dtype)
    step = size.to(dtype)[:, None]
    new, gradient, likelihood = e, chain.gradient, chain.likelihood
    p = momentum + 0.5 * step * (beta * gradient - new)
    for i in range(leapfrog):
        new = new + step * p
        likelihood, gradient = target(new)
        p = p + (1.0 if i < leapfrog - 1 else 0.5) * step * (beta * gradient - new)
    change = beta * (likelihood - chain.likelihood) + 0.5 * (
        (e.double() ** 2).sum(2)
        - (new.double() ** 2).sum(2)
        + (momentum.double() ** 2).sum(2)
        - (p.double() ** 2).sum(2)
    )
    change = torch.where(change.isfinite(), change, torch.full_like(change, -torch.inf))
    accepted = randomness.uniform(change.shape, noise, device=e.device, dtype=torch.float64).log() < change
    chain.e = torch.where(accepted[..., None], new, e)
    chain.likelihood = torch.where(accepted, likelihood, chain.likelihood)
    chain.gradient = torch.where(accepted[..., None], gradient, chain.gradient)
    return change.clamp(max=0).exp()


def _pilot(model: Any, x: Tensor, schedule: AnnealingSchedule, noise: ExampleNoise) -> Tensor:
    """Step sizes for each temperature and datum, (T, B), that one adaptive chain settled on."""
    target = _Target(model, x, 1)
    e = randomness.normal(target.shape, noise, device=model.device, dtype=model.dtype)
    chain = _Chain(e, *target(e))
    size = torch.full((len(x),), FIRST_STEP, device=model.device, dtype=torch.float64)
    sizes = []
    for beta in schedule.betas[1:]:
        accepted = _hamiltonian_step(target, chain, beta, size, schedule.leapfrog, noise)
        sizes.append(size)
        size = size * torch.exp(ADAPTATION * (accepted.mean(0) - ACCEPTANCE))
    return torch.stack(sizes)


def anneal(
    model: Any,
    x: Tensor,
    schedule: AnnealingSchedule,
    *,
    examples: Sequence[int] | np.ndarray | None = None,
    seed: int = 0,
    posterior: dict[str, Tensor] | None = None,
) -> Annealed:
    """Anneal from prior to posterior; or back, from draws of the posterior.

    Args:
        model: A model with `layers` and `log_likelihood(x, noise)`; its parameters get no gradients.
        x: Data, (B, *shape).
        schedule: Temperatures, chains, leapfrog steps.
        examples: Index of each datum: what its noise depends on, with the seed; 0 .. B − 1 by default.
        seed: Seed.
        posterior: An exact draw of the latents' noise for each datum, layer -> (B, *shape), as `model.simulate` gives for
            data it made; runs in reverse.

    Raises:
        UsageError: The model has no latents.
    """
    indices = np.arange(len(x)) if examples is None else np.asarray(examples)
    target, betas = _Target(model, x, schedule.chains), schedule.betas
    sizes = _pilot(model, x, schedule, ExampleNoise(derive_seed(seed, "annealing-pilot"), indices))
    noise = ExampleNoise(derive_seed(seed, "annealing", "forward" if posterior is None else "reverse"), indices)
    if posterior is None:
        e = randomness.normal(target.shape, noise, device=model.device, dtype=model.dtype)
        order = list(range(1, schedule.steps + 1))
    else:
        e, order = target.flat(posterior), list(range(schedule.steps, 0, -1))
    chain = _Chain(e, *target(e))
    log_weights = torch.zeros(schedule.chains, len(x), dtype=torch.float64, device=e.device)
    acceptance = torch.zeros(len(x), dtype=torch.float64, device=e.device)
    for t in order:
        log_weights = log_weights + (betas[t] - betas[t - 1]) * chain.likelihood
        # The step that follows leaves the next target invariant: β_t upwards, β_{t−1} downwards.
        at = t if posterior is None else t - 1
        if 0 < at < schedule.steps:
            rate = _hamiltonian_step(target, chain, betas[at], sizes[at - 1], schedule.leapfrog, noise)
            acceptance += rate.mean(0) / max(1, schedule.steps - 1)
    return Annealed(log_weights, acceptance, reverse=posterior is not None)


def bidirectional(model: Any, n: int, schedule: AnnealingSchedule, *, seed: int = 0) -> tuple[Tensor, Interval]:
    """n data simulated from the model, and the interval that holds log P of each, in expectation.

    It tells how exact a schedule is for this model, on its own data: on real data the gap may be wider.

    Raises:
        UsageError: The model cannot simulate data with their latents.
    """
    if not can(model, "simulate"):
        raise UsageError(f"{type(model).__name__} has no simulate(): bidirectional Monte Carlo needs its exact latents")
    x, noise = model.simulate(n, randomness.make_generator(seed, "bidirectional", device=model.device))
    forward = anneal(model, x, schedule, seed=seed)
    return x, Interval(forward, anneal(model, x, schedule, seed=seed, posterior=noise))
