"""Causal window network: a residual MLP on each pixel's neighbourhood, relative to a local predictor.

    P(x) = Π_sites Π_c P(x_site,c | window above and to the left, x_site,<c)

The window of a site holds the `rows` rows above, `reach` sites to either side, and the `reach` sites to its left. Its
values enter as differences from the median-edge prediction of each channel (LOCO-I, Weinberger et al. 2000, eq. (1)),
so that the network sees what is left to predict, on one scale for flat and for bright regions. Its output is relative
to the prediction too: a mixture of discretized logistics a channel (arXiv:1701.05517, eq. (2)). The channels of a site come one
after the other: a small head sees the trunk's features and the residuals of the channels before.

What it is made for: training draws random sites of random images, so that a step is a handful of large matrix products
with few passes over memory and gradients of little correlation; sites that do not see each other (a wavefront: column
+ (reach + 1) * row) are scored in one step, so that a 32 x 32 image takes 218 steps with reach 5 instead of 1,024.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu

from codelength.errors import UsageError
from codelength.functional import log_scale_floor
from codelength.models.autoregressive.base import AutoregressiveModel
from codelength.models.base import Positions
from codelength.pixels import PixelDistribution
from codelength.pixels.logistic_mixture import LogisticMixtureChannel
from codelength.space import Space

SITES_PER_CHUNK = 2**15
"""Sites in one pass of the network outside training: what its activations take memory for."""


class CausalWindow(AutoregressiveModel):
    """The house model for images of any number of channels and levels.

    Args:
        space: Images (C, H, W).
        rows: Rows of the window above the site.
        reach: Sites of the window to either side.
        width: Width of the trunk.
        layers: Layers of the trunk.
        head_width: Width of the heads of the second and later channels.
        components: Logistics a channel.
        sites: Sites of each image that a training step scores, drawn at random; their mean code length times the number
            of sites is an unbiased estimate of the image's.

    Raises:
        UsageError: The space holds no images of a fixed size, or the window is empty.
    """

    def __init__(
        self,
        space: Space,
        *,
        rows: int = 5,
        reach: int = 5,
        width: int = 256,
        layers: int = 3,
        head_width: int = 128,
        components: int = 10,
        sites: int = 16,
    ) -> None:
        super().__init__(space)
        if space.kind != "image" or None in space.shape:
            raise UsageError(
                f"causal_window models images of a fixed size; got kind {space.kind!r}, shape {space.shape}"
            )
        if rows < 2 or reach < 2 or layers < 1:
            raise UsageError(f"causal_window: rows={rows}, reach={reach}, layers={layers}; wanted 2, 2 and 1 at least")
        self.window = Window(space, rows, reach)
        self.sites = sites
        self.embed = nn.Linear(self.window.num_inputs, width)
        self.hidden = nn.ModuleList(nn.Linear(width, width) for _ in range(layers - 1))
        channels = space.sizes[0]
        self.heads = nn.ModuleList(
            ChannelHead(width, head_width, channel, components, space.levels) for channel in range(channels)
        )

    def trunk(self, inputs: Tensor) -> Tensor:
        """Features of each site, (M, width), from its window, (M, num_inputs)."""
        features = gelu(self.embed(inputs), approximate="tanh")
        for layer in self.hidden:
            features = features + gelu(layer(features), approximate="tanh")
        return features

    def training_objective(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """Estimate of −log P(x) from `sites` random sites of each image, nats, (B,)."""
        levels = self.space.validate(x) - self.space.offset
        batch, _, height, width = levels.shape
        count = min(self.sites, height * width)
        site = torch.randint(height * width, (batch, count), generator=generator, device=generator.device).to(x.device)
        image = torch.arange(batch, device=x.device).repeat_interleave(count)
        nats = self._code_length(
            self.window.pad(levels), image, site.flatten() // width, site.flatten() % width, levels
        )
        return nats.view(batch, count).mean(1) * (height * width)

    def _code_length(self, padded: Tensor, image: Tensor, row: Tensor, column: Tensor, levels: Tensor) -> Tensor:
        inputs, prediction = self.window.inputs(padded, image, row, column)
        distribution = WindowDistribution(self, self.trunk(inputs.to(self.dtype)), prediction, (len(image), ()))
        return -distribution.log_prob_per_dim(levels[image, :, row, column]).sum(1)

    def log_prob(self, x: Tensor, **conditions: Tensor) -> Tensor:
        """Exact log P(x), nats, (B,); images are scored a few at a time. There are no conditions."""
        self.check_conditions(conditions, len(x))
        levels = self.space.validate(x) - self.space.offset
        _, height, width = self.space.sizes
        at_once = max(1, SITES_PER_CHUNK // (height * width))
        return torch.cat([self.conditionals(part + self.space.offset).log_prob(part) for part in levels.split(at_once)])

    def conditionals(self, x: Tensor, **conditions: Tensor) -> PixelDistribution:
        """Distribution of every dim given those before it, in one parallel pass; x is (B, C, H, W)."""
        self.check_conditions(conditions, len(x))
        levels = self.space.validate(x) - self.space.offset
        batch, _, height, width = levels.shape
        image = torch.arange(batch, device=x.device).repeat_interleave(height * width)
        site = torch.arange(height * width, device=x.device).repeat(batch)
        inputs, prediction = self.window.inputs(self.window.pad(levels), image, site // width, site % width)
        return WindowDistribution(self, self.trunk(inputs.to(self.dtype)), prediction, (batch, (height, width)))

    @property
    def schedule(self) -> list[Positions]:
        """Wavefronts: the sites with column + (reach + 1) * row = t, for t = 0, 1, ..."""
        _, height, width = self.space.sizes
        row = torch.arange(height).repeat_interleave(width)
        column = torch.arange(width).repeat(height)
        time = column + (self.window.reach + 1) * row
        return [Positions(row[time == t], column[time == t]) for t in time.unique().tolist()]

    def init_state(self, n: int, **conditions: Tensor) -> WindowState:
        """Nothing coded yet."""
        self.check_conditions(conditions, n)
        empty = torch.zeros((n, *self.space.sizes), dtype=torch.long, device=self.device)
        return WindowState(self.window.pad(empty), self.schedule)

    def step(self, state: WindowState, values: Tensor | None) -> tuple[PixelDistribution, WindowState]:
        """Distribution of the next wavefront; `values` are the levels of the one before."""
        n = len(state.padded)
        if values is not None:
            self.window.write(state.padded, state.positions[state.time - 1], values)
        positions = state.positions[state.time]
        state.time += 1
        count = len(positions.rows)
        image = torch.arange(n, device=self.device).repeat_interleave(count)
        row, column = positions.rows.to(self.device).repeat(n), positions.columns.to(self.device).repeat(n)
        inputs, prediction = self.window.inputs(state.padded, image, row, column)
        return WindowDistribution(self, self.trunk(inputs.to(self.dtype)), prediction, (n, (count,))), state


@dataclass
class WindowState:
    """What steps remember: the padded images so far, (n, sites, C + 1), and which wavefront comes next."""

    padded: Tensor
    positions: list[Positions]
    time: int = 0


class Window:
    """The causal window: where its sites lie, and what the network sees of them.

    Images are padded by `rows` rows above and `reach` columns to either side, sites laid out in a row, channels last; a
    last channel says which sites are inside. What lies outside equals the prediction, so that its difference is 0.
    """

    def __init__(self, space: Space, rows: int, reach: int) -> None:
        self.rows, self.reach = rows, reach
        self.channels, self.height, self.width = space.sizes
        self.levels = space.levels
        self.offsets = [(-r, c) for r in range(rows, 0, -1) for c in range(-reach, reach + 1)]
        self.offsets += [(0, c) for c in range(-reach, 0)]
        self.padded_width = self.width + 2 * reach
        self.shifts = torch.tensor([r * self.padded_width + c for r, c in self.offsets])
        self.num_inputs = 2 * len(self.offsets) * self.channels + self.channels + self.channels - 1 + 5

    def pad(self, levels: Tensor) -> Tensor:
        """(B, C, H, W) levels -> (B, padded sites, C + 1) float32."""
        padded = torch.zeros(
            (len(levels), self.rows + self.height, self.padded_width, self.channels + 1), device=levels.device
        )
        inside = padded[:, self.rows :, self.reach : self.reach + self.width]
        inside[..., :-1] = levels.movedim(1, -1)
        inside[..., -1] = 1
        return padded.flatten(1, 2)

    def write(self, padded: Tensor, positions: Positions, values: Tensor) -> None:
        """Put values, (n, C, S), at positions of padded images, in place."""
        site = (positions.rows + self.rows) * self.padded_width + positions.columns + self.reach
        padded[:, site.to(padded.device), : self.channels] = values.movedim(1, -1).to(padded.dtype)

    def inputs(self, padded: Tensor, image: Tensor, row: Tensor, column: Tensor) -> tuple[Tensor, Tensor]:
        """What the network sees at M sites.

        Args:
            padded: From `pad`, (B, padded sites, C + 1).
            image, row, column: Of each site, (M,).

        Returns:
            Inputs, (M, num_inputs), and the prediction of each channel in levels, (M, C).
        """
        site = image * padded.shape[1] + (row + self.rows) * self.padded_width + column + self.reach
        index = site.unsqueeze(1) + self.shifts.to(site.device)
        window = padded.flatten(0, 1).index_select(0, index.flatten()).view(len(site), len(self.offsets), -1)
        values, inside = window[..., :-1], window[..., -1:]
        prediction = self._predict(values, inside)
        unit = 256 / self.levels
        difference = (values - prediction.unsqueeze(1)) * inside * unit
        relative = prediction * (2 / (self.levels - 1)) - 1
        position = torch.stack(
            [
                row * (2 / self.height) - 1,
                column * (2 / self.width) - 1,
                (1 - row / self.rows).clamp(min=0),
                (1 - column / self.reach).clamp(min=0),
                (1 - (self.width - 1 - column) / self.reach).clamp(min=0),
            ],
            dim=1,
        )
        parts = [difference.flatten(1) / 64, torch.asinh(difference.flatten(1) / 4) / 2, relative, position]
        return torch.cat([*parts, relative.diff(dim=1) * 2], dim=1), prediction

    def _predict(self, values: Tensor, inside: Tensor) -> Tensor:
        """Median-edge prediction of each channel from the neighbours west, north and north-west, (M, C)."""
        at = self.offsets.index
        north, west, north_west = (values[:, at(o)] for o in ((-1, 0), (0, -1), (-1, -1)))
        low, high = torch.minimum(north, west), torch.maximum(north, west)
        planar = north + west - north_west
        median = torch.where(north_west >= high, low, torch.where(north_west <= low, high, planar))
        has_north, has_west = inside[:, at((-1, 0))] > 0, inside[:, at((0, -1))] > 0
        start = torch.full_like(north, self.levels // 2)
        one = torch.where(has_north, north, torch.where(has_west, west, start))
        return torch.where(has_north & has_west, median, one)


class ChannelHead(nn.Module):
    """From the trunk's features and the residuals of the channels before to a mixture of logistics for one channel."""

    def __init__(self, width: int, head_width: int, channel: int, components: int, levels: int) -> None:
        super().__init__()
        self.channel, self.components, self.levels = channel, components, levels
        if channel:
            self.features = nn.Linear(width, head_width)
            self.residuals = nn.Linear(4 * channel, head_width, bias=False)
        self.out = nn.Linear(head_width if channel else width, 3 * components)
        nn.init.normal_(self.out.weight, std=0.01)
        with torch.no_grad():
            self.out.bias[: 2 * components] = 0
            # Scales from a few levels to a quarter of the range: some component is right from the start.
            self.out.bias[2 * components :] = torch.linspace(-5, -1.5, components)

    def forward(self, features: Tensor, prediction: Tensor, previous: Tensor) -> LogisticMixtureChannel:
        """Mixture at M sites.

        Args:
            features: (M, width).
            prediction: In levels, (M, C).
            previous: Levels of the channels before, (M, channel) or more columns.
        """
        scale = 2 / (self.levels - 1)
        center = prediction[:, self.channel] * scale - 1
        if self.channel:
            residual = (previous[:, : self.channel] - prediction[:, : self.channel]) * scale
            known = [
                residual * 4,
                torch.asinh(residual * 32) / 2,
                torch.tanh(residual * 32),
                torch.tanh(residual * 128),
            ]
            known_inputs = torch.cat(known, dim=1).to(features.dtype)
            features = gelu(self.features(features) + self.residuals(known_inputs), approximate="tanh")
            center = center + 0.8 * residual[:, -1]
        out = self.out(features)
        out = out if out.dtype == torch.float64 else out.float()
        logits, mean, log_scale = out.split(self.components, dim=1)
        log_scale = log_scale.clamp(min=log_scale_floor(self.levels))
        return LogisticMixtureChannel(logits, center.unsqueeze(1) + mean / 4, log_scale, self.levels)


class WindowDistribution(PixelDistribution):
    """Distribution of the channels at some sites; the channels of a site depend on each other through the heads.

    Args:
        model: The model, for its heads.
        features: Trunk features of all sites of the batch, (B * sites, width).
        prediction: Median-edge prediction, (B * sites, C).
        shape: B, and the shape S of the sites of a datum.
    """

    def __init__(
        self, model: CausalWindow, features: Tensor, prediction: Tensor, shape: tuple[int, tuple[int, ...]]
    ) -> None:
        self.heads, self.features = model.heads, features
        # Never in half precision: a level is 2 / 255 of the range.
        self.prediction = prediction.double() if features.dtype == torch.float64 else prediction.float()
        batch, sites = shape
        super().__init__(batch, prediction.shape[1], torch.Size(sites), model.space.levels)

    def channel(self, c: int, previous: Tensor) -> LogisticMixtureChannel:
        before = previous.movedim(1, -1).flatten(0, -2).to(self.prediction)
        mixture: Any = self.heads[c](self.features, self.prediction, before)
        shape = (*self.batch_shape, *self.sites)
        logits, mean, log_scale = (
            p.unflatten(0, shape) for p in (mixture.logits, mixture.component_mean, mixture.log_scale)
        )
        return LogisticMixtureChannel(logits, mean, log_scale, self.levels)
