"""Contexts of context tables: from a dim's causal neighbourhood to a row of a table and a shift.

See `context_table` for the two rules.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from codelength.models.baselines.tables import TableChannel
from codelength.pixels import PixelDistribution

Rule = Literal["predictor", "neighbours"]
RULES = ("predictor", "neighbours")
WEST, NORTH, NORTHWEST, NORTHEAST = range(4)


@functools.lru_cache(maxsize=8)
def neighbour_index(height: int, width: int) -> Tensor:
    """Site of W, N, NW and NE of each site, (4, H * W); height * width stands for "outside".

    A neighbour outside the image is replaced: W by N, N by W, NW and NE by N. The first site has none at all.
    """
    row = torch.arange(height).repeat_interleave(width)
    column = torch.arange(width).repeat(height)
    site, outside = row * width + column, torch.full_like(row, height * width)
    north = torch.where(row > 0, site - width, torch.where(column > 0, site - 1, outside))
    west = torch.where(column > 0, site - 1, north)
    northwest = torch.where((row > 0) & (column > 0), site - width - 1, north)
    northeast = torch.where((row > 0) & (column < width - 1), site - width + 1, north)
    return torch.stack([west, north, northwest, northeast])


def bin_borders(levels: int) -> list[int]:
    """First levels of the bins after the first: the lowest and the highest level have bins of their own.

    >>> bin_borders(256), bin_borders(17), bin_borders(2)
    ([1, 64, 128, 192, 240, 255], [1, 4, 8, 12, 15, 16], [1])
    """
    borders = {1, levels // 4, levels // 2, 3 * levels // 4, 15 * levels // 16, levels - 1}
    return sorted(border for border in borders if 0 < border < levels)


@dataclass(frozen=True)
class ContextRule:
    """How a dim's table row and shift follow from what was seen before it.

    Args:
        rule: "predictor" or "neighbours".
        levels: Number of levels.
        borders: Of "predictor": highest activity of each class but the last, (C, classes − 1). Of "neighbours":
            first level of each bin but the first, (bins − 1,).
    """

    rule: Rule
    levels: int
    borders: Tensor

    @staticmethod
    def activity(c: int, near: Tensor) -> tuple[Tensor, Tensor]:
        """Activity and median edge prediction of channel c's difference to the channel before, each (B, *S).

        Args:
            c: Channel; the first is taken as it is.
            near: Levels of W, N, NW and NE, (4, B, C, *S).
        """
        west, north, northwest, northeast = near[:, :, c] - near[:, :, c - 1] if c else near[:, :, 0]
        activity = (west - northwest).abs() + (northwest - north).abs() + (north - northeast).abs()
        low, high = torch.minimum(west, north), torch.maximum(west, north)
        return activity, torch.minimum(torch.maximum(west + north - northwest, low), high)

    def context(self, c: int, near: Tensor, previous: Tensor) -> tuple[Tensor, Tensor | None]:
        """Row of channel c's table and shift of that row, each (B, *S), int64; no shift for "neighbours".

        Args:
            c: Channel.
            near: Levels of W, N, NW and NE, (4, B, C, *S).
            previous: Levels of the channels before at the same site, (B, c, *S) or more.
        """
        if self.rule == "neighbours":
            seen = [near[WEST, :, c], near[NORTH, :, c], near[NORTHEAST, :, c], *previous[:, :c].unbind(1)]
            row = torch.zeros_like(seen[0])
            for level in seen:
                row = row * (len(self.borders) + 1) + torch.bucketize(level.contiguous(), self.borders, right=True)
            return row, None
        activity, prediction = self.activity(c, near)
        if c:
            prediction = (prediction + previous[:, c - 1]).clamp(0, self.levels - 1)
        return torch.bucketize(activity.contiguous(), self.borders[c]), prediction


class ContextPixels(PixelDistribution):
    """Dims given their neighbours and the channels before.

    Args:
        rule: How rows and shifts follow.
        tables: Log masses of each channel, C x (rows, levels), float64.
        near: Levels of the neighbours, (4, B, C, *S), int64.
    """

    def __init__(self, rule: ContextRule, tables: tuple[Tensor, ...], near: Tensor) -> None:
        self.rule, self.tables, self.near = rule, tables, near
        super().__init__(near.shape[1], near.shape[2], near.shape[3:], rule.levels)

    def channel(self, c: int, previous: Tensor) -> TableChannel:
        return TableChannel(self.tables[c], *self.rule.context(c, self.near, previous))
