"""A Fréchet distance of 0 between distributions that differ: it compares two moments and nothing else."""

from __future__ import annotations

from dataclasses import dataclass

from codelength.divergences.grid import Grid
from codelength.divergences.planar import PlanarDensity


@dataclass(frozen=True)
class FrechetBlindness:
    """A density and the Gaussian of the same moments.

    Args:
        frechet_squared: Their squared Fréchet distance: 0 up to round-off.
        forward_kl: KL(p ‖ q), nats.
        mmd_squared: MMD² with a characteristic kernel.
        total_variation: ½ Σ |p − q|: the share of points that tell them apart.
    """

    frechet_squared: float
    forward_kl: float
    mmd_squared: float
    total_variation: float


def frechet_blindness(density: PlanarDensity, grid: Grid) -> FrechetBlindness:
    """Compare a planar density with the Gaussian of its moments, by quadrature."""
    p = grid.density(density.log_prob)
    twin = grid.moments(p)
    q = grid.density(twin.log_prob)
    measured = grid.divergences(p, q)
    return FrechetBlindness(
        measured["frechet_squared"],
        measured["forward_kl"],
        measured["mmd_squared"],
        float(0.5 * (p.mass - q.mass).abs().sum()),
    )
