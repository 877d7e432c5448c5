"""PixelCNN a wavefront at a time, from the features kept of the sites before."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor
from torch.nn import functional as F

from codelength.models.autoregressive.channel_order import SiteSteps
from codelength.models.base import Positions
from codelength.nn.site_cache import CachedCausalConv, Places, Ring, group_slices
from codelength.nn.site_mlp import CachedSiteMLP

if TYPE_CHECKING:
    from codelength.models.autoregressive.pixelcnn import PixelCNN, ResidualBlock


class CachedBlock:
    """A `ResidualBlock` at some sites, group by group."""

    def __init__(self, block: ResidualBlock, ring: Ring, groups: int, label: Tensor | None) -> None:
        class_bias = None if block.class_bias is None or label is None else block.class_bias(label)
        self.reduce, self.expand = (CachedCausalConv(layer, ring, groups) for layer in (block.reduce, block.expand))
        self.conv = CachedCausalConv(block.conv, ring, groups, class_bias)
        self.outer_of = group_slices(block.expand.out_groups, groups)
        self.inner_of = group_slices(block.reduce.out_groups, groups)

    def __call__(self, places: Places, x: Tensor, group: int) -> Tensor:
        """A group's features, (n, S, features of the group)."""
        self.reduce.put(places, F.relu(x), self.outer_of[group])
        self.conv.put(places, F.relu(self.reduce(places, group)), self.inner_of[group])
        self.expand.put(places, F.relu(self.conv(places, group)), self.inner_of[group])
        return x + self.expand(places, group)


class PixelCNNSteps(SiteSteps):
    """The state of one pass over n images; changed in place.

    Args:
        model: The model. Later changes of its parameters do not reach the state.
        n: Number of images.
        label: Classes of the images, (n,), where the model is conditioned.
    """

    def __init__(self, model: PixelCNN, n: int, label: Tensor | None) -> None:
        super().__init__(model.head, model.schedule, model.span)
        groups, (self.channels, _, width) = model.head.groups, model.space.sizes
        self.scale, self.like = model.scale, model.out.out.bias.detach()
        self.ring = Ring.of_wavefront(n, width, model.reach, model.slope)
        self.first = CachedCausalConv(model.first, self.ring, groups)
        self.blocks = [CachedBlock(block, self.ring, groups, label) for block in model.stack]
        self.mlp = CachedSiteMLP(model.out, self.ring, groups)

    def begin(self, positions: Positions) -> None:
        """Go on to a wavefront."""
        device = self.like.device
        self.places = Places(self.ring, positions.rows.to(device), positions.columns.to(device))
        ones = self.like.new_ones(self.ring.n, len(positions.rows), 1)
        self.first.put(self.places, ones, slice(self.channels, self.channels + 1))

    def tell(self, levels: Tensor) -> None:
        """Write the levels of the sites' first channels, (n, c, S)."""
        scaled = self.scale(levels.to(self.like.device)).transpose(1, 2)
        self.first.put(self.places, scaled, slice(0, scaled.shape[2]))

    def compute(self, group: int) -> Tensor:
        """The network's outputs for a group at the sites, (n, outputs of the group, S)."""
        x = self.first(self.places, group)
        for block in self.blocks:
            x = block(self.places, x, group)
        return self.mlp(self.places, x, group)
