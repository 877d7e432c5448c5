"""Exact divergences of two probability tables.

p and q are (K,) probabilities of the same K outcomes; results are nats, or the divergence's own unit, 0-dim tensors.
Where p puts mass on an outcome that q calls impossible, what divides by q is infinite: that is the right answer.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

from codelength.errors import UsageError, unknown_name

Generator = Callable[[Tensor], Tensor]
GeneratorName = Literal["squared", "negative_entropy", "itakura_saito"]


def check_tables(p: Tensor, q: Tensor) -> tuple[Tensor, Tensor]:
    """p and q as float64.

    Raises:
        UsageError: They are no probability tables of one length.
    """
    p, q = p.double(), q.double()
    for name, table in (("p", p), ("q", q)):
        if table.ndim != 1 or table.shape != p.shape or not bool((table >= 0).all()):
            raise UsageError(f"{name} of shape {tuple(table.shape)}; wanted two tables (K,) of numbers of 0 or more")
        if not math.isclose(float(table.sum()), 1.0, abs_tol=1e-6):
            raise UsageError(f"{name} sums to {float(table.sum()):.6g}; wanted probabilities that sum to 1")
    return p, q


def entropy(p: Tensor) -> Tensor:
    """−Σ p log p."""
    p, _ = check_tables(p, p)
    return torch.special.entr(p).sum()


def cross_entropy(p: Tensor, q: Tensor) -> Tensor:
    """−Σ p log q: what data of p cost under the code of q."""
    p, q = check_tables(p, q)
    return -torch.special.xlogy(p, q).sum()


def kl(p: Tensor, q: Tensor) -> Tensor:
    """KL(p ‖ q) = Σ p log(p / q), nats."""
    p, q = check_tables(p, q)
    return torch.where(p > 0, torch.special.xlogy(p, p) - torch.special.xlogy(p, q), 0.0).sum()


def jensen_shannon(p: Tensor, q: Tensor) -> Tensor:
    """½ KL(p ‖ m) + ½ KL(q ‖ m), m = (p + q) / 2, nats: at most ln 2."""
    p, q = check_tables(p, q)
    m = (p + q) / 2
    return (kl(p, m) + kl(q, m)) / 2


def chi_squared(p: Tensor, q: Tensor) -> Tensor:
    """χ²(p ‖ q) = Σ (p − q)² / q."""
    p, q = check_tables(p, q)
    return torch.where(p == q, 0.0, (p - q) ** 2 / q).sum()


def renyi(p: Tensor, q: Tensor, alpha: float) -> Tensor:
    """Rényi's D_α(p ‖ q) = log(Σ p^α q^(1−α)) / (α − 1), nats; KL at α = 1.

    Raises:
        UsageError: alpha is not positive.

    Reference: van Erven and Harremoës, arXiv:1206.2459, definition 2.
    """
    check_order(alpha)
    p, q = check_tables(p, q)
    return kl(p, q) if alpha == 1 else _power_sum(p, q, alpha).log() / (alpha - 1)


def amari(p: Tensor, q: Tensor, alpha: float) -> Tensor:
    """Amari's (Σ p^α q^(1−α) − 1) / (α (α − 1)); KL(p ‖ q) at α = 1, KL(q ‖ p) at α = 0, χ²(p ‖ q) / 2 at α = 2.

    Reference: Minka, Divergence measures and message passing, 2005, eq. (8).
    """
    p, q = check_tables(p, q)
    if alpha in (0, 1):
        return kl(p, q) if alpha == 1 else kl(q, p)
    return (_power_sum(p, q, alpha) - 1) / (alpha * (alpha - 1))


def check_order(alpha: float) -> None:
    """Refuse an order of Rényi's divergence that is not positive."""
    if not alpha > 0:
        raise UsageError(f"alpha={alpha}; wanted a positive order of Rényi's divergence")


def _power_sum(p: Tensor, q: Tensor, alpha: float) -> Tensor:
    """Σ p^α q^(1−α), with 0 where both are 0."""
    return torch.where((p == 0) & (q == 0), 0.0, p**alpha * q ** (1 - alpha)).sum()


def _negative_entropy(t: Tensor) -> Tensor:
    return torch.special.xlogy(t, t)


GENERATORS: dict[str, Generator] = {
    "squared": torch.square,
    "negative_entropy": _negative_entropy,
    "itakura_saito": lambda t: -torch.log(t),
}


def bregman_terms(p: Tensor, q: Tensor, generator: GeneratorName | Generator) -> Tensor:
    """F(p) − F(q) − F'(q) (p − q) of each entry, for a convex F of one number.

    Args:
        p, q: Any equal shapes.
        generator: "squared" (Brier's), "negative_entropy" (KL), "itakura_saito" (ratios), or a convex function of one number
            that acts entry by entry and can be differentiated.

    Raises:
        UsageError: The generator is not known.

    Reference: Bregman 1967; Banerjee et al., Clustering with Bregman divergences, JMLR 6, 2005, definition 1.
    """
    if isinstance(generator, str):
        if generator not in GENERATORS:
            raise unknown_name("generator", generator, GENERATORS)
        generator = GENERATORS[generator]
    with torch.enable_grad():
        point = q if q.requires_grad else q.detach().requires_grad_()
        (slope,) = torch.autograd.grad(generator(point).sum(), point, create_graph=q.requires_grad)
    return generator(p) - generator(q) - slope * (p - q)


def bregman(p: Tensor, q: Tensor, generator: GeneratorName | Generator = "squared") -> Tensor:
    """Bregman's divergence of two tables, Σ_k F(p_k) − F(q_k) − F'(q_k) (p_k − q_k); see `bregman_terms`."""
    return bregman_terms(*check_tables(p, q), generator).sum()


def mmd_squared(p: Tensor, q: Tensor, gram: Tensor) -> Tensor:
    """MMD² = (p − q)ᵀ K (p − q), with the kernel of every pair of outcomes, K of shape (K, K)."""
    p, q = check_tables(p, q)
    return (p - q) @ gram.double() @ (p - q)
