"""Monotone maps of single numbers, whose parameters a network gives: what couplings and autoregressive layers apply.

A kind says how many parameters a number needs, and maps forward and back with the log-derivative. It has no weights.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from codelength.errors import unknown_name

SCALES = ("sigmoid", "tanh")


class Elementwise(ABC):
    """z_i = f(x_i; θ_i), increasing in x_i."""

    num_parameters: int
    """P: parameters of one number."""

    @abstractmethod
    def forward(self, x: Tensor, parameters: Tensor) -> tuple[Tensor, Tensor]:
        """z and log dz/dx, both of x's shape.

        Args:
            x: Numbers, (B, ...).
            parameters: θ, (B, P, ...), of x's dtype.
        """

    @abstractmethod
    def inverse(self, z: Tensor, parameters: Tensor) -> tuple[Tensor, Tensor]:
        """x and log dx/dz, both of z's shape (B, ...), with parameters (B, P, ...)."""


class Additive(Elementwise):
    """z = x + t: volume-preserving (NICE, arXiv:1410.8516, eq. 8)."""

    num_parameters = 1

    def forward(self, x: Tensor, parameters: Tensor) -> tuple[Tensor, Tensor]:
        return x + parameters[:, 0], torch.zeros_like(x)

    def inverse(self, z: Tensor, parameters: Tensor) -> tuple[Tensor, Tensor]:
        return z - parameters[:, 0], torch.zeros_like(z)


class Affine(Elementwise):
    """z = (x + t) s, with parameters (raw, t) and a scale that is bounded.

    "sigmoid": s = σ(raw + 2) + floor, in (floor, 1 + floor): Glow's released code, with the floor that it lacks.
    "tanh": log s = limit · tanh(raw / limit), between −limit and limit.

    Args:
        scale: "sigmoid" or "tanh".
        floor: Smallest scale of "sigmoid"; 0 is Glow's, whose inverse then divides by what may underflow.
        limit: Largest |log s| of "tanh".

    Raises:
        UsageError: Unknown scale.
    """

    num_parameters = 2

    def __init__(self, scale: str = "sigmoid", *, floor: float = 1e-3, limit: float = 5.0) -> None:
        if scale not in SCALES:
            raise unknown_name("scale of Affine", scale, SCALES)
        self.scale, self.floor, self.limit = scale, floor, limit

    def _log_scale(self, raw: Tensor) -> Tensor:
        if self.scale == "tanh":
            return self.limit * torch.tanh(raw / self.limit)
        if self.floor == 0:
            return logsigmoid(raw + 2)
        return torch.log(torch.sigmoid(raw + 2) + self.floor)

    def forward(self, x: Tensor, parameters: Tensor) -> tuple[Tensor, Tensor]:
        log_scale = self._log_scale(parameters[:, 0])
        return (x + parameters[:, 1]) * torch.exp(log_scale), log_scale

    def inverse(self, z: Tensor, parameters: Tensor) -> tuple[Tensor, Tensor]:
        log_scale = self._log_scale(parameters[:, 0])
        return z * torch.exp(-log_scale) - parameters[:, 1], -log_scale
