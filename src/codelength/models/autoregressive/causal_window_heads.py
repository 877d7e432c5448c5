"""From the trunk's features at a site to the distributions of its channels, one after the other."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu

from codelength.functional import log_scale_floor
from codelength.models.autoregressive.causal_window_inputs import LevelUnits
from codelength.pixels import ChannelDistribution, PixelDistribution
from codelength.pixels.categorical import CategoricalChannel
from codelength.pixels.logistic_mixture import LogisticMixtureChannel


class ChannelHead(nn.Module):
    """From the trunk's features and the residuals of the channels before to the distribution of one channel.

    Args:
        width: Of the trunk.
        head_width: Of the layer that joins features and channels before, where there are such.
        channel: Which channel.
        coupled: Whether it sees the channels before.
        pixels: "logistic_mixture" (relative to the prediction), "categorical" or "bernoulli".
        components: Logistics of a mixture.
        levels: Number of levels.
    """

    def __init__(
        self, width: int, head_width: int, channel: int, coupled: bool, pixels: str, components: int, levels: int
    ) -> None:
        super().__init__()
        self.channel, self.pixels, self.components, self.levels = channel, pixels, components, levels
        self.coupled = coupled and channel > 0
        if self.coupled:
            self.features = nn.Linear(width, head_width)
            self.residuals = nn.Linear(4 * channel, head_width, bias=False)
        outputs = {"logistic_mixture": 3 * components, "categorical": levels, "bernoulli": 1}[pixels]
        self.out = nn.Linear(head_width if self.coupled else width, outputs)
        nn.init.normal_(self.out.weight, std=0.01)
        with torch.no_grad():
            self.out.bias.zero_()
            if pixels == "logistic_mixture":
                # Scales from a few units to a quarter of the range: some component is right from the start.
                self.out.bias[2 * components :] = torch.linspace(-5, -1.5, components)

    def forward(
        self, features: Tensor, prediction: Tensor, previous: Tensor, units: LevelUnits, shape: torch.Size
    ) -> ChannelDistribution:
        """The channel's distribution at M sites.

        Args:
            features: (M, width).
            prediction: In levels, (M, C).
            previous: Levels of the channels before, (M, channel) or more columns.
            units: The unit of differences.
            shape: How the M sites are laid out.
        """
        scale, zoom = 2 / (self.levels - 1), units.zoom
        center = prediction[:, self.channel] * scale - 1
        if self.coupled:
            residual = (previous[:, : self.channel] - prediction[:, : self.channel]) * scale
            features = gelu(self.features(features) + self._known(residual / zoom, features), approximate="tanh")
            center = center + 0.8 * residual[:, -1]
        out = self.out(features)
        out = out if out.dtype == torch.float64 else out.float()
        if self.pixels == "categorical":
            return CategoricalChannel(out.unflatten(0, shape))
        if self.pixels == "bernoulli":
            return CategoricalChannel(torch.cat([torch.zeros_like(out), out], dim=1).unflatten(0, shape))
        logits, mean, log_scale = out.unflatten(0, shape).split(self.components, dim=-1)
        if isinstance(zoom, Tensor):
            log_scale = log_scale + zoom.log()
        log_scale = log_scale.clamp(min=log_scale_floor(self.levels))
        mean = center.view(shape).unsqueeze(-1) + mean * (zoom / 4)
        return LogisticMixtureChannel(logits, mean, log_scale, self.levels)

    def _known(self, residual: Tensor, features: Tensor) -> Tensor:
        """The share of the channels before: residuals (M, channel) on several scales, to (M, head_width)."""
        scales = [residual * 4, torch.asinh(residual * 32) / 2, torch.tanh(residual * 32), torch.tanh(residual * 128)]
        known: Tensor = self.residuals(torch.cat(scales, dim=1).to(features.dtype))
        return known


class WindowDistribution(PixelDistribution):
    """Distribution of the channels at some sites; the channels of a site depend on each other through the heads.

    Args:
        heads: One `ChannelHead` a channel.
        units: The unit of differences.
        features: Trunk features of all sites of the batch, (B * sites, width).
        prediction: Median-edge prediction, (B * sites, C).
        shape: B, and the shape S of the sites of a datum.
        levels: Number of levels.
    """

    def __init__(
        self,
        heads: nn.ModuleList,
        units: LevelUnits,
        features: Tensor,
        prediction: Tensor,
        shape: tuple[int, tuple[int, ...]],
        levels: int,
    ) -> None:
        self.heads, self.units, self.features = heads, units, features
        # Never in half precision: a level is 2 / 255 of the range.
        self.prediction = prediction.double() if features.dtype == torch.float64 else prediction.float()
        batch, sites = shape
        super().__init__(batch, prediction.shape[1], torch.Size(sites), levels)

    def channel(self, c: int, previous: Tensor) -> ChannelDistribution:
        before = previous.movedim(1, -1).flatten(0, -2).to(self.prediction)
        shape = torch.Size((*self.batch_shape, *self.sites))
        distribution: ChannelDistribution = self.heads[c](self.features, self.prediction, before, self.units, shape)
        return distribution
