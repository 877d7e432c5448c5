"""Bits of each bit plane: a value of 8 bits told from its highest bit down, each plane given those above it.

With S_j the levels that share the first j bits of x, plane j costs −log2 P(S_j) / P(S_{j−1}). The planes sum to −log2 P(x):
nothing is lost, and one sees whether a model spends its bits on structure or on the noise of the lowest plane.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from codelength.models.base import LikelihoodModel, can
from codelength.pixels import PixelDistribution
from codelength.report.collect import Group, Measured
from codelength.report.page import Cell, Column, Table
from codelength.report.pictures import choose_items
from codelength.units import bits_per_dim

ITEMS = 32
CHUNK = 8  # items at a time: the tables of masses are wide
TINY = 2.0**-1022


def plane_count(levels: int) -> int:
    """Number of bit planes of 4 to 65,536 levels; 0 where levels are no power of two, or are two."""
    planes = levels.bit_length() - 1
    return planes if levels == 2**planes and 2 <= planes <= 16 else 0


def plane_bits(distribution: PixelDistribution, value: Tensor) -> np.ndarray:
    """Mean bits/dim of each plane, highest first, (planes,): they sum to the data's bits/dim.

    Args:
        distribution: Of B data.
        value: Integers 0 .. levels − 1, (B, C, *S).
    """
    planes = plane_count(distribution.levels)
    costs = np.zeros(planes)
    for c in range(distribution.channels):
        channel, x = distribution.channel(c, value[:, :c]), value[:, c]
        below: Tensor = torch.zeros(x.shape, dtype=torch.float64)
        for j in range(1, planes + 1):
            width = distribution.levels >> j
            low = torch.div(x, width, rounding_mode="floor") * width
            mass = channel.cdf(low + width - 1) - channel.cdf(low - 1)
            # The last plane is the value itself: its log mass does not cancel as differences of a CDF do.
            log_mass = mass.clamp(min=TINY).log() if j < planes else channel.log_prob(x).double()
            costs[j - 1] += float(bits_per_dim((below - log_mass).sum(), value.numel()))
            below = log_mass
    return costs


def _measure(model: LikelihoodModel, x: Tensor, conditions: dict[str, Tensor]) -> np.ndarray | None:
    if not can(model, "conditionals") or model.measure != "mass":
        return None
    parts = []
    for start in range(0, len(x), CHUNK):
        taken = {name: conditions[name][start : start + CHUNK] for name in model.conditioning}
        part = x[start : start + CHUNK]
        with torch.no_grad():
            distribution = model.conditionals(part, **taken)  # type: ignore[operator]
            if not isinstance(distribution, PixelDistribution):
                return None
            parts.append(len(part) * plane_bits(distribution, part - model.space.offset))
    return np.asarray(sum(parts) / len(x))


def bit_planes(group: Group, n: int = ITEMS) -> Table | None:
    """Bits/dim of each bit plane over n random items, for runs with conditionals; None where there are no planes."""
    if group.dataset is None or not plane_count(group.dataset.space.levels):
        return None
    split, planes = group.dataset.split(group.split), plane_count(group.dataset.space.levels)
    chosen = choose_items(len(split), n, "planes", group.data, group.split)
    x, conditions = split.batch(chosen), split.condition_batch(chosen)
    found: list[tuple[Measured, np.ndarray]] = []
    for m in group.measured:
        costs = _measure(group.model(m.subject), x, conditions)
        if costs is not None:
            found.append((m, costs))
    if not found:
        return None
    places = [2 ** (planes - 1 - j) for j in range(planes)]
    columns = [Column("model"), *(Column(f"bit of {place:,}", "bits/dim", True) for place in places)]
    columns.append(Column("all", "bits/dim of these items", True))
    rows = [
        [
            Cell(m.subject.name, link=m.anchor),
            *(Cell(f"{cost:.3f}", float(cost)) for cost in costs),
            Cell(f"{costs.sum():.3f}", float(costs.sum())),
        ]
        for m, costs in found
    ]
    note = f"Each plane given the planes above it, the highest first; they sum to the code length. {len(chosen)} random items."
    return Table(f"{group.data}, {group.split}: bits/dim of each bit plane", columns, rows, note)
