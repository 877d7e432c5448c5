"""Causal window network: a residual MLP on each pixel's neighbourhood, relative to a local predictor.

    P(x) = Π_sites Π_c P(x_site,c | window above and to the left, x_site,<c)

The window of a site holds the `rows` rows above, `reach` sites to either side, and the `reach` sites to its left. Its
values enter as differences from the median-edge prediction of each channel (LOCO-I, Weinberger et al. 2000, eq. (1)),
so that the network sees what is left to predict, on one scale for flat and for bright regions. Its output is relative
to the prediction too: a mixture of discretized logistics a channel (arXiv:1701.05517, eq. (2)). The channels of a site come one
after the other: a small head sees the trunk's features and the residuals of the channels before. Above 256 levels the unit
of differences is set from the first training batch (`causal_window_inputs.py`).

What it is made for: training draws random sites of random images, so that a step is a handful of large matrix products
with few passes over memory and gradients of little correlation; sites that do not see each other (a wavefront: column
+ (reach + 1) * row) are scored in one step, so that a 32 x 32 image takes 218 steps with reach 5 instead of 1,024.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu

from codelength.errors import UsageError
from codelength.models.autoregressive.base import AutoregressiveModel
from codelength.models.autoregressive.causal_window_heads import ChannelHead, WindowDistribution
from codelength.models.autoregressive.causal_window_inputs import LevelUnits, Window
from codelength.models.base import Positions
from codelength.nn.conditions import LABEL, LabelBias, conditioning_of, label_classes
from codelength.pixels import PixelDistribution, pixel_likelihood
from codelength.randomness import SharedNoise, integers
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
        components: Logistics a channel (10); only for "logistic_mixture".
        sites: Sites of each image that a training step scores, drawn at random; their mean code length times the number
            of sites is an unbiased estimate of the image's.
        pixels: "bernoulli", "categorical" or "logistic_mixture"; by default the first for two levels, else the last.
        coupling: Whether the head of a channel sees the channels before it at its site; on for colour.
        class_conditional: Condition on the class, passed as `label=`: every layer of the trunk gains a bias of the class.

    Raises:
        UsageError: The space holds no images of a fixed size, the window is empty, or options do not fit the space.
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
        components: int | None = None,
        sites: int = 16,
        pixels: str | None = None,
        coupling: bool | None = None,
        class_conditional: bool = False,
    ) -> None:
        classes = label_classes(space, class_conditional)
        super().__init__(space, conditioning=conditioning_of(classes))
        if space.kind != "image" or None in space.shape:
            raise UsageError(
                f"causal_window models images of a fixed size; got kind {space.kind!r}, shape {space.shape}"
            )
        if rows < 2 or reach < 2 or layers < 1:
            raise UsageError(f"causal_window: rows={rows}, reach={reach}, layers={layers}; wanted 2, 2 and 1 at least")
        name = pixel_likelihood(space, pixels, components).name
        self.window = Window(space, rows, reach)
        self.units = LevelUnits(space.levels)
        self.sites = sites
        self.embed = nn.Linear(self.window.num_inputs, width)
        self.hidden = nn.ModuleList(nn.Linear(width, width) for _ in range(layers - 1))
        self.class_biases = nn.ModuleList(LabelBias(classes, width) for _ in range(layers) if classes)
        coupled = coupling is not False
        self.heads = nn.ModuleList(
            ChannelHead(width, head_width, channel, coupled, name, components or 10, space.levels)
            for channel in range(space.sizes[0])
        )

    def trunk(self, inputs: Tensor, label: Tensor | None = None) -> Tensor:
        """Features of each site, (M, width), from its window, (M, num_inputs), and its class, (M,)."""
        features = gelu(self._with_class(0, self.embed(inputs), label), approximate="tanh")
        for index, layer in enumerate(self.hidden, start=1):
            features = features + gelu(self._with_class(index, layer(features), label), approximate="tanh")
        return features

    def _with_class(self, index: int, values: Tensor, label: Tensor | None) -> Tensor:
        return values if label is None else values + self.class_biases[index](label)

    @torch.no_grad()
    def initialize(self, x: Tensor, generator: torch.Generator, **conditions: Tensor) -> None:
        """Set the unit of differences from a batch, where there are more than 256 levels. A second call changes nothing."""
        if not self.units.adapts:
            return
        levels = self.space.validate(x) - self.space.offset
        image, row, column = every_site(levels)
        chosen = torch.randperm(len(image), generator=generator, device=generator.device)[:SITES_PER_CHUNK].to(x.device)
        image, row, column = image[chosen], row[chosen], column[chosen]
        padded = self.window.pad(levels)
        self.units.fit(
            levels[image, :, row, column],
            lambda: self.window.neighbours(padded, image, row, column, self.units.start)[2],
        )

    def training_objective(self, x: Tensor, generator: torch.Generator | SharedNoise, **conditions: Tensor) -> Tensor:
        """Estimate of −log P(x) from `sites` random sites of each image, nats, (B,)."""
        levels = self.space.validate(x) - self.space.offset
        label = self.check_conditions(conditions, len(x)).get(LABEL)
        batch, _, height, width = levels.shape
        count = min(self.sites, height * width)
        site = integers(height * width, (batch, count), generator).to(x.device)
        image = torch.arange(batch, device=x.device).repeat_interleave(count)
        places = image, site.flatten() // width, site.flatten() % width
        nats = self._code_length(self.window.pad(levels), places, levels, label)
        return nats.view(batch, count).mean(1) * (height * width)

    def log_prob(self, x: Tensor, **conditions: Tensor) -> Tensor:
        """Exact log P(x), nats, (B,), float64; sites are scored a few at a time."""
        levels = self.space.validate(x) - self.space.offset
        label = self.check_conditions(conditions, len(x)).get(LABEL)
        padded, sites = self.window.pad(levels), every_site(levels)
        chunks = zip(*(index.split(SITES_PER_CHUNK) for index in sites), strict=True)
        nats = [self._code_length(padded, chunk, levels, label) for chunk in chunks]
        return -torch.cat(nats).view(len(levels), -1).sum(1, dtype=torch.float64)

    def _code_length(
        self, padded: Tensor, places: tuple[Tensor, Tensor, Tensor], levels: Tensor, label: Tensor | None
    ) -> Tensor:
        """−log P of the channels of some sites, nats, (M,); places: image, row and column of each."""
        image, row, column = places
        distribution = self._at(padded, places, (len(image), ()), None if label is None else label[image])
        return -distribution.log_prob_per_dim(levels[image, :, row, column]).sum(1)

    def _at(
        self,
        padded: Tensor,
        places: tuple[Tensor, Tensor, Tensor],
        shape: tuple[int, tuple[int, ...]],
        label: Tensor | None,
    ) -> WindowDistribution:
        """The distribution at some sites, laid out as `shape`, with the class of each."""
        inputs, prediction = self.window.inputs(padded, *places, self.units)
        features = self.trunk(inputs.to(self.dtype), label)
        return WindowDistribution(self.heads, self.units, features, prediction, shape, self.space.levels)

    def conditionals(self, x: Tensor, **conditions: Tensor) -> PixelDistribution:
        """Distribution of every dim given those before it, in one parallel pass; x is (B, C, H, W)."""
        levels = self.space.validate(x) - self.space.offset
        label = self.check_conditions(conditions, len(x)).get(LABEL)
        places, shape = every_site(levels), (len(levels), tuple(levels.shape[2:]))
        return self._at(self.window.pad(levels), places, shape, None if label is None else label[places[0]])

    @property
    def schedule(self) -> list[Positions]:
        """Wavefronts: the sites with column + (reach + 1) * row = t, for t = 0, 1, ..."""
        return self.window.wavefronts()

    @property
    def raster_causal(self) -> bool:
        """A window holds rows above and sites to the left; wavefronts only visit sites in another order."""
        return True

    def init_state(self, n: int, **conditions: Tensor) -> WindowState:
        """Nothing coded yet."""
        label = self.check_conditions(conditions, n).get(LABEL)
        empty = torch.zeros((n, *self.space.sizes), dtype=torch.long, device=self.device)
        return WindowState(self.window.pad(empty), self.schedule, label)

    def step(self, state: WindowState, values: Tensor | None) -> tuple[PixelDistribution, WindowState]:
        """Distribution of the next wavefront; `values` are the levels of the one before."""
        n = len(state.padded)
        if values is not None:
            self.window.write(state.padded, state.positions[state.time - 1], values)
        positions = state.positions[state.time]
        state.time += 1
        count = len(positions.rows)
        image = torch.arange(n, device=self.device).repeat_interleave(count)
        places = image, positions.rows.to(self.device).repeat(n), positions.columns.to(self.device).repeat(n)
        label = None if state.label is None else state.label[image]
        return self._at(state.padded, places, (n, (count,)), label), state


@dataclass
class WindowState:
    """What steps remember: the padded images so far, (n, sites, C + 1), the wavefronts, the classes, and which comes next."""

    padded: Tensor
    positions: list[Positions]
    label: Tensor | None = None
    time: int = 0


def every_site(levels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Image, row and column of every site of (B, C, H, W), image by image, (B * H * W,) each."""
    batch, _, height, width = levels.shape
    place = torch.arange(batch * height * width, device=levels.device)
    site = place % (height * width)
    return place // (height * width), site // width, site % width
