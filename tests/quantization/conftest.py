"""Small trained models and data that they can predict."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from codelength import LikelihoodModel, Space, build_model
from codelength.data.dataset import Split


def smooth_images(n: int, space: Space, seed: int = 0) -> np.ndarray:
    """Planes with noise."""
    rng = np.random.default_rng(seed)
    channels, height, width = space.sizes
    slope = rng.normal(0, 1, (n, channels, 2, 1, 1))
    plane = slope[:, :, 0] * np.arange(height)[:, None] + slope[:, :, 1] * np.arange(width)
    level = rng.uniform(0.2, 0.8, (n, 1, 1, 1)) * space.levels
    values = np.clip(level + plane + rng.normal(0, 0.7, plane.shape), 0, space.levels - 1)
    return np.asarray(values.round().astype(np.uint8))


def train_briefly(
    system: str, space: Space, options: dict[str, Any], *, steps: int = 40, learning_rate: float = 3e-3
) -> LikelihoodModel:
    """A float model trained for a moment, so that its outputs mean something."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model: Any = build_model(system, space, **options)
    x = torch.from_numpy(smooth_images(64, space)).long() + space.offset
    conditions = {"label": torch.arange(64) % 2} if model.conditioning else {}
    optimizer = torch.optim.Adam(model.parameters(), lr=learning_rate)
    generator = torch.Generator().manual_seed(1)
    objective = getattr(model, "training_objective", None)
    for _ in range(steps):
        nats = objective(x, generator, **conditions) if objective else -model.log_prob(x, **conditions)
        optimizer.zero_grad()
        nats.mean().backward()
        optimizer.step()
    return model.eval()


@pytest.fixture(scope="session")
def train() -> Callable[..., LikelihoodModel]:
    """train(system, space, options, steps=40): a model trained for a moment."""
    return train_briefly


@pytest.fixture(scope="session")
def images() -> Callable[..., np.ndarray]:
    """images(n, space, seed=0): uint8 levels, (n, *space.shape)."""
    return smooth_images


@pytest.fixture(scope="session")
def split_of() -> Callable[[Space], Split]:
    """split_of(space): the 64 images that `train` sees, with labels 0, 1, 0, ..."""

    def make(space: Space) -> Split:
        return Split(smooth_images(64, space), conditions={"label": np.arange(64) % 2})

    return make
