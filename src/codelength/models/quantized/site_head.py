"""Heads of integer networks whose outputs speak of one channel at a site, in the place of `SiteHead`.

The network's sums become parameters on grids; the channel's distribution is an `IntegerChannel`. Where the channels of a site are
positions or mask groups of their own, each is a single channel too, and `OrderedChannels` joins them.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from codelength.errors import UsageError
from codelength.integer import IntegerChannel, IntegerDistribution, LogisticTables
from codelength.integer.mixture import MEAN_UNIT
from codelength.integer.rounding import RoundedLinear
from codelength.models.autoregressive.channel_order import SiteHead
from codelength.models.quantized.parts import MixtureGrid, WeightGrid
from codelength.pixels import PixelDistribution
from codelength.pixels.likelihood import PixelLikelihood

WIDE_LEVELS = 256


class SingleChannel(IntegerDistribution):
    """A datum of one channel: event shape (1, *S)."""

    def __init__(self, only: IntegerChannel, sites: torch.Size) -> None:
        self._only = only
        super().__init__(only.total.shape[0], 1, sites, only.levels)

    def channel(self, c: int, previous: Tensor) -> IntegerChannel:
        return self._only


class SumsHead(nn.Module):
    """From sums at some sites to the distribution of one channel.

    Args:
        likelihood: The float model's, of one channel.
        levels: Number of levels, 256 at most.

    Raises:
        UsageError: The likelihood joins several channels, or there are more levels.
    """

    def __init__(self, likelihood: PixelLikelihood, levels: int) -> None:
        super().__init__()
        self.levels, self.outputs = levels, likelihood.num_parameters
        self.mixture = likelihood.name == "logistic_mixture"
        expected = {"bernoulli": 1, "categorical": levels}.get(likelihood.name, likelihood.num_parameters)
        joined = likelihood.num_parameters % 3 if self.mixture else likelihood.num_parameters - expected
        if levels > WIDE_LEVELS or joined:
            raise UsageError(
                f"an integer network with {likelihood.name!r} pixels of {likelihood.num_parameters} outputs and {levels} levels; "
                "wanted at most 256 levels and one channel at a time: grey images, or channels as positions of their own"
            )
        self.components = likelihood.num_parameters // 3
        self.grid: MixtureGrid | WeightGrid = MixtureGrid(self.components) if self.mixture else WeightGrid(self.outputs)
        self.tables = LogisticTables(levels) if self.mixture else None

    def set(self, rounded: RoundedLinear) -> None:
        """Take what the sums mean, in the order of `rows`."""
        if isinstance(self.grid, WeightGrid):
            self.grid.set(rounded.steps, rounded.offsets)
        else:
            assert self.tables is not None
            self.grid.set(rounded.steps, rounded.offsets, (self.levels - 1) / 2, -self.tables.low)

    def rows(self) -> Tensor:
        """Which output of the float network each sum is: logits, then (mean, log scale) component by component there."""
        if not self.mixture:
            return torch.arange(self.outputs)
        k = self.components
        pairs = torch.arange(k, 3 * k).view(k, 2)
        return torch.cat([torch.arange(k), pairs[:, 0], pairs[:, 1]])

    def forward(self, sums: Tensor, shape: torch.Size) -> IntegerChannel:
        """The channel's distribution from sums, (M, outputs), laid out as `shape`."""
        if isinstance(self.grid, WeightGrid):
            return self.grid(sums, shape)
        middle = torch.full((1, 1), MEAN_UNIT // 2 * (self.levels - 1), device=sums.device)
        return self.grid(sums, middle, self.tables, shape)


class IntegerSiteHead(SiteHead):
    """A `SiteHead` whose parameters are sums of integers.

    Args:
        head: The float model's.
        single: The module that interprets the sums of one channel.
    """

    def __init__(self, head: SiteHead, single: SumsHead) -> None:
        self.channels, self.levels, self.groups = head.channels, head.levels, head.groups
        self.num_parameters, self.parameter_groups = head.num_parameters, head.parameter_groups
        if head.groups == 1 and head.channels > 1:
            raise UsageError(
                f"an integer network of {head.channels} channels that one likelihood joins; wanted channel_positions or "
                "channel_masks, or grey images"
            )

        def distribution(parameters: Tensor, span: Tensor | None = None) -> PixelDistribution:
            sites = parameters.shape[2:]
            shape = torch.Size((len(parameters), *sites))
            return SingleChannel(single(parameters.movedim(1, -1).flatten(0, -2), shape), sites)

        self._distribution = distribution

    def likelihood(self, parameters: Tensor, span: Tensor | None = None) -> PixelDistribution:  # type: ignore[override]
        """Distribution of one channel given sums, (B, outputs, *S)."""
        return self._distribution(parameters, span)
