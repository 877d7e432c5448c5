"""Images as sequences: the order of positions, and what a network reads at each of them.

A position is a dim (every channel of every site is one) or a site (all its channels at once). Its input is the content of
the position before it plus an encoding of its own place, so that a network that sees positions 0 .. i gives the
distribution of position i:

    h_i = content(x_{i−1}) + place(i),    content(x_{−1}) a start symbol.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from codelength.models.base import Positions
from codelength.space import Space

Unit = Literal["dims", "sites"]
Places = Literal["sum", "halves", "sine"]


class PixelOrder:
    """The sequence of an image's positions.

    Args:
        space: Images (C, H, W) of a fixed size.
        unit: "dims": every channel is a position of its own; "sites": a site with all its channels is one.
        sites: Raster index of the sites in coding order; raster order by default.
    """

    def __init__(self, space: Space, unit: Unit, sites: Sequence[int] | None = None) -> None:
        self.channels, self.height, self.width = space.sizes
        self.sites = list(range(self.height * self.width)) if sites is None else list(sites)
        self.group = self.channels if unit == "dims" else 1
        """Positions of a site."""
        self.token = 1 if unit == "dims" else self.channels
        """Values of a position."""
        self.length = len(self.sites) * self.group
        self._raster = self.sites == sorted(self.sites)

    @property
    def schedule(self) -> list[Positions]:
        """One site a step."""
        return [Positions(torch.tensor([s // self.width]), torch.tensor([s % self.width])) for s in self.sites]

    def places(self) -> tuple[list[int], list[int], list[int]]:
        """Row, column and channel of every position; the channel of a site as a position is 0."""
        rows = [s // self.width for s in self.sites for _ in range(self.group)]
        columns = [s % self.width for s in self.sites for _ in range(self.group)]
        return rows, columns, list(range(self.group)) * len(self.sites)

    def value_channels(self) -> list[list[int]]:
        """The channels of each position's values, length x token."""
        each = [[c] for c in range(self.channels)] if self.token == 1 else [list(range(self.channels))]
        return each * len(self.sites)

    def sequence(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to (B, T, token)."""
        flat = x.flatten(2)
        if not self._raster:
            flat = flat[:, :, torch.tensor(self.sites, device=x.device)]
        return flat.transpose(1, 2).reshape(len(x), self.length, self.token)

    def image(self, y: Tensor) -> Tensor:
        """Numbers of every position, (B, T, P), at the sites of an image: (B, group, P, H, W)."""
        sites = y.unflatten(1, (-1, self.group))  # (B, S, group, P)
        if not self._raster:
            sites = sites[:, torch.tensor(self.sites, device=y.device).argsort()]
        return sites.permute(0, 2, 3, 1).unflatten(3, (self.height, self.width))


class Content(nn.Module):
    """What a position holds, as a vector.

    Args:
        order: The positions.
        levels: Levels of a value.
        width: Width of the vector.
        discrete: Look each level up in a table; otherwise values are real numbers near [−1, 1], each projected by a row of
            weights, so that the number of levels costs nothing.
        shared: One table or row for all channels instead of one each.
        scale: Standard deviation of the weights at the start.
    """

    channel: Tensor

    def __init__(
        self, order: PixelOrder, levels: int, width: int, *, discrete: bool, shared: bool = False, scale: float = 1.0
    ) -> None:
        super().__init__()
        self.levels, self.discrete = levels, discrete
        channel = torch.tensor(order.value_channels())
        shared = shared and order.token == 1
        self.register_buffer("channel", channel * (0 if shared else 1), persistent=False)  # (T, token)
        rows = 1 if shared else order.channels
        self.weight = nn.Parameter(torch.randn(rows * levels if discrete else rows, width) * scale)

    def forward(self, values: Tensor, start: int = 0) -> Tensor:
        """Vectors of the positions from `start` on.

        Args:
            values: Levels, or scaled values, (B, t, token).
            start: Position of the first.

        Returns:
            (B, t, width).
        """
        channel = self.channel[start : start + values.shape[1]]
        if self.discrete:
            return nn.functional.embedding(values.long() + channel * self.levels, self.weight).sum(2)
        if values.shape[2] == 1:
            return values * self.weight[channel[:, 0]]
        return values @ self.weight


class PlaceEncoding(nn.Module):
    """Where a position lies, as a vector.

    Args:
        order: The positions.
        width: Width of the vector, d.
        kind: "sum": learned vectors of the row, of the column and of the channel, added (Sparse Transformer).
            "halves": learned vectors of the row and of the column with its channel, d/2 each (Image Transformer).
            "sine": the same from sines and cosines of geometric wavelengths, without parameters.
        scale: Standard deviation of learned vectors at the start.
    """

    index: Tensor
    sines: Tensor

    def __init__(self, order: PixelOrder, width: int, kind: Places, *, scale: float = 1.0) -> None:
        super().__init__()
        self.kind = kind
        rows, columns, channels = order.places()
        if kind == "sum":
            sizes, lists = [order.height, order.width], [rows, columns]
            if order.group > 1:
                sizes, lists = [*sizes, order.group], [*lists, channels]
            each = width
        else:
            sizes = [order.height, order.width * order.group]
            lists = [rows, [column * order.group + channel for column, channel in zip(columns, channels, strict=True)]]
            each = width // 2
        self.register_buffer("index", torch.tensor(lists), persistent=False)  # (2 or 3, T)
        if kind == "sine":
            halves = [sinusoids(size, each) for size in sizes]
            self.register_buffer(
                "sines", torch.cat([h[i] for h, i in zip(halves, self.index)], dim=1), persistent=False
            )
        else:
            self.tables = nn.ParameterList(nn.Parameter(torch.randn(size, each) * scale) for size in sizes)

    def forward(self) -> Tensor:
        """Vectors of all positions, (T, d)."""
        if self.kind == "sine":
            return self.sines
        vectors = [table[index] for table, index in zip(self.tables, self.index, strict=True)]
        return torch.cat(vectors, dim=1) if self.kind == "halves" else torch.stack(vectors).sum(0)


def sinusoids(length: int, width: int) -> Tensor:
    """sin and cos of i / 10,000^(2k / width) for places i and k < width / 2, (length, width).

    Reference: arXiv:1706.03762, section 3.5.
    """
    half = width // 2
    rates = torch.exp(torch.arange(half) * (-2 * math.log(10_000) / width))
    angles = torch.arange(length)[:, None] * rates
    return torch.cat([angles.sin(), angles.cos(), torch.zeros(length, width - 2 * half)], dim=1)
