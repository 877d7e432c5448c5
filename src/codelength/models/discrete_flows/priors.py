"""The distribution of latents that leave an integer flow, given those that stay: mixtures of discretized logistics.

    P(z | kept) = Π_sites Π_c P(z_c | z_{<c} at the site, trunk(kept))

A trunk reads the kept latents around a site; a head of 1x1 convolutions for each channel also reads the channels before it at the site. Means are relative to a kept channel, so that a
network that knows nothing yet predicts a site by its neighbour.

Reference: arXiv:1905.07376, section 3.3, where z is given its neighbours by one logistic a dim; mixtures as in PixelCNN++, arXiv:1701.05517.
Their channels are independent given the kept ones.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from codelength.functional import discretized_logistic_log_mass, log_scale_floor
from codelength.models.discrete_flows.dense import DenseTrunk
from codelength.pixels.distribution import ChannelDistribution
from codelength.pixels.logistic_mixture import LogisticMixtureChannel


class Grid:
    """The integers that latents take, 0 .. size − 1, and the scales on which networks and distributions see them.

    Args:
        levels: L of the data.
        margin: Integers below 0 and above L − 1 that latents may reach; they are counted from −margin.
        background: Whether networks read levels from level 0, and not around the middle one.
    """

    def __init__(self, levels: int, margin: int = 0, *, background: bool = False) -> None:
        self.levels, self.margin = levels, margin
        self.size = levels + 2 * margin
        self.unit = 4 / levels
        self.middle = levels // 2 + margin
        self.origin = margin if background else self.middle
        self.half_range = (self.size - 1) / 2

    def network(self, z: Tensor) -> Tensor:
        """What networks read, (z − origin) · 4 / L."""
        return (z - self.origin) * self.unit


class Head(nn.Module):
    """Parameters of one channel's mixture: 1x1 convolutions on the features of a site.

    Args:
        inputs: Features, channels before included.
        hidden: Width.
        components: K.
    """

    def __init__(self, inputs: int, hidden: int, components: int) -> None:
        super().__init__()
        self.hidden = nn.Conv2d(inputs, hidden, 1)
        self.out = nn.Conv2d(hidden, 3 * components, 1)
        nn.init.kaiming_normal_(self.hidden.weight, nonlinearity="relu")
        nn.init.zeros_(self.hidden.bias)  # type: ignore[arg-type]
        nn.init.normal_(self.out.weight, std=0.1 / math.sqrt(hidden))
        nn.init.zeros_(self.out.bias)  # type: ignore[arg-type]

    def forward(self, features: Tensor) -> Tensor:
        """(B, inputs, H, W) to (B, 3 K, H, W)."""
        out: Tensor = self.out(F.relu(self.hidden(features)))
        return out


class Prior(nn.Module):
    """P(z | kept).

    Args:
        kept: Number of kept channels; 0 for the last latents, whose features are learned numbers a site.
        channels: Number of channels of z.
        size: (H, W).
        grid: The integers of the latents.
        growth, layers, activation, group_norm: Of the trunk.
        components: K.
        scale: Levels that a mean of 1 stands for.
    """

    def __init__(
        self,
        kept: int,
        channels: int,
        size: tuple[int, int],
        grid: Grid,
        *,
        growth: int,
        layers: int,
        components: int,
        activation: str = "relu",
        group_norm: bool = False,
    ) -> None:
        super().__init__()
        self.kept, self.channels, self.grid, self.components = kept, channels, grid, components
        self.mean_unit = grid.levels / 4
        self.trunk = DenseTrunk(kept, growth, layers, activation=activation, group_norm=group_norm) if kept else None
        self.table = None if kept else nn.Parameter(torch.randn(growth, *size))
        features = self.trunk.outputs if self.trunk is not None else growth
        self.heads = nn.ModuleList(Head(features + c, growth, components) for c in range(channels))
        self.first = nn.Parameter(self._first().repeat(channels, 1))

    def _first(self) -> Tensor:
        """What the heads' outputs start from: equal weights, means and scales spread a little (or over all levels where nothing is kept)."""
        k = self.components
        spread = (2 * torch.arange(k) + 1) / k - 1
        reach, wide = (0.25, 1 / 32) if self.kept else (2.0, 1 / 8)
        log_scale = math.log(max(self.grid.levels * wide, 0.5)) + 0.5 * spread
        return torch.cat([torch.zeros(k), spread * reach, log_scale])

    def features(self, kept: Tensor | None, n: int) -> Tensor:
        """What the heads read, (B, F, H, W)."""
        if self.trunk is None or kept is None:
            assert self.table is not None
            return self.table.expand(n, *self.table.shape)
        out: Tensor = self.trunk(self.grid.network(kept))
        return out

    def parameters_of(
        self, c: int, features: Tensor, before: Tensor, kept: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Logits, means and log scales of channel c, (B, K, H, W) each, on the scale where the integers span [−1, 1].

        Args:
            c: Channel.
            features: From `features`.
            before: Channels before it, (B, c, H, W) integers.
            kept: The kept channels.
        """
        grid = self.grid
        inputs = torch.cat([features, grid.network(before).to(features.dtype)], dim=1) if c else features
        out = self.heads[c](inputs)
        wide = out.double() if self.first.dtype == torch.float64 else out.float()
        wide = wide + self.first[c].view(1, -1, 1, 1)
        logits, mean, log_scale = wide.chunk(3, dim=1)
        centre = grid.middle if kept is None else kept[:, self.centre(c), None]
        mean = (mean * self.mean_unit + centre) / grid.half_range - 1
        log_scale = (log_scale - math.log(grid.half_range)).clamp(min=log_scale_floor(grid.size))
        return logits, mean, log_scale

    def centre(self, c: int) -> int:
        """The kept channel that means of channel c are relative to."""
        return c % self.kept

    def log_prob(self, z: Tensor, kept: Tensor | None) -> Tensor:
        """log P(z | kept), nats, (B, H, W) summed over channels, differentiable in z.

        Args:
            z: Integers as reals, (B, C, H, W).
            kept: (B, kept, H, W).
        """
        features = self.features(kept, len(z))
        total = []
        for c in range(self.channels):
            logits, mean, log_scale = self.parameters_of(c, features, z[:, :c], kept)
            # An edge bin is open: its log mass grows with the edge itself, which would pull every latent at an edge away from it.
            value = z[:, c, None]
            value = torch.where((value > 0) & (value < self.grid.size - 1), value, value.detach())
            log_mass = discretized_logistic_log_mass(value, mean, log_scale, self.grid.size)
            total.append(torch.logsumexp(torch.log_softmax(logits, dim=1) + log_mass, dim=1))
        return torch.stack(total).sum(0)

    def channel(self, c: int, features: Tensor, before: Tensor, kept: Tensor | None) -> ChannelDistribution:
        """The distribution of channel c at every site."""
        logits, mean, log_scale = (p.movedim(1, -1) for p in self.parameters_of(c, features, before, kept))
        return LogisticMixtureChannel(logits, mean, log_scale, self.grid.size)
