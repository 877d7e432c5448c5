"""Gated PixelCNN site by site, without computing anything twice.

The vertical stack of a row needs only the rows above: it is computed when the row begins, with all it gives to the horizontal
stack. The horizontal stack then takes one site a step (channel by channel, where masks separate the channels).

Reference: the caching of "Fast Generation for Convolutional Autoregressive Models", arXiv:1704.06001.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from codelength.models.autoregressive.channel_order import SiteSteps
from codelength.models.base import Positions
from codelength.nn.site_cache import CachedCausalConv, Places, Ring, group_slices
from codelength.nn.site_mlp import CachedSiteMLP

if TYPE_CHECKING:
    from codelength.models.autoregressive.gated_pixelcnn import GatedLayer, GatedPixelCNN
    from codelength.nn.conditions import LabelBias


def gate(x: Tensor) -> Tensor:
    """tanh(a) σ(b) over the halves of the last dim."""
    a, b = x.chunk(2, dim=-1)
    return torch.tanh(a) * torch.sigmoid(b)


class CachedLayer:
    """A `GatedLayer`: its vertical part by rows, its horizontal part by sites."""

    def __init__(self, layer: GatedLayer, ring: Ring, groups: int, label: Tensor | None) -> None:
        def bias(of: LabelBias | None) -> Tensor | None:
            return None if of is None or label is None else of(label)

        self.vertical = CachedCausalConv(layer.vertical, ring, extra_bias=bias(layer.vertical_class))
        self.across, self.across_bias = layer.across.matrix().detach().t(), layer.across.bias.detach()
        self.horizontal = CachedCausalConv(layer.horizontal, ring, groups, bias(layer.horizontal_class))
        self.out = CachedCausalConv(layer.out, ring, groups)
        self.of = group_slices(layer.out.out_groups, groups)
        self.members = [layer.horizontal.out_groups == g for g in range(groups)] if groups > 1 else [slice(None)]

    def start_row(self, row: Places) -> Tensor:
        """The vertical features of a row, (n, W, F); what they give to the horizontal stack is kept."""
        v = self.vertical(row)
        self.share = v @ self.across + self.across_bias
        return gate(v)

    def site(self, places: Places, column: Tensor, x: Tensor | None, group: int) -> Tensor:
        """The horizontal features of a group at a site, (n, 1, F of the group), from those of the layer before if any."""
        if x is not None:
            self.horizontal.put(places, x, self.of[group])
        gates = self.horizontal(places, group) + self.share.index_select(1, column)[..., self.members[group]]
        self.out.put(places, gate(gates), self.of[group])
        update = self.out(places, group)
        return update if x is None else x + update


class GatedPixelCNNSteps(SiteSteps):
    """The state of one pass over n images in raster order; changed in place.

    Args:
        model: The model. Later changes of its parameters do not reach the state.
        n: Number of images.
        label: Classes of the images, (n,), where the model is conditioned.
    """

    def __init__(self, model: GatedPixelCNN, n: int, label: Tensor | None) -> None:
        super().__init__(model.head, model.schedule, model.span)
        self.space, self.scale, groups = model.space, model.scale, model.head.groups
        self.ring = Ring.of_raster(n, self.space.sizes[2], model.reach)
        self.layers = [CachedLayer(layer, self.ring, groups, label) for layer in model.stack]
        self.mlp = CachedSiteMLP(model.out, self.ring, groups)
        self.like = model.out.out.bias.detach()

    def begin(self, positions: Positions) -> None:
        """Go on to a site; at the first one of a row the vertical stack of the row is computed."""
        device = self.like.device
        rows, self.columns = positions.rows.to(device), positions.columns.to(device)
        self.places = Places(self.ring, rows, self.columns)
        ones = self.like.new_ones(self.ring.n, len(rows), 1)
        channels = self.space.sizes[0]
        for conv in (self.layers[0].vertical, self.layers[0].horizontal):
            conv.put(self.places, ones, slice(channels, channels + 1))
        if int(positions.columns[0]) == 0:
            row = Places(self.ring, rows.expand(self.ring.width), torch.arange(self.ring.width, device=device))
            for layer, after in zip(self.layers, [*self.layers[1:], None], strict=True):
                v = layer.start_row(row)
                if after is not None:
                    after.vertical.put(row, v)

    def tell(self, levels: Tensor) -> None:
        """Write the levels of the site's first channels, (n, c, 1)."""
        scaled = self.scale(levels.to(self.like.device)).transpose(1, 2)
        for conv in (self.layers[0].vertical, self.layers[0].horizontal):
            conv.put(self.places, scaled, slice(0, scaled.shape[2]))

    def compute(self, group: int) -> Tensor:
        """The network's outputs for a group at the site, (n, outputs of the group, 1)."""
        x = self.layers[0].site(self.places, self.columns, None, group)
        for layer in self.layers[1:]:
            x = layer.site(self.places, self.columns, x, group)
        return self.mlp(self.places, x, group)
