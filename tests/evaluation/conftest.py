"""Small models and data with known answers."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from codelength.data.dataset import DataSet, Split
from codelength.evaluation import Evaluation, EvaluationRecord
from codelength.models.base import LikelihoodModel, LogWeights
from codelength.randomness import Noise, normal, uniform
from codelength.space import Space


class Known(LikelihoodModel):
    """An exact model whose code length of x is Σ x * weight: known for every datum."""

    def __init__(self, space: Space, conditioning: tuple[str, ...] = ()) -> None:
        super().__init__(space, "mass", conditioning)
        self.weight = nn.Parameter(torch.tensor(0.25))

    def log_prob(self, x: Tensor, **conditions: Tensor) -> Tensor:
        return -(x.to(self.dtype) * self.weight).flatten(1).sum(1) - sum(conditions.values(), torch.tensor(0.0))


class Logistic(LikelihoodModel):
    """Independent logistics centred on the bins' edge 8, dequantized by U(0, 1); the exact mass is known."""

    def __init__(self, dims: int, scale: float) -> None:
        super().__init__(Space("vector", (dims,), 17))
        self.scale = nn.Parameter(torch.tensor(scale))

    def log_weights(self, x: Tensor, k: int, generator: Noise) -> LogWeights:
        t = (x + uniform((k, *x.shape), generator, dtype=self.dtype) - 8) / self.scale
        density = nn.functional.logsigmoid(t) + nn.functional.logsigmoid(-t) - self.scale.log()
        return LogWeights({"log_density": density.sum(-1)})

    def exact(self, x: Tensor) -> Tensor:
        """log P(x), (B,), float64."""
        low = (x.double() - 8) / self.scale.double()
        return (torch.sigmoid(low + 1 / self.scale.double()) - torch.sigmoid(low)).log().sum(-1)

    def draw(self, n: int, seed: int = 0) -> np.ndarray:
        """n data of this model."""
        u = np.random.default_rng(seed).random((n, self.space.num_dims))
        return np.floor(8 + self.scale.item() * (np.log(u) - np.log1p(-u))).clip(0, 16).astype(np.int64)


class WrongEncoder(LikelihoodModel):
    """z ~ N(0, I), x | z ~ N(W z, s² I), and an encoder that is off in mean and too wide."""

    def __init__(self, dims: int = 6, latents: int = 2, width: float = 1.5, shift: float = 0.5) -> None:
        super().__init__(Space("vector", (dims,), 41, offset=-20), "density")
        generator = torch.Generator().manual_seed(0)
        self.w = nn.Parameter(2 * torch.randn(dims, latents, generator=generator, dtype=torch.float64))
        self.s, self.width, self.shift = 2.0, width, shift

    def _posterior(self, x: Tensor) -> tuple[Tensor, Tensor]:
        precision = torch.eye(self.w.shape[1], dtype=torch.float64) + self.w.T @ self.w / self.s**2
        covariance = torch.linalg.inv(precision)
        return x.double() @ self.w @ covariance / self.s**2, torch.linalg.cholesky(covariance)

    def log_weights(self, x: Tensor, k: int, generator: Noise) -> LogWeights:
        mean, root = self._posterior(x)
        noise = normal((k, len(x), root.shape[0]), generator, dtype=torch.float64)
        z = mean + (self.width * noise + self.shift) @ root.T
        log_q = -0.5 * (noise**2 + math.log(2 * math.pi)).sum(-1) - torch.logdet(self.width * root)
        log_prior = -0.5 * (z**2 + math.log(2 * math.pi)).sum(-1)
        error = (x.double() - z @ self.w.T) / self.s
        log_lik = -0.5 * (error**2 + math.log(2 * math.pi * self.s**2)).sum(-1)
        return LogWeights({"prior": log_prior, "likelihood": log_lik, "minus_log_q": -log_q})

    def exact(self, x: Tensor) -> Tensor:
        """log p(x), (B,)."""
        covariance = self.w @ self.w.T + self.s**2 * torch.eye(len(self.w), dtype=torch.float64)
        zero = torch.zeros(len(self.w), dtype=torch.float64)
        return torch.distributions.MultivariateNormal(zero, covariance).log_prob(x.double())

    def draw(self, n: int) -> np.ndarray:
        """n data near the model's own."""
        generator = torch.Generator().manual_seed(1)
        z = torch.randn(n, self.w.shape[1], generator=generator, dtype=torch.float64)
        x = z @ self.w.detach().T + self.s * torch.randn(n, len(self.w), generator=generator, dtype=torch.float64)
        return x.round().clamp(-20, 20).long().numpy()


@pytest.fixture
def known() -> type[Known]:
    return Known


@pytest.fixture
def logistic() -> type[Logistic]:
    return Logistic


@pytest.fixture
def wrong_encoder() -> type[WrongEncoder]:
    return WrongEncoder


@pytest.fixture
def small_data() -> DataSet:
    """100 training, 30 validation and 65 test images of 2 x 3 pixels and 5 levels."""
    space = Space.image(1, 2, 3, levels=5)
    generator = np.random.default_rng(0)
    counts = {"train": 100, "validation": 30, "test": 65}
    splits = {name: Split(generator.integers(0, 5, (n, 1, 2, 3)).astype(np.uint8)) for name, n in counts.items()}
    return DataSet("small", space, splits)


@pytest.fixture
def make_evaluation() -> Callable[..., Evaluation]:
    """An evaluation with given code lengths in nats."""

    def make(name: str, code_length: np.ndarray, clusters: np.ndarray | None = None, **fields: Any) -> Evaluation:
        bits = code_length.mean() / math.log(2) / fields.get("num_dims", 1)
        defaults: dict[str, Any] = {
            "model": name,
            "family": "test",
            "measure": "mass",
            "conditioning": [],
            "data": "toy",
            "split": "test",
            "data_sha256": "0" * 64,
            "num_examples": len(code_length),
            "num_dims": 1,
            "levels": 256,
            "kind": "exact",
            "num_samples": 1,
            "nats_per_example": code_length.mean(),
            "bits_per_dim": bits,
            "standard_error_bits_per_dim": 0.1,
            "converged": True,
            "dtype": "float32",
            "seed": 0,
            "seconds": 0.0,
            "library_versions": {},
        }
        return Evaluation(EvaluationRecord(**(defaults | fields)), code_length, clusters)

    return make
