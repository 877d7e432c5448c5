"""Integer discrete flow whose networks are integers too: the same translations and the same priors on every machine.

A 3x3 convolution is a product over gathered windows, exact like any other; the requantization that follows is the rectifier: features are
integers 0 .. 2^(b−1) − 1 with zero point 0, as are the zeros around an image, and levels enter as (z − origin) times a power of two. The requantization after the last layer of a coupling is the rounding
of its translation.
"""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from codelength.errors import UsageError
from codelength.integer import IntegerLinear, LogisticTables, Lookup, Requantize
from codelength.integer.mixture import MEAN_UNIT
from codelength.models.discrete_flows.dense import DenseTrunk, Translation
from codelength.models.discrete_flows.idf import IDF
from codelength.models.discrete_flows.integer_flow import IntegerFlow
from codelength.models.discrete_flows.priors import Grid, Head, Prior
from codelength.models.quantized.parts import MixtureGrid, bounds, table_bits
from codelength.pixels.distribution import ChannelDistribution
from codelength.space import Space


class LevelInputs:
    """How levels enter an integer network: (z − origin) · unit.

    Args:
        grid: The integers of the latents.
        bits: Bits of activations; levels get more where a unit of 1 needs them.
    """

    def __init__(self, grid: Grid, bits: int) -> None:
        self.origin = grid.origin
        furthest = max(grid.origin, grid.size - 1 - grid.origin)
        self.unit = 2 ** max(0, bounds(table_bits(bits))[1].bit_length() - furthest.bit_length())
        self.limit = max(furthest * self.unit, bounds(bits)[1])
        self.feature_limit = bounds(bits)[1]
        self.scale = grid.unit / self.unit

    def __call__(self, z: Tensor) -> Tensor:
        """(B, C, H, W) integers to (B, H, W, C) float32 integers."""
        return ((z - self.origin) * self.unit).movedim(1, -1).float()


def windows(x: Tensor) -> Tensor:
    """The 3x3 neighbours of every site, zeros outside: (B, H, W, C) to (B·H·W, 9 C), tap by tap."""
    _, height, width, _ = x.shape
    padded = F.pad(x, (0, 0, 1, 1, 1, 1))
    taps = [padded[:, row : row + height, column : column + width] for row in range(3) for column in range(3)]
    return torch.cat(taps, dim=-1).flatten(0, 2)


class IntegerTrunk(nn.Module):
    """A `DenseTrunk`: inputs and rectified features of all layers, (B, H, W, C)."""

    def __init__(self, trunk: DenseTrunk, inputs: LevelInputs) -> None:
        super().__init__()
        if trunk.activation != "relu" or len(trunk.norms):
            raise UsageError(
                "the integer form of idf has rectified features; train with activation=relu and group_norm=false"
            )
        ends = -inputs.limit, inputs.limit
        convs = [conv for conv in trunk.convs if isinstance(conv, nn.Conv2d)]
        self.layers = nn.ModuleList(IntegerLinear(9 * c.in_channels, c.out_channels, *ends) for c in convs)
        self.grids = nn.ModuleList(Requantize(c.out_channels, 0, inputs.feature_limit) for c in convs)

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, inputs) to (B, H, W, outputs)."""
        for layer, grid in zip(self.layers, self.grids, strict=True):
            new = grid(layer(windows(x))).view(*x.shape[:3], -1)
            x = torch.cat([x, new], dim=-1)
        return x


class IntegerTranslation(nn.Module):
    """A `Translation`, rounded."""

    def __init__(self, translation: Translation, inputs: LevelInputs, levels: int) -> None:
        super().__init__()
        self.trunk = IntegerTrunk(translation.trunk, inputs)
        out = translation.out
        self.out = IntegerLinear(out.in_channels, out.out_channels, -inputs.limit, inputs.limit)
        self.grid = Requantize(out.out_channels, 1 - levels, levels - 1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, inputs) to int64 (B, moved, H, W)."""
        features = self.trunk(x)
        rounded: Tensor = self.grid(self.out(features.flatten(0, 2)))
        return rounded.view(*x.shape[:3], -1).movedim(-1, 1).long()


class IntegerHead(nn.Module):
    """A `Head`: features of a site to the distribution of one channel."""

    def __init__(self, head: Head, inputs: LevelInputs, components: int) -> None:
        super().__init__()
        width = head.hidden.out_channels
        self.hidden = IntegerLinear(head.hidden.in_channels, width, -inputs.limit, inputs.limit)
        self.hidden_grid = Requantize(width, 0, inputs.feature_limit)
        self.out = IntegerLinear(width, 3 * components, -inputs.feature_limit, inputs.feature_limit)
        self.mixture = MixtureGrid(components)

    def forward(self, features: Tensor, centre: Tensor, tables: LogisticTables) -> ChannelDistribution:
        """Features (B, H, W, F) and centres (B, H, W), in 64ths of a level."""
        hidden = self.hidden_grid(self.hidden(features.flatten(0, 2)))
        return self.mixture(self.out(hidden), centre.reshape(-1, 1), tables, centre.shape)


class IntegerPrior(nn.Module):
    """A `Prior`."""

    def __init__(self, prior: Prior, inputs: LevelInputs) -> None:
        super().__init__()
        self.trunk = None if prior.trunk is None else IntegerTrunk(prior.trunk, inputs)
        self.size = () if prior.table is None else tuple(prior.table.shape[1:])
        self.table = None if prior.table is None else Lookup(0, prior.table[0].numel(), len(prior.table))
        self.heads = nn.ModuleList(
            IntegerHead(head, inputs, prior.components) for head in prior.heads if isinstance(head, Head)
        )
        self.centre = prior.centre

    def constant(self, n: int) -> Tensor:
        """The features where nothing is kept, (n, H, W, F)."""
        assert self.table is not None
        return self.table.entries.view(1, *self.size, -1).expand(n, -1, -1, -1)


class IntegerIDF(IntegerFlow):
    """The integer form of an `IDF`, with random weights until a quantized run's are loaded.

    Args:
        space: Images.
        bits: Bits of activations.
        options: Of the float system.

    Raises:
        UsageError: The options ask for what has no integer form, or see the float system.
    """

    exact_integers = True

    def __init__(self, space: Space, *, bits: int, **options: Any) -> None:
        skeleton = IDF(space, **options)  # for its shapes; its weights are not used
        super().__init__(space, skeleton.steps, size=skeleton.size, margin=skeleton.margin, wrap=skeleton.wrap)
        self.grid = skeleton.grid
        self.inputs = LevelInputs(self.grid, bits)
        self.tables = LogisticTables(self.size)
        translations = (m for m in skeleton.translations if isinstance(m, Translation))
        self.translations = nn.ModuleList(IntegerTranslation(m, self.inputs, space.levels) for m in translations)
        self.priors = nn.ModuleList(IntegerPrior(m, self.inputs) for m in skeleton.priors if isinstance(m, Prior))

    def prior(self, index: int) -> IntegerPrior:
        """The prior of the latents that leave as number `index`."""
        return cast(IntegerPrior, self.priors[index])

    def translation(self, index: int, free: Tensor) -> Tensor:
        rounded: Tensor = self.translations[index](self.inputs(free))
        return rounded

    def features(self, index: int, kept: Tensor | None, n: int) -> Tensor:
        prior = self.prior(index)
        if prior.trunk is None or kept is None:
            return prior.constant(n)
        out: Tensor = prior.trunk(self.inputs(kept))
        return out

    def channel(self, index: int, c: int, features: Tensor, before: Tensor, kept: Tensor | None) -> ChannelDistribution:
        prior = self.prior(index)
        if kept is None:
            centre = torch.full(features.shape[:3], float(self.grid.middle * MEAN_UNIT), device=features.device)
        else:
            centre = (kept[:, prior.centre(c)] * MEAN_UNIT).float()
        if c:
            features = torch.cat([features, self.inputs(before)], dim=-1)
        distribution: ChannelDistribution = prior.heads[c](features, centre, self.tables)
        return distribution

    @torch.no_grad()
    def log_prob(self, x: Tensor) -> Tensor:
        """Exact log P(x), nats, (B,): from the counts that are coded.

        Raises:
            SpaceMismatchError: x is not of the model's space.
        """
        total = torch.zeros(len(x), dtype=torch.float64, device=x.device)
        for distribution, values in self.coded(x):
            total += distribution.log_prob(values).flatten(1).sum(1)
        return total
