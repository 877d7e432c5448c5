"""Histograms: how often each level occurs, at each position or anywhere. Neighbours tell nothing.

P(x) = Π_i (n_i(x_i) + α) / (n_i + α · levels), with i the position, the channel or nothing at all. A model that comes
out at a histogram's value has learnt the marginals only: 7.9 bits/dim on CIFAR-10, 1.7 to 2.0 on MNIST.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from codelength.errors import unknown_name
from codelength.models.autoregressive.base import AutoregressiveModel, all_sites
from codelength.models.base import Positions
from codelength.models.baselines.tables import (
    TableChannel,
    count_rows,
    log_masses,
    want_data,
    want_fitted,
    want_images,
)
from codelength.pixels import PixelDistribution
from codelength.space import Space

SMOOTHING = {"kt": 0.5, "add_one": 1.0}
SCOPES = ("position", "channel", "global")
CHUNK = 4096


class HistogramPixels(PixelDistribution):
    """Independent dims, each with the histogram of its row.

    Args:
        table: Log masses, (rows, levels), float64.
        rows: Row of each dim, (C, *S), int64.
        batch: Number of data.
    """

    def __init__(self, table: Tensor, rows: Tensor, batch: int) -> None:
        self.table, self.rows = table, rows
        super().__init__(batch, rows.shape[0], rows.shape[1:], table.shape[1])

    def channel(self, c: int, previous: Tensor) -> TableChannel:
        rows = self.rows[c]
        return TableChannel(self.table, rows.expand(self.batch_shape[0], *rows.shape))


class Histogram(AutoregressiveModel):
    """Smoothed frequencies of the levels, in closed form.

    Args:
        space: Images.
        scope: "position": a histogram a dim; "channel": one a channel; "global": one for all.
        smoothing: "kt" adds 1/2 to every count, "add_one" adds 1.

    Raises:
        UsageError: The space holds no images, or an option is unknown.
    """

    counts: Tensor
    num_data: Tensor

    def __init__(
        self,
        space: Space,
        *,
        scope: Literal["position", "channel", "global"] = "position",
        smoothing: Literal["kt", "add_one"] = "kt",
    ) -> None:
        super().__init__(space)
        want_images(space, "histogram")
        if scope not in SCOPES:
            raise unknown_name("scope of histogram", scope, SCOPES)
        if smoothing not in SMOOTHING:
            raise unknown_name("smoothing of histogram", smoothing, SMOOTHING)
        self.scope, self.pseudo_count = scope, SMOOTHING[smoothing]
        rows = {"position": space.num_dims, "channel": space.sizes[0], "global": 1}[scope]
        self.register_buffer("counts", torch.zeros(rows, space.levels, dtype=torch.long))
        self.register_buffer("num_data", torch.zeros((), dtype=torch.long))

    @property
    def _rows(self) -> Tensor:
        """Row of each dim, (C, H, W)."""
        channels, height, width = self.space.sizes
        if self.scope == "position":
            return torch.arange(self.space.num_dims, device=self.counts.device).view(channels, height, width)
        index = torch.arange(channels, device=self.counts.device) * (self.scope == "channel")
        return index.view(-1, 1, 1).expand(channels, height, width)

    @torch.no_grad()
    def fit(self, x: Tensor, **conditions: Tensor) -> None:
        """Count the levels of the training data, in place of what was counted before.

        Args:
            x: Integers of the space, (N, C, H, W).

        Raises:
            SpaceMismatchError: x is not of the model's space.
        """
        self.check_conditions(conditions, len(x))
        want_data(x)
        counts = torch.zeros_like(self.counts)
        for chunk in x.split(CHUNK):
            levels = self.space.validate(chunk).to(counts.device) - self.space.offset
            counts += count_rows(self._rows.expand(levels.shape), levels, *counts.shape)
        self.counts.copy_(counts)
        self.num_data.fill_(len(x))

    def _pixels(self, rows: Tensor, batch: int) -> HistogramPixels:
        want_fitted(self, self.num_data)
        return HistogramPixels(log_masses(self.counts, self.pseudo_count), rows, batch)

    def conditionals(self, x: Tensor, **conditions: Tensor) -> HistogramPixels:
        """The histogram of every dim; x gives only the batch size."""
        self.check_conditions(conditions, len(x))
        return self._pixels(self._rows, len(x))

    @property
    def schedule(self) -> list[Positions]:
        """The whole image in one step."""
        _, height, width = self.space.sizes
        return all_sites(height, width)

    def init_state(self, n: int, **conditions: Tensor) -> int:
        """The number of data."""
        self.check_conditions(conditions, n)
        return n

    def step(self, state: int, values: Tensor | None) -> tuple[HistogramPixels, int]:
        return self._pixels(self._rows.flatten(1), state), state
