"""Which dims a model's conditionals depend on, and the order in which it reads them."""

from __future__ import annotations

import heapq
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from codelength.audit.context import Context
from codelength.models.base import Positions
from codelength.space import Space

# Differences up to these are round-off: sums of the same numbers in another order.
ROUND_OFF = {True: 1e-11, False: 1e-6}


@dataclass
class Dependencies:
    """Largest change of the conditional of dim i when dim j alone changes.

    Args:
        change: (D, J): row i, column for each of the perturbed dims.
        columns: The J perturbed dims.
        exact: Whether all dims were perturbed.
    """

    change: np.ndarray
    columns: np.ndarray
    exact: bool

    def edges(self, threshold: float) -> np.ndarray:
        """(D, D) booleans: row i depends on column j; columns that were not perturbed are empty."""
        edges = np.zeros((len(self.change), len(self.change)), dtype=bool)
        edges[:, self.columns] = self.change > threshold
        return edges


def measure(context: Context, columns: np.ndarray, bases: Tensor) -> Dependencies:
    """Perturb each of `columns` in each of `bases`, to the far end of the range and to a random other level."""
    space, subject = context.inputs.space, context.subject
    rng = context.inputs.generator("perturb")
    change = np.zeros((space.num_dims, len(columns)))
    top = space.levels - 1
    rows = max(1, 2**20 // (space.num_dims * space.levels))
    for base in bases:
        flat = (base.reshape(-1) - space.offset).numpy()
        for start in range(0, len(columns), rows):
            part = columns[start : start + rows]
            same, here = np.repeat(flat[None], 2 * len(part), axis=0), np.arange(len(part))
            batch = same.copy()
            batch[here, part] = np.where(flat[part] > top / 2, 0, top)
            batch[len(part) + here, part] = (flat[part] + rng.integers(1, top + 1, size=len(part))) % (top + 1)
            # Row against the same row of the same batch size: matrix products may round rows differently.
            before, after = subject.table(as_data(same, space)), subject.table(as_data(batch, space))
            difference = (after - before).abs().amax(-1).numpy().reshape(2, len(part), -1).max(0)
            change[:, start : start + len(part)] = np.maximum(change[:, start : start + len(part)], difference.T)
    return Dependencies(change, columns, len(columns) == space.num_dims)


def as_data(flat: np.ndarray, space: Space) -> Tensor:
    """Flat levels from 0, (n, D), as data of the space."""
    return torch.from_numpy(np.ascontiguousarray(flat)).reshape(-1, *space.sizes) + space.offset


def topological_order(depends: np.ndarray) -> list[int] | None:
    """An order in which every dim comes after those it depends on, earliest flat index first; None if there is a cycle.

    Args:
        depends: (D, D): row i depends on column j. The diagonal is ignored.
    """
    waiting = depends.copy()
    np.fill_diagonal(waiting, False)
    missing = waiting.sum(1)
    ready = [i for i in range(len(missing)) if missing[i] == 0]
    heapq.heapify(ready)
    order: list[int] = []
    while ready:
        i = heapq.heappop(ready)
        order.append(i)
        for k in np.flatnonzero(waiting[:, i]):
            missing[k] -= 1
            if missing[k] == 0:
                heapq.heappush(ready, int(k))
    return order if len(order) == len(missing) else None


def usual_orders(space: Space) -> dict[str, list[int]]:
    """Orders that models use: site by site with the channels of a site together, and the flat order; both ways."""
    flat = list(range(space.num_dims))
    orders = {"flat": flat}
    if space.kind in ("image", "audio"):
        channels = space.sizes[0]
        sites = np.arange(space.num_dims).reshape(channels, -1)
        orders["raster, channels inside a site"] = sites.T.ravel().tolist()
        if space.kind == "image":
            columns = sites.reshape(channels, *space.sizes[1:]).transpose(2, 1, 0)
            orders["column by column, channels inside a site"] = columns.ravel().tolist()
    return orders | {f"{name}, backwards": order[::-1] for name, order in orders.items()}


def schedule_order(schedule: list[Positions], space: Space) -> list[int]:
    """The flat dims in the order of a model's own schedule, channels of a site together."""
    channels, _, width = space.sizes
    sites = [int(r) * width + int(c) for p in schedule for r, c in zip(p.rows, p.columns, strict=True)]
    return [c * (space.num_dims // channels) + site for site in sites for c in range(channels)]


def violations(edges: np.ndarray, order: list[int]) -> int:
    """How many dependencies, (D, D) with row i on column j, point forwards or to itself in an order."""
    place = np.empty(len(order), dtype=np.int64)
    place[order] = np.arange(len(order))
    return int((edges & (place[None] >= place[:, None])).sum())


def edges_between(context: Context, base: np.ndarray, other: np.ndarray, threshold: float) -> np.ndarray:
    """Dependencies, (D, D), that show while one datum (D,) is turned into another, dim by dim."""
    space = context.inputs.space
    dims = np.flatnonzero(base != other)
    edges = np.zeros((space.num_dims, space.num_dims), dtype=bool)
    steps = np.repeat(base[None], len(dims) + 1, axis=0)
    for k, dim in enumerate(dims):
        steps[k + 1 :, dim] = other[dim]
    rows = max(2, 2**20 // (space.num_dims * space.levels))
    for start in range(0, len(dims), rows - 1):
        table = context.subject.table(as_data(steps[start : start + rows], space))
        changed = ((table[1:] - table[:-1]).abs().amax(-1) > threshold).numpy()  # (k, D)
        for k, row in enumerate(changed):
            edges[row, dims[start + k]] = True
    return edges
