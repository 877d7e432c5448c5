"""torch.distributions objects and torch modules with `log_prob` as models of integers."""

from __future__ import annotations

import inspect
import math
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.distributions import Distribution, Independent

from codelength.adapters.density import Backend, Preprocessing, dequantized
from codelength.errors import UsageError
from codelength.models.base import LikelihoodModel
from codelength.space import Space
from codelength.transforms import Dequantized

Measure = Literal["mass", "density"]


def joint(distribution: Distribution, num_dims: int) -> Distribution:
    """A distribution of one datum of `num_dims` numbers: batch dims of independent numbers become event dims.

    Raises:
        UsageError: It is a distribution of another number of dims.
    """
    if distribution.batch_shape:
        distribution = Independent(distribution, len(distribution.batch_shape))
    if math.prod(distribution.event_shape) != num_dims:
        raise UsageError(
            f"{type(distribution).__name__} of event shape {tuple(distribution.event_shape)}; wanted {num_dims} numbers in "
            "all, one for each dim of a datum"
        )
    return distribution


def is_discrete(distribution: Distribution) -> bool:
    """Whether its values are integers."""
    support: Any = distribution.support
    return bool(support.is_discrete)


class DistributionBackend(Backend):
    """A continuous torch distribution of one datum."""

    def __init__(self, distribution: Distribution) -> None:
        super().__init__()
        self.distribution = distribution

    def log_density(self, z: Tensor) -> Tensor:
        return self.distribution.log_prob(z.reshape(len(z), *self.distribution.event_shape))

    def draw(self, n: int) -> Tensor:
        return self.distribution.sample(torch.Size((n,))).reshape(n, -1)


class ModuleBackend(Backend):
    """A torch module whose `log_prob` takes flat vectors, (B, D)."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def log_density(self, z: Tensor) -> Tensor:
        return self.module.log_prob(z)  # type: ignore[operator]

    def draw(self, n: int) -> Tensor:
        if not hasattr(self.module, "sample"):
            raise UsageError(f"{type(self.module).__name__} has no sample")
        return self.module.sample(n)  # type: ignore[operator]


class DiscreteDistribution(LikelihoodModel):
    """A torch distribution over integers, exact.

    Args:
        distribution: Over one datum; its values are the levels themselves.
        space: What a datum is.
    """

    def __init__(self, distribution: Distribution, space: Space) -> None:
        super().__init__(space, "mass")
        self.distribution = joint(distribution, space.num_dims)

    def log_prob(self, x: Tensor) -> Tensor:
        """log P(x), nats, (B,)."""
        value = self.space.validate(x).reshape(len(x), *self.distribution.event_shape)
        return self.distribution.log_prob(value.to(torch.get_default_dtype()))

    def sample(self, n: int, generator: torch.Generator) -> Tensor:
        """n data, (n, *shape); torch draws from its global generator, seeded from `generator`."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(int(torch.randint(2**62, (), generator=generator)))
            return self.distribution.sample(torch.Size((n,))).reshape(n, *self.space.sizes).long()


class ModuleMass(LikelihoodModel):
    """A torch module whose `log_prob` takes integers of a space and gives exact nats a datum.

    Args:
        module: Has log_prob(x) -> (B,), and perhaps sample(n).
        space: What a datum is.
    """

    def __init__(self, module: nn.Module, space: Space) -> None:
        super().__init__(space, "mass")
        self.module = module

    def log_prob(self, x: Tensor) -> Tensor:
        """log P(x), nats, (B,)."""
        return self.module.log_prob(self.space.validate(x))  # type: ignore[operator]


def from_distribution(
    distribution: Distribution, space: Space, *, preprocessing: Preprocessing = None
) -> DiscreteDistribution | Dequantized:
    """A torch distribution: exact over integers where its support is discrete, dequantized uniformly where it is not.

    Args:
        distribution: Its batch and event dims together are the dims of one datum.
        space: What a datum is.
        preprocessing: For continuous distributions; by default their numbers are the levels themselves.
    """
    if is_discrete(distribution):
        return DiscreteDistribution(distribution, space)
    return dequantized(DistributionBackend(joint(distribution, space.num_dims)), space, preprocessing)


def from_module(
    module: nn.Module, space: Space, *, measure: Measure, preprocessing: Preprocessing = "center"
) -> ModuleMass | Dequantized:
    """Any torch module with log_prob.

    Args:
        module: With log_prob: of integers (B, *shape) if "mass", of flat reals (B, D) if "density".
        space: What a datum is.
        measure: What its log_prob is; nothing in the module could tell.
        preprocessing: For densities, see `make_preprocessing`.

    Raises:
        UsageError: It has no log_prob.
    """
    if not callable(getattr(module, "log_prob", None)) or not inspect.ismethod(module.log_prob):
        raise UsageError(f"{type(module).__name__} has no log_prob; a likelihood model needs one")
    if measure == "mass":
        return ModuleMass(module, space)
    return dequantized(ModuleBackend(module), space, preprocessing)
