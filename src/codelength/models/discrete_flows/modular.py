"""Modulo location-scale maps of K residues: x = (μ + σ z) mod K, a permutation where σ and K have no common factor.

On one-hot vectors the map is a product of permutation matrices, linear in each of z, μ and σ, so that gradients flow through all three when each is a
straight-through one-hot vector.

Reference: discrete flows, arXiv:1905.10347, section 3.2.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor


def invertible_residues(modulus: int) -> Tensor:
    """The residues 1 .. K − 1 that have an inverse modulo K, (φ(K),) int64; 0 where K = 1 is refused.

    >>> invertible_residues(10).tolist()
    [1, 3, 7, 9]
    """
    if modulus < 2:
        raise ValueError(f"invertible_residues: modulus {modulus}; wanted 2 or more")
    return torch.tensor([s for s in range(1, modulus) if math.gcd(s, modulus) == 1])


def inverse_residue(scale: Tensor, modulus: int) -> Tensor:
    """σ^−1 modulo K, elementwise; scales must be invertible.

    >>> inverse_residue(torch.tensor([3]), 10).tolist()
    [7]
    """
    table = torch.zeros(modulus, dtype=torch.long)
    for s in invertible_residues(modulus).tolist():
        table[s] = pow(s, -1, modulus)
    return table.to(scale.device)[scale]


def to_data(z: Tensor, location: Tensor, scale: Tensor, modulus: int) -> Tensor:
    """x = (μ + σ z) mod K on integers."""
    return (location + scale * z).remainder(modulus)


def to_latent(x: Tensor, location: Tensor, scale: Tensor, modulus: int) -> Tensor:
    """z = σ^−1 (x − μ) mod K on integers."""
    return (inverse_residue(scale, modulus) * (x - location)).remainder(modulus)


def one_hot_to_latent(x: Tensor, location: Tensor, scale: Tensor | None, modulus: int) -> Tensor:
    """`to_latent` on one-hot vectors, linear in each: z_k = Σ_σ σ_s Σ_m μ_m x[(m + s k) mod K].

    Args:
        x: (..., K) one-hot.
        location: μ, (..., K) one-hot.
        scale: σ over `invertible_residues`, (..., φ(K)) one-hot; None for σ = 1.
        modulus: K.
    """
    residues = torch.arange(modulus, device=x.device)
    shifted = (residues[:, None] + residues[None, :]).remainder(modulus)  # [m, j] -> m + j
    moved = torch.einsum("...m,...mj->...j", location, x[..., shifted])  # x − μ
    if scale is None:
        return moved
    products = (invertible_residues(modulus).to(x.device)[:, None] * residues).remainder(modulus)  # [s, k] -> s k
    return torch.einsum("...s,...sk->...k", scale, moved[..., products])
