"""Helpers for all tests."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn


@pytest.fixture
def randomize() -> Callable[..., nn.Module]:
    """randomize(module, seed=0, scale=0.3): every parameter drawn anew; layers that start at zero would test nothing."""

    def draw(module: nn.Module, seed: int = 0, scale: float = 0.3) -> nn.Module:
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for parameter in module.parameters():
                noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
                parameter.copy_(scale * noise)
        return module

    return draw


@pytest.fixture
def log_det_by_autodiff() -> Callable[[Callable[[Tensor], Tensor], Tensor], Tensor]:
    """log_det_by_autodiff(f, x): log|det df/dx| of each row of x, (B, ...), from the full Jacobian, (B,)."""

    def log_dets(function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
        dets = []
        for row in x:
            jacobian = torch.autograd.functional.jacobian(lambda r: function(r[None])[0], row)
            dets.append(torch.linalg.slogdet(jacobian.reshape(row.numel(), row.numel()))[1])
        return torch.stack(dets)

    return log_dets
