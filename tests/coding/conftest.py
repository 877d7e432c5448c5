"""Small exact models and data for the codec's tests."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d

from codelength.models.autoregressive.base import AutoregressiveModel, raster_schedule
from codelength.models.base import Positions
from codelength.pixels import PixelDistribution, make_likelihood
from codelength.recipe import parse_recipe
from codelength.run import Run, create_run, load_run, save_run_weights
from codelength.space import Space


class TinyCausal(AutoregressiveModel):
    """One masked 3x3 convolution over the pixels above and to the left, random weights."""

    def __init__(self, space: Space, pixels: str, seed: int = 0) -> None:
        super().__init__(space)
        self.likelihood = make_likelihood(pixels, space)
        channels = space.sizes[0]
        generator = torch.Generator().manual_seed(seed)
        weight = torch.randn(self.likelihood.num_parameters, channels, 3, 3, generator=generator)
        self.weight, self.bias = nn.Parameter(weight), nn.Parameter(weight[:, 0, 0, 0].clone())
        mask = torch.tensor([[1.0, 1, 1], [1, 0, 0], [0, 0, 0]])
        self.register_buffer("mask", mask, persistent=False)

    def conditionals(self, x: Tensor, **conditions: Tensor) -> PixelDistribution:
        scaled = (x - self.space.offset).to(self.dtype) * (2 / (self.space.levels - 1)) - 1
        return self.likelihood(conv2d(scaled, self.weight * self.mask, self.bias, padding=1))

    @property
    def schedule(self) -> list[Positions]:
        return raster_schedule(*self.space.sizes[1:])

    def init_state(self, n: int, **conditions: Tensor) -> dict[str, Any]:
        channels, height, width = self.space.sizes
        return {"x": torch.full((n, channels, height + 2, width + 2), 0.0), "next": 0}

    def step(self, state: dict[str, Any], values: Tensor | None) -> tuple[PixelDistribution, dict[str, Any]]:
        width = self.space.sizes[2]
        if values is not None:
            row, column = divmod(state["next"] - 1, width)
            state["x"][:, :, row + 1, column + 1] = values[:, :, 0].float() * (2 / (self.space.levels - 1)) - 1
        row, column = divmod(state["next"], width)
        window = state["x"][:, :, row : row + 3, column : column + 3]
        state["next"] += 1
        parameters = conv2d(window, self.weight * self.mask, self.bias)
        return self.likelihood(parameters.flatten(2)), state


@pytest.fixture
def tiny() -> Callable[..., TinyCausal]:
    """Builder of TinyCausal models: (channels, side, levels, pixels, seed)."""

    def build(channels: int = 1, side: int = 6, levels: int = 256, pixels: str = "logistic_mixture", seed: int = 0):
        return TinyCausal(Space.image(channels, side, side, levels), pixels, seed).eval()

    return build


@pytest.fixture
def mean_field_run(tmp_path: Path) -> Callable[..., Run]:
    """Builder of untrained runs of mean_field, each in its own folder: (name, space, seed)."""

    def build(name: str = "tiny-run", space: Space | None = None, seed: int = 0) -> Run:
        space = space or Space.image(1, 6, 6)
        fields = {"name": name, "data": {"name": "none"}, "model": {"system": "mean_field", "options": {}}}
        create_run(tmp_path / name, parse_recipe(fields), space)
        model = load_run(tmp_path / name).build()
        generator = torch.Generator().manual_seed(seed)
        weights = {k: v + 0.1 * torch.randn(v.shape, generator=generator) for k, v in model.state_dict().items()}
        save_run_weights(tmp_path / name, weights, "raw", 1)
        return load_run(tmp_path / name)

    return build


@pytest.fixture
def images() -> Callable[..., np.ndarray]:
    """Smooth random images: (n, channels, side, levels, seed) -> (n, channels, side, side)."""

    def build(n: int, channels: int = 1, side: int = 6, levels: int = 256, seed: int = 0) -> np.ndarray:
        rng = np.random.default_rng(seed)
        ramp = np.linspace(0, 1, side)[None, None, :, None] * rng.random((n, channels, 1, 1))
        x = (levels * (ramp + 0.1 * rng.random((n, channels, side, side)))).clip(0, levels - 1)
        return x.astype(np.uint8 if levels <= 256 else np.uint16)

    return build
