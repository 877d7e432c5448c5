"""Which dims a model's conditionals depend on, and the order in which it reads them."""

from __future__ import annotations

import heapq
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from codelength.audit.context import Context
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

    def depends(self, threshold: float) -> np.ndarray:
        """(D, J) booleans."""
        return self.change > threshold


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


def violations(dependencies: Dependencies, order: list[int], threshold: float) -> int:
    """How many measured dependencies point forwards in an order."""
    place = np.empty(len(order), dtype=np.int64)
    place[order] = np.arange(len(order))
    later = place[dependencies.columns][None] >= place[:, None]
    return int((dependencies.depends(threshold) & later).sum())
