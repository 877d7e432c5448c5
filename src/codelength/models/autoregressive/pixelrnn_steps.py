"""PixelRNN site by site: the states of the row above and of the sites so far are kept, nothing is computed twice.

The Row LSTM goes in wavefronts. The Diagonal BiLSTM's second direction comes from the right, so that of the row above it is
computed, from right to left, when a row begins: one of its steps a site on average.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from codelength.models.autoregressive.channel_order import SiteSteps
from codelength.models.base import Positions
from codelength.nn.site_cache import OWN, CachedCausalConv, CachedSites, Places, Ring, group_slices
from codelength.nn.site_mlp import CachedSiteMLP

if TYPE_CHECKING:
    from codelength.models.autoregressive.pixelrnn import DiagonalBiLSTM, PixelRNN, RecurrentLayer, RowLSTM
    from codelength.nn.causal_conv import CausalConv


def lstm(gates: Tensor, cell: Tensor) -> tuple[Tensor, Tensor]:
    """Hidden state and cell from the gates o, f, i, g before their functions, (..., 4h), and the cell before, (..., h)."""
    o, f, i, s = gates.sigmoid().chunk(4, dim=-1)
    cell = f * cell + i * (2 * s - 1)
    return o * torch.tanh(cell), cell


class CachedLayer:
    """A recurrent layer at some sites, group by group.

    Args:
        module: The layer; its first direction.
        ring: Shape of the stores.
        groups: Number of channel groups.
        class_bias: What classes add to the gates, (n, 4h).
    """

    def __init__(
        self,
        module: RowLSTM | DiagonalBiLSTM,
        ring: Ring,
        groups: int,
        class_bias: Tensor | None,
    ) -> None:
        layer: RecurrentLayer = module.layer
        self.taps, self.before = module.taps, (module.cell,)
        self.inputs = CachedCausalConv(module.inputs, ring, groups, class_bias)
        self.up = CachedCausalConv(layer.up, ring, groups)
        weight = layer.state_weights()[0].detach().transpose(1, 2).flatten(0, 1)  # (taps * h, 4h)
        members = [layer.gate_groups == g for g in range(groups)] if groups > 1 else [slice(None)]
        self.weights = [weight[:, member].contiguous() for member in members]
        units = weight.shape[1] // 4
        self.states, self.cells = (CachedSites(ring, units, weight) for _ in range(2))
        self.outer_of, self.inner_of = (
            group_slices(layer.up.out_groups, groups),
            group_slices(layer.up.in_groups, groups),
        )

    def __call__(self, places: Places, x: Tensor, group: int, more: Tensor | None) -> Tensor:
        """A group's features after the layer, (n, S, features of the group).

        Args:
            places: The sites.
            x: Its features before the layer.
            group: The group.
            more: States of another direction, (n, S, h).
        """
        inner = self.inner_of[group]
        self.inputs.put(places, x, self.outer_of[group])
        gates = self.inputs(places, group)
        gates = gates + (self.states.windows(places, self.taps) @ self.weights[group]).view_as(gates)
        state, cell = lstm(
            gates, self.cells.windows(places, self.before).view(len(gates), gates.shape[1], -1)[..., inner]
        )
        self.states.put(places, state, inner)
        self.cells.put(places, cell, inner)
        self.up.put(places, state if more is None else state + more[..., inner], inner)
        return x + self.up(places, group)


class MirroredDirection:
    """The Diagonal BiLSTM's direction from the right, a row at a time.

    Args:
        conv: What feeds its gates.
        weights: Those of the states above and beside, (2, 4h, h).
        ring: Shape of the store of the layer's features.
        class_bias: What classes add to the gates, (n, 4h).
        image: Store of the image's inputs, where it reads them.
    """

    def __init__(
        self, conv: CausalConv, weights: Tensor, ring: Ring, class_bias: Tensor | None, image: CachedSites | None
    ) -> None:
        self.input_weight, self.bias = conv.matrix().detach().t(), conv.bias.detach()
        if class_bias is not None:
            self.bias = (self.bias + class_bias)[:, None]
        above, beside = weights
        self.above_weight, self.beside_weight = above.t(), beside.t()
        self.states = self.bias.new_zeros(ring.n, ring.width, above.shape[1])
        self.image = image
        image_inputs = 0 if image is None else image.store.shape[2]
        self.features = CachedSites(ring, conv.inputs - image_inputs, self.states)

    def exchange(self, places: Places, x: Tensor, features: slice) -> Tensor:
        """Keep some of the layer's features at sites, (n, S, features); returns the states of the sites above, (n, S, h)."""
        self.features.put(places, x, features)
        return self.states.index_select(1, places.columns)

    def next_row(self, row: Places) -> None:
        """Go on to a row, from the right; its features have been kept."""
        read = [self.features] if self.image is None else [self.features, self.image]
        x = torch.cat([sites.windows(row, OWN) for sites in read], dim=1).unflatten(0, self.states.shape[:2])
        gates = x @ self.input_weight + self.bias + self.states @ self.above_weight
        state = cell = torch.zeros_like(self.states[:, 0])
        for column in reversed(range(x.shape[1])):
            state, cell = lstm(gates[:, column] + state @ self.beside_weight, cell)
            self.states[:, column] = state


class PixelRNNSteps(SiteSteps):
    """The state of one pass over n images; changed in place.

    Args:
        model: The model. Later changes of its parameters do not reach the state.
        n: Number of images.
        label: Classes of the images, (n,), where the model is conditioned.
    """

    def __init__(self, model: PixelRNN, n: int, label: Tensor | None) -> None:
        super().__init__(model.head, model.schedule, model.span)
        groups, (self.channels, _, width) = model.head.groups, model.space.sizes
        self.scale, self.like = model.scale, model.out.out.bias.detach()
        rows = model.kind == "row_lstm"
        self.ring = (
            Ring.of_wavefront(n, width, model.reach, model.slope) if rows else Ring.of_raster(n, width, model.reach)
        )
        self.first = CachedCausalConv(model.first, self.ring, groups)
        self.layers: list[CachedLayer] = []
        self.mirrored: list[MirroredDirection] = []
        for layer in model.stack:
            self._add(layer, groups, label)
        self.mlp = CachedSiteMLP(model.out, self.ring, groups)
        self.rows_done = 0

    def _add(self, layer: RowLSTM | DiagonalBiLSTM, groups: int, label: Tensor | None) -> None:
        shared, bias, mirrored_bias = layer.layer, None, None
        if shared.class_bias is not None and label is not None:
            bias, *others = shared.class_bias(label).chunk(shared.state_weight.shape[0], dim=1)
            mirrored_bias = others[0].detach() if others else None
        if layer.mirrored_inputs is not None:
            weights = shared.state_weights()[1].detach()
            image = self.first.inputs if layer.reads_image else None
            self.mirrored.append(MirroredDirection(layer.mirrored_inputs, weights, self.ring, mirrored_bias, image))
        self.layers.append(CachedLayer(layer, self.ring, groups, bias))

    def begin(self, positions: Positions) -> None:
        """Go on to these sites; at a row's first one the mirrored direction takes the row above."""
        device = self.like.device
        self.places = Places(self.ring, positions.rows.to(device), positions.columns.to(device))
        ones = self.like.new_ones(self.ring.n, len(positions.rows), 1)
        self.first.put(self.places, ones, slice(self.channels, self.channels + 1))
        row = int(positions.rows[0])
        if self.mirrored and row > self.rows_done:
            columns = torch.arange(self.ring.width, device=device)
            above = Places(self.ring, torch.full_like(columns, row - 1), columns)
            for mirrored in self.mirrored:
                mirrored.next_row(above)
            self.rows_done = row

    def tell(self, levels: Tensor) -> None:
        """Write the levels of the sites' first channels, (n, c, S)."""
        scaled = self.scale(levels.to(self.like.device)).transpose(1, 2)
        self.first.put(self.places, scaled, slice(0, scaled.shape[2]))

    def compute(self, group: int) -> Tensor:
        """The network's outputs for a group at the sites, (n, outputs of the group, S)."""
        x = self.first(self.places, group)
        for index, layer in enumerate(self.layers):
            more = self.mirrored[index].exchange(self.places, x, layer.outer_of[group]) if self.mirrored else None
            x = layer(self.places, x, group, more)
        return self.mlp(self.places, x, group)
