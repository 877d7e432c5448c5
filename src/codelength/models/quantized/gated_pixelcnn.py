"""Gated PixelCNN in integers, of one channel.

A convolution is a product over gathered windows, exact like any other. Features between layers are held in units of 2^-12; a gate is
the product of two table entries of 11 bits each, tanh and σ, and so an exact integer of 22. Everything that windows read has zero point 0: zeros around an
image are zeros.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from codelength.errors import UsageError
from codelength.integer import IntegerLinear, Lookup, Requantize
from codelength.models.autoregressive.base import AutoregressiveModel, raster_schedule
from codelength.models.autoregressive.gated_pixelcnn import GatedLayer, GatedPixelCNN
from codelength.models.base import Positions
from codelength.models.quantized.parts import GRID, STREAM, STREAM_LIMIT, bounds, table_bits
from codelength.models.quantized.site_head import IntegerSiteHead, SumsHead
from codelength.nn.causal_conv import CausalConv
from codelength.nn.conditions import LABEL
from codelength.nn.site_cache import CachedSites, Places, Ring
from codelength.pixels import PixelDistribution
from codelength.space import Space

GATE_BITS = 11
GATE_REACH = 8.0


class IntegerConv(nn.Module):
    """A `CausalConv` from integers to features in units of STREAM.

    Args:
        conv: The float layer, for its shape.
        bits: Bits of its inputs.
    """

    def __init__(self, conv: CausalConv, bits: int) -> None:
        super().__init__()
        self.taps = conv.used_taps()
        self.offsets = tuple(conv.offsets[tap] for tap in self.taps)
        self.inputs = conv.inputs
        self.layer = IntegerLinear(len(self.taps) * conv.inputs, conv.outputs, *bounds(bits))
        self.grid = Requantize(conv.outputs, -STREAM_LIMIT, STREAM_LIMIT)

    def forward(self, windows: Tensor) -> Tensor:
        """(M, taps * inputs) integers to (M, outputs)."""
        out: Tensor = self.grid(self.layer(windows))
        return out

    def everywhere(self, x: Tensor) -> Tensor:
        """At every site: (B, H, W, inputs) integers to (B, H, W, outputs)."""
        _, height, width, _ = x.shape
        up, aside = max(-r for r, _ in self.offsets), max(abs(c) for _, c in self.offsets)
        padded = nn.functional.pad(x, (0, 0, aside, aside, up, 0))
        shifted = [
            padded[:, up + r : up + r + height, aside + c : aside + c + width] for r, c in self.offsets
        ]  # offsets reach no row below the own
        return self(torch.cat(shifted, dim=-1).flatten(0, 2)).view(*x.shape[:3], -1)


class IntegerGate(nn.Module):
    """tanh(a) σ(b) of the halves of features in units of STREAM; results are integers of an activation, 1 = its largest.

    Args:
        bits: Bits of the results.
    """

    def __init__(self, bits: int) -> None:
        super().__init__()
        half, unit = GRID // 2, 2.0**-GATE_BITS
        step = GATE_REACH / half
        self.index = Requantize(1, -half, half - 1)
        self.index.set(STREAM / step)
        self.value, self.gate = Lookup(-half, GRID), Lookup(-half, GRID)
        self.value.set_function(torch.tanh, step, unit, -(2**GATE_BITS), 2**GATE_BITS)
        self.gate.set_function(torch.sigmoid, step, unit, 0, 2**GATE_BITS)
        self.grid = Requantize(1, *bounds(bits))
        self.grid.set(bounds(bits)[1] * unit * unit)

    def forward(self, x: Tensor) -> Tensor:
        """(..., 2F) to (..., F)."""
        a, b = self.index.index(x).chunk(2, dim=-1)
        product = _entries(self.value, a) * _entries(self.gate, b)  # at most 22 bits
        gated: Tensor = self.grid(product)
        return gated


def _entries(table: Lookup, index: Tensor) -> Tensor:
    return torch.index_select(table.entries, 0, index.flatten()).view(index.shape)


class IntegerGatedLayer(nn.Module):
    """A `GatedLayer`: parts that its parallel and its stepwise form put together."""

    def __init__(self, layer: GatedLayer, bits: int, classes: int) -> None:
        super().__init__()
        self.first, self.last = layer.first, layer.last
        in_bits = table_bits(bits) if layer.first else bits
        features = layer.across.outputs
        self.vertical, self.horizontal = IntegerConv(layer.vertical, in_bits), IntegerConv(layer.horizontal, in_bits)
        self.across, self.out = IntegerConv(layer.across, bits), IntegerConv(layer.out, bits)
        self.across_input = Requantize(features, *bounds(bits))
        # From the horizontal features after this layer to the integers that the next one's windows read.
        self.horizontal_input = None if layer.last else Requantize(layer.out.outputs, *bounds(bits))
        self.gate = IntegerGate(bits)
        self.vertical_class = Lookup(0, classes, features) if classes else None
        self.horizontal_class = Lookup(0, classes, features) if classes else None

    def share(self, v: Tensor) -> Tensor:
        """What vertical features, (..., 2F), give to the horizontal stack."""
        flat = self.across_input(v).flatten(0, -2)
        shared: Tensor = self.across(flat).view(v.shape)
        return shared

    def update(self, gates: Tensor) -> Tensor:
        """What the horizontal gates, (..., 2F), add to the horizontal features."""
        gated = self.gate(gates)
        added: Tensor = self.out(gated.flatten(0, -2)).view(gated.shape)
        return added


class IntegerGatedPixelCNN(AutoregressiveModel):
    """The integer form of a `GatedPixelCNN` of one channel.

    Args:
        space: Images of one channel and at most 256 levels.
        bits: Bits of activations.
        options: Of the float system.

    Raises:
        UsageError: There are several channels, or see the float system.
    """

    exact_integers = True

    def __init__(self, space: Space, *, bits: int, **options: Any) -> None:
        if space.sizes[0] != 1:
            raise UsageError(f"the integer form of gated_pixelcnn models one channel; the data have {space.sizes[0]}")
        skeleton = GatedPixelCNN(space, **options)  # for its shapes; its weights are not used
        super().__init__(space, conditioning=skeleton.conditioning)
        self.reach = skeleton.reach
        self.levels = Lookup(0, space.levels, 2)
        self.layers = nn.ModuleList(IntegerGatedLayer(layer, bits, skeleton.classes) for layer in skeleton.stack)
        self.mlp = IntegerSiteMLP(skeleton, bits)
        self.single = SumsHead(skeleton.head.likelihood, space.levels)
        self.head = IntegerSiteHead(skeleton.head, self.single)

    @property
    def stack(self) -> list[IntegerGatedLayer]:
        """The layers, in order."""
        return [layer for layer in self.layers if isinstance(layer, IntegerGatedLayer)]

    @torch.no_grad()
    def conditionals(self, x: Tensor, **conditions: Tensor) -> PixelDistribution:
        """Distribution of every dim given those before it, in one parallel pass; x is (B, 1, H, W)."""
        label = self.check_conditions(conditions, len(x)).get(LABEL)
        levels = self.space.validate(x)[:, 0] - self.space.offset
        v_in = h_in = self.levels(levels)  # (B, H, W, 2)
        h = torch.zeros(())
        for layer in self.stack:
            v = _with_class(layer.vertical.everywhere(v_in), layer.vertical_class, label)
            gates = _with_class(layer.horizontal.everywhere(h_in) + layer.share(v), layer.horizontal_class, label)
            h = h + layer.update(gates)
            if layer.horizontal_input is not None:
                v_in, h_in = layer.gate(v), layer.horizontal_input(h)
        sums = self.mlp(h.flatten(0, 2)).view(*h.shape[:3], -1)
        return self.head(sums.movedim(-1, 1))

    @property
    def schedule(self) -> list[Positions]:
        """One site a step."""
        _, height, width = self.space.sizes
        return raster_schedule(height, width)

    @torch.no_grad()
    def init_state(self, n: int, **conditions: Tensor) -> GatedState:
        """Nothing coded yet."""
        label = self.check_conditions(conditions, n).get(LABEL)
        ring = Ring.of_raster(n, self.space.sizes[2], self.reach)
        like = torch.zeros((), device=self.device)
        caches = [
            (CachedSites(ring, layer.vertical.inputs, like), CachedSites(ring, layer.horizontal.inputs, like))
            for layer in self.stack
        ]
        return GatedState(ring, caches, label)

    @torch.no_grad()
    def step(self, state: GatedState, values: Tensor | None) -> tuple[PixelDistribution, GatedState]:
        """Distribution of the next site, given the level at the one before, (n, 1, 1)."""
        width = self.space.sizes[2]
        if values is not None:
            own = self.levels(values[:, 0])  # (n, 1, 2)
            for cache in state.caches[0]:
                cache.put(state.places(width), own)
        state.time += 1
        if state.time % width == 0:
            self._start_row(state)
        places, column = state.places(width), state.time % width
        x: Tensor = torch.zeros(())
        reads: Requantize | None = None  # of the layer before
        for layer, (_, cache), share in zip(self.stack, state.caches, state.shares, strict=True):
            if reads is not None:
                cache.put(places, reads(x))
            reads = layer.horizontal_input
            gates = layer.horizontal(cache.windows(places, layer.horizontal.offsets)).unsqueeze(1)
            gates = _with_class(gates + share[:, column : column + 1], layer.horizontal_class, state.label, dims=2)
            x = x + layer.update(gates)  # (n, 1, F)
        return self.head(self.mlp(x.flatten(0, 1)).unsqueeze(-1)), state

    def _start_row(self, state: GatedState) -> None:
        """The vertical stack of a row, from the rows above; what it gives to the horizontal stack is kept."""
        width = self.space.sizes[2]
        row = torch.full((width,), state.time // width, device=self.device)
        places = Places(state.ring, row, torch.arange(width, device=self.device))
        # What the ring still holds of rows long gone must not be taken for this one.
        for _, cache in state.caches:
            cache.put(places, torch.zeros(state.ring.n, width, cache.store.shape[2], device=self.device))
        state.caches[0][0].put(places, torch.zeros(state.ring.n, width, 2, device=self.device))
        state.shares = []
        for index, layer in enumerate(self.stack):
            windows = state.caches[index][0].windows(places, layer.vertical.offsets)
            v = layer.vertical(windows).view(state.ring.n, width, -1)
            v = _with_class(v, layer.vertical_class, state.label, dims=2)
            state.shares.append(layer.share(v))
            if not layer.last:
                state.caches[index + 1][0].put(places, layer.gate(v))


@dataclass
class GatedState:
    """What steps remember: the inputs of each layer's windows, and what this row's vertical features give.

    Args:
        ring: Shape of the caches.
        caches: For each layer the inputs of its vertical and of its horizontal windows.
        label: Classes, (n,).
    """

    ring: Ring
    caches: list[tuple[CachedSites, CachedSites]]
    label: Tensor | None

    def __post_init__(self) -> None:
        self.time = -1
        self.shares: list[Tensor] = []

    def places(self, width: int) -> Places:
        """The current site."""
        row, column = divmod(self.time, width)
        return Places(self.ring, torch.tensor([row]), torch.tensor([column]))


class IntegerSiteMLP(nn.Module):
    """A `SiteMLP`: rectified features to the sums of the outputs."""

    def __init__(self, skeleton: GatedPixelCNN, bits: int) -> None:
        super().__init__()
        mlp, ends = skeleton.out, bounds(bits)
        self.hidden_input = Requantize(mlp.hidden.inputs, *ends)
        self.hidden = IntegerConv(mlp.hidden, bits)
        self.out_input = Requantize(mlp.out.inputs, *ends)
        self.out = IntegerLinear(mlp.out.inputs, mlp.out.outputs, *ends)

    def forward(self, x: Tensor) -> Tensor:
        """(M, F) in units of STREAM to exact sums, (M, outputs)."""
        hidden = self.hidden(self.hidden_input(x.clamp(min=0)))
        sums: Tensor = self.out(self.out_input(hidden.clamp(min=0)))
        return sums


def _with_class(x: Tensor, biases: Lookup | None, label: Tensor | None, dims: int = 3) -> Tensor:
    if biases is None or label is None:
        return x
    bias: Tensor = biases(label)
    return x + bias.view(len(bias), *([1] * (dims - 1)), -1)
