"""Causal convolutions at some sites a step, from the features kept of the sites before.

A cache keeps the last rows of a layer's inputs in a ring, with zeros to either side, as rows of one matrix: an output
gathers its window and multiplies. Work and memory a step depend on the sites of the step, not on the image. The same cache serves
one site, a row of sites, or a wavefront; the caller sees to it that what a window reads has been put.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from codelength.nn.causal_conv import CausalConv

Offsets = tuple[tuple[int, int], ...]
OWN: Offsets = ((0, 0),)


@dataclass(frozen=True)
class Ring:
    """The shape that all caches of a pass share.

    Args:
        n: Number of images.
        width: Row length W.
        rows: Rows kept: as far up as any window reaches, and all rows that a step touches.
        margin: Zeros to either side: as far as any window reaches.
    """

    n: int
    width: int
    rows: int
    margin: int

    @staticmethod
    def of_raster(n: int, width: int, reach: int) -> Ring:
        """For one site a step, or a row of sites, and windows that reach so far up and to the sides."""
        return Ring(n, width, reach + 1, reach)

    @staticmethod
    def of_wavefront(n: int, width: int, reach: int, slope: int) -> Ring:
        """For the sites with column + slope * row = t in one step."""
        return Ring(n, width, -(-width // slope) + reach + 1, reach)

    def zeros(self, features: int, like: Tensor) -> Tensor:
        """An empty store, (n, rows * (W + 2 margin), features)."""
        return like.new_zeros(self.n, self.rows * (self.width + 2 * self.margin), features)


@dataclass(frozen=True)
class Places:
    """Sites, and where their neighbours lie in the stores of a ring.

    Args:
        ring: The ring.
        rows, columns: The sites, (S,) int64.
    """

    ring: Ring
    rows: Tensor
    columns: Tensor
    _known: dict[Offsets, Tensor] = field(default_factory=dict)

    def index(self, offsets: Offsets) -> Tensor:
        """Rows of a store that hold the neighbours at `offsets`, site by site, (S * taps,)."""
        if offsets not in self._known:
            shift = torch.tensor(offsets, device=self.rows.device)
            rows = (self.rows[:, None] + shift[:, 0]) % self.ring.rows
            columns = self.columns[:, None] + shift[:, 1] + self.ring.margin
            self._known[offsets] = (rows * (self.ring.width + 2 * self.ring.margin) + columns).flatten()
        return self._known[offsets]


class CachedSites:
    """Features of the sites so far.

    Args:
        ring: Shape of the store.
        features: Features a site.
        like: Tensor whose type and device the store takes.
    """

    def __init__(self, ring: Ring, features: int, like: Tensor) -> None:
        self.store = ring.zeros(features, like)

    def put(self, places: Places, x: Tensor, features: slice = slice(None)) -> None:
        """Keep features of sites, (n, S, F)."""
        self.store[:, :, features].index_copy_(1, places.index(OWN), x)

    def windows(self, places: Places, offsets: Offsets) -> Tensor:
        """The neighbours of each site side by side, (n * S, taps * F)."""
        found = self.store.index_select(1, places.index(offsets))
        return found.view(len(found) * len(places.rows), -1)


class CachedCausalConv:
    """A `CausalConv` at some sites: its inputs are put, group by group, and its outputs asked for.

    Args:
        conv: The layer. Later changes of its weights do not reach the cache.
        ring: Shape of the store.
        groups: Number of groups that outputs are computed in.
        extra_bias: Added to the bias of each image, (n, outputs).
    """

    def __init__(self, conv: CausalConv, ring: Ring, groups: int = 1, extra_bias: Tensor | None = None) -> None:
        matrix = conv.matrix().detach().unflatten(1, (len(conv.offsets), conv.inputs))
        read = conv.used_taps()
        self.offsets: Offsets = tuple(conv.offsets[tap] for tap in read)
        self.inputs = CachedSites(ring, conv.inputs, matrix)
        self.passing: Tensor | None = None  # what a layer without neighbours and groups was given, instead of a cache
        self.is_pointwise = self.offsets == OWN and groups == 1
        bias = conv.bias.detach() if extra_bias is None else conv.bias.detach() + extra_bias.detach()[:, None]
        members = [conv.out_groups == g for g in range(groups)] if groups > 1 else [slice(None)]
        self.weights = [matrix[member][:, read].flatten(1).t().contiguous() for member in members]
        self.biases = [bias[..., member] for member in members]

    def put(self, places: Places, x: Tensor, features: slice = slice(None)) -> None:
        """Keep inputs of sites, (n, S, F)."""
        if self.is_pointwise:
            self.passing = x
        else:
            self.inputs.put(places, x, features)

    def __call__(self, places: Places, group: int = 0) -> Tensor:
        """Outputs of a group at sites, (n, S, outputs of the group)."""
        windows = self.inputs.windows(places, self.offsets) if self.passing is None else self.passing.flatten(0, 1)
        bias, weight = self.biases[group], self.weights[group]
        if bias.ndim == 1:
            return torch.addmm(bias, windows, weight).view(self.inputs.store.shape[0], -1, weight.shape[1])
        return (windows @ weight).view(self.inputs.store.shape[0], -1, weight.shape[1]) + bias


def group_slices(members: Tensor, groups: int) -> Sequence[slice]:
    """Where the features of each group lie, for groups in ascending order.

    >>> group_slices(torch.tensor([0, 0, 1]), 2)
    [slice(0, 2, None), slice(2, 3, None)]
    """
    ends = [int((members < g).sum()) for g in range(groups + 1)]
    return [slice(a, b) for a, b in itertools.pairwise(ends)]
