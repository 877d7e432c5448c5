"""Densities of other libraries over flat vectors, wrapped in preprocessing and dequantization.

y, reals of the space -> preprocessing (a Transform, with its Jacobian) -> flat z, (B, D) -> the library's log density.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, Literal

import torch
from torch import Tensor, nn

from codelength.errors import UsageError, unknown_name
from codelength.models.base import LikelihoodModel
from codelength.space import Space
from codelength.transforms import Compose, Dequantized, Logit, Rescale, Transform, UniformDequantization

Preprocessing = Literal["rescale", "center", "logit"] | Transform | None


class Backend(nn.Module, ABC):
    """A library's density over (B, D) reals: subclasses hold its object as a submodule, so that it can be copied and moved."""

    @abstractmethod
    def log_density(self, z: Tensor) -> Tensor:
        """log p(z), nats, (B,), of z, (B, D)."""

    def draw(self, n: int) -> Tensor:
        """n vectors, (n, D), drawn with the global generator; the caller seeds it."""
        raise UsageError(f"{type(self).__name__} cannot sample")


class Center(Transform):
    """z = 2 x − 1: from [0, 1) to [−1, 1). log|det| = D log 2."""

    def forward(self, x: Tensor, **context: Any) -> tuple[Tensor, Tensor]:
        return 2 * x - 1, x.new_full((len(x),), x[0].numel()) * torch.tensor(2.0, dtype=x.dtype).log()

    def inverse(self, z: Tensor, **context: Any) -> tuple[Tensor, Tensor]:
        return (z + 1) / 2, -z.new_full((len(z),), z[0].numel()) * torch.tensor(2.0, dtype=z.dtype).log()


def make_preprocessing(preprocessing: Preprocessing, space: Space) -> Transform:
    """The transform from [offset, offset + levels)^D to where a library's density is comfortable.

    Args:
        preprocessing: "rescale" to [0, 1), "center" to [−1, 1), "logit" to the reals (α = 0.05), a Transform of one's own,
            or None for data as they are.
        space: What the data are.
    """
    if isinstance(preprocessing, Transform):
        return preprocessing
    rescale = Rescale(space.levels, space.offset)
    known: dict[str | None, list[Transform]] = {
        None: [],
        "rescale": [rescale],
        "center": [rescale, Center()],
        "logit": [rescale, Logit()],
    }
    if preprocessing not in known:
        raise unknown_name("preprocessing", str(preprocessing), [name for name in known if name])
    return Compose(known[preprocessing])


class ForeignDensity(LikelihoodModel):
    """A library's density as one over the reals of a space.

    Args:
        backend: The library's object.
        space: What the data are; sizes must be known.
        preprocessing: See `make_preprocessing`.
    """

    def __init__(self, backend: Backend, space: Space, preprocessing: Preprocessing = "center") -> None:
        super().__init__(space, "density")
        self.backend, self.preprocessing = backend, make_preprocessing(preprocessing, space)
        _ = space.num_dims

    def log_prob(self, y: Tensor) -> Tensor:
        """log p(y), nats, (B,), of reals y, (B, *shape)."""
        z, log_det_jacobian = self.preprocessing(y.to(self.dtype))
        return self.backend.log_density(z.flatten(1)) + log_det_jacobian

    def sample(self, n: int, generator: torch.Generator) -> Tensor:
        """Draw n reals, (n, *shape); the library draws from the global generator, seeded from `generator`."""
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            torch.manual_seed(int(torch.randint(2**62, (), generator=generator)))
            z = self.backend.draw(n)
        return self.preprocessing.inverse(z.reshape(n, *self.space.sizes))[0]


def dequantized(backend: Backend, space: Space, preprocessing: Preprocessing) -> Dequantized:
    """The density under uniform dequantization: a bound on the mass of the integers, trained and measured like our own."""
    return Dequantized(ForeignDensity(backend, space, preprocessing), UniformDequantization(space.levels))
