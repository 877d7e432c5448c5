"""Autoregressive transforms: each number is mapped with parameters that see the numbers before it alone.

    z_i = f(x_i; θ_i(x_1, ..., x_{i−1})),        log|det dz/dx| = Σ_i log ∂z_i/∂x_i.

The masked transform computes z of a datum in one pass and x of a latent in D: quick to score, slow to sample. The
inverse one is the same the other way round: quick to sample, slow to score.

References: MAF, arXiv:1705.07057, section 3; IAF, arXiv:1606.04934; MADE's masks, arXiv:1502.03509.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from codelength.nn.masked_mlp import MaskedMLP, SiteMasks
from codelength.transforms.bijections.elementwise import Elementwise
from codelength.transforms.transform import Transform


class MaskedAutoregressive(Transform):
    """Over vectors, and images in raster order with the channels one after the other; last layer at zero at first.

    Args:
        kind: f.
        dims: D, numbers of a datum.
        hidden: Sizes of the hidden layers of the masked network.
        backwards: The last number comes first.
        residual: Residual hidden layers, all of one size.
    """

    def __init__(
        self, kind: Elementwise, dims: int, hidden: Sequence[int], *, backwards: bool = False, residual: bool = False
    ) -> None:
        super().__init__()
        places = torch.arange(dims, device="cpu")
        self.kind = kind
        self.masks = SiteMasks(places.flip(0) if backwards else places, tuple(hidden))
        self.network = MaskedMLP(dims, 1, tuple(hidden), kind.num_parameters, residual=residual)
        nn.init.zeros_(self.network.output.weight)
        nn.init.zeros_(self.network.output.bias)

    def _parameters_of(self, flat: Tensor) -> Tensor:
        """θ, (B, P, D), of x, (B, D), in its precision."""
        out: Tensor = self.network(flat, self.masks)
        return out.to(flat.dtype).unflatten(1, (self.kind.num_parameters, -1))

    def forward(self, x: Tensor, **context: Any) -> tuple[Tensor, Tensor]:
        flat = x.flatten(1)
        z, log_derivative = self.kind.forward(flat, self._parameters_of(flat))
        return z.reshape(x.shape), log_derivative.sum(1)

    def inverse(self, z: Tensor, **context: Any) -> tuple[Tensor, Tensor]:
        """x and log|det dx/dz| in D passes of the network."""
        flat = z.flatten(1)
        numbers: list[Tensor] = [torch.zeros_like(flat[:, 0])] * flat.shape[1]
        log_det_jacobian = torch.zeros_like(flat[:, 0])
        for site in self.masks.sites:
            theta = self._parameters_of(torch.stack(numbers, dim=1))[:, :, site]
            numbers[site], log_derivative = self.kind.inverse(flat[:, site], theta)
            log_det_jacobian = log_det_jacobian + log_derivative
        return torch.stack(numbers, dim=1).reshape(z.shape), log_det_jacobian


class InverseAutoregressive(Transform):
    """x_i = f(z_i; θ_i(z_1, ..., z_{i−1})): `inverse` takes one pass, `forward` D. Arguments as of `MaskedAutoregressive`."""

    def __init__(
        self, kind: Elementwise, dims: int, hidden: Sequence[int], *, backwards: bool = False, residual: bool = False
    ) -> None:
        super().__init__()
        self.masked = MaskedAutoregressive(kind, dims, hidden, backwards=backwards, residual=residual)

    def forward(self, x: Tensor, **context: Any) -> tuple[Tensor, Tensor]:
        return self.masked.inverse(x)

    def inverse(self, z: Tensor, **context: Any) -> tuple[Tensor, Tensor]:
        out: tuple[Tensor, Tensor] = self.masked(z)
        return out
