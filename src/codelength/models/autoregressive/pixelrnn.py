"""PixelRNN: recurrent layers over an image, rows or diagonals at a time.

    P(x) = Π_sites Π_c P(x_site,c | sites before, x_site,<c)

A 7 x 7 convolution with mask A reads the image into 2h features; residual layers x + W_up LSTM(x) follow, and a perceptron at every
site gives its distribution. The layer is one of two convolutional LSTMs with h units:

*Row LSTM*: a row at a time. A site's state reads k neighbouring states of the row above, and what its own input gives (a masked
1-D convolution of the row). It sees a triangle that widens upwards, not all of the sites before.

*Diagonal BiLSTM*: a diagonal at a time. One direction goes right: a site's state reads those above and to its left; the other goes left,
reads those above and to its right, and is shifted down by one row before both are added. Together they see every site before: for this the
second direction of the first layer also reads the image. The features of a row never hold its last site, which mask A gives to the
row below only, and near it.

Where the likelihood does not join the channels of a site, masks do: green sees red, blue sees both.

Reference: PixelRNN, arXiv:1601.06759, sections 3.1-3.5, eq. (3), figures 3-5, table 1. Departures: a channel of ones tells the image
from the zeros around it; the shifted direction reads all channels of its input, as all lie in rows above; the content gate is tanh(a / 2)
(`nn.block_lstm`); the second direction of the first layer reads the image, without which the last site of the row above is a blind spot;
dropout, classes, and other pixel likelihoods than categorical are options.
"""

from __future__ import annotations

from typing import TypeAlias

import torch
from torch import Tensor, nn

from codelength.errors import unknown_name
from codelength.models.autoregressive.base import raster_schedule, wavefront_schedule
from codelength.models.autoregressive.channel_order import SiteSteps
from codelength.models.autoregressive.pixelrnn_steps import PixelRNNSteps
from codelength.models.autoregressive.site_model import SiteModel, check_network
from codelength.models.base import Positions
from codelength.nn.activations import byte_dropout
from codelength.nn.block_lstm import Blocks, block_lstm, diagonal_blocks, row_blocks
from codelength.nn.causal_conv import CausalConv, spread_groups
from codelength.nn.conditions import LabelBias
from codelength.nn.site_columns import apply_at_sites, gather_sites, neighbour_table
from codelength.nn.site_mlp import SiteMLP
from codelength.space import Space

KINDS = ("row_lstm", "diagonal_bilstm")
Size: TypeAlias = tuple[int, int]


class RecurrentLayer(nn.Module):
    """What both kinds share: weights of states, the way back to 2h features, classes.

    Args:
        outer: Group of each of the 2h features outside.
        inner: Group of each of the h units.
        directions: Recurrences.
        taps: States of the block before that a state reads.
        classes: Number of classes it is conditioned on, 0 for none.
        dropout: Probability of dropout of what the layer adds.
        init_scale: Scale of what the layer adds at the start.
    """

    def __init__(
        self,
        outer: Tensor,
        inner: Tensor,
        *,
        directions: int,
        taps: int,
        classes: int,
        dropout: float,
        init_scale: float,
    ) -> None:
        super().__init__()
        units, self.dropout, self.taps = len(inner), dropout, taps
        self.gate_groups = torch.cat([inner] * 4)
        self.state_weight = nn.Parameter(torch.randn(directions, taps * 4 * units, units) / (taps * units) ** 0.5)
        self.class_bias = LabelBias(classes, directions * 4 * units) if classes else None
        self.up = CausalConv(inner, outer, (1, 1), (0, 0), "B", init_scale=init_scale * 2)
        with torch.no_grad():
            self.state_weights()[:, :, 3 * units :].mul_(2)

    def state_weights(self) -> Tensor:
        """W_t of each direction and tap, (D, taps, 4h, h)."""
        return self.state_weight.unflatten(1, (self.taps, -1))

    def run(self, inputs: Tensor, label: Tensor | None, blocks: Blocks) -> Tensor:
        """States from inputs of the gates, (D, 4h, S, B) to (D, h, S, B)."""
        if self.class_bias is not None:
            bias = self.class_bias(label).t().unflatten(0, inputs.shape[:2])  # (D, 4h, B)
            inputs = inputs + bias[:, :, None]
        return block_lstm(inputs, self.state_weights(), blocks)

    def add(self, x: Tensor, states: Tensor) -> Tensor:
        """x + W_up states, (2h, S, B)."""
        states = byte_dropout(states, self.dropout, self.training)
        return x + torch.addmm(self.up.bias[:, None], self.up.matrix(), states.flatten(1)).unflatten(1, x.shape[1:])


def _input_conv(outer: Tensor, gates: Tensor, left: int, own: bool) -> CausalConv:
    """From 2h features to the gates: the own site and `left` sites before it in its row."""
    conv = CausalConv(outer, gates, (1, left + 1), (0, left), "B" if own else "all", init_scale=0.7)
    with torch.no_grad():
        conv.weight[3 * len(gates) // 4 :].mul_(2)  # the content gate counts twice
        conv.bias[len(gates) // 4 : len(gates) // 2] = 1  # cells remember at the start
    return conv


class RowLSTM(nn.Module):
    """A Row LSTM layer with kernels of k: k states of the row above, and k // 2 + 1 inputs of the own row."""

    mirrored_inputs, reads_image = None, False
    cell = (-1, 0)

    def __init__(self, outer: Tensor, inner: Tensor, kernel: int, classes: int, dropout: float, scale: float) -> None:
        super().__init__()
        self.kernel = kernel
        self.taps = tuple((-1, column) for column in range(-(kernel // 2), kernel // 2 + 1))
        self.layer = RecurrentLayer(
            outer, inner, directions=1, taps=kernel, classes=classes, dropout=dropout, init_scale=scale
        )
        self.inputs = _input_conv(outer, self.layer.gate_groups, kernel // 2, own=True)

    def blocks(self, size: Size) -> Blocks:
        """Rows."""
        return row_blocks(*size, self.kernel)

    def forward(self, x: Tensor, image: Tensor, label: Tensor | None, size: Size) -> Tensor:
        """(2h, S, B) to (2h, S, B), sites by rows."""
        blocks = self.blocks(size)
        inputs = apply_at_sites(self.inputs, x, blocks.sites.to(x.device), size)
        return self.layer.add(x, self.layer.run(inputs[None], label, blocks)[0])


class DiagonalBiLSTM(nn.Module):
    """A Diagonal BiLSTM layer: direction 0 goes right, direction 1 goes left on the mirrored image.

    Args:
        outer, inner, classes, dropout, scale: As for the other kind.
        image_inputs: Inputs of the image that direction 1 reads besides the features, 0 for none.
    """

    taps = ((-1, 0), (0, -1))
    cell = (0, -1)

    def __init__(
        self, outer: Tensor, inner: Tensor, classes: int, dropout: float, scale: float, image_inputs: int
    ) -> None:
        super().__init__()
        self.reads_image = image_inputs > 0
        self.layer = RecurrentLayer(
            outer, inner, directions=2, taps=2, classes=classes, dropout=dropout, init_scale=scale
        )
        self.inputs = _input_conv(outer, self.layer.gate_groups, 0, own=True)
        read = torch.cat([outer, outer.new_zeros(image_inputs)])
        self.mirrored_inputs = _input_conv(read, self.layer.gate_groups, 0, own=False)

    def blocks(self, size: Size) -> Blocks:
        """Diagonals."""
        return diagonal_blocks(*size)

    def forward(self, x: Tensor, image: Tensor, label: Tensor | None, size: Size) -> Tensor:
        """(2h, S, B), and the image's inputs, (C + 1, S, B), to (2h, S, B), sites by diagonals."""
        blocks = self.blocks(size)
        sites = blocks.sites.to(x.device)
        to_mirrored, from_mirrored = mirror_tables(sites, *size)
        mirrored = gather_sites(torch.cat([x, image.to(x.dtype)]) if self.reads_image else x, to_mirrored)
        gates = [
            apply_at_sites(self.inputs, x, sites, size),
            apply_at_sites(self.mirrored_inputs, mirrored, sites, size),
        ]
        right, left = self.layer.run(torch.stack(gates), label, blocks)
        return self.layer.add(x, right + gather_sites(left, from_mirrored))


def mirror_tables(sites: Tensor, height: int, width: int) -> tuple[Tensor, Tensor]:
    """To the order of the sites on the mirrored image, and back, down by one row (−1 in the first row)."""
    mirrored = sites // width * width + width - 1 - sites % width
    place = torch.empty_like(sites)
    place[sites] = torch.arange(len(sites), device=sites.device)
    above = neighbour_table(sites, height, width, (-1, 0))
    # `mirrored` is its own inverse: the site at place p lies at place[mirrored[p]] of the mirrored order.
    to_mirrored = place[mirrored]
    return to_mirrored, torch.where(above >= 0, to_mirrored[above], -1)


class PixelRNN(SiteModel):
    """PixelRNN.

    Args:
        space: Images; sizes may be open for `log_prob`.
        kind: "row_lstm" or "diagonal_bilstm".
        units: h of each LSTM (of each direction); the residual stream has 2h features.
        layers: Recurrent layers.
        kernel: Width k of the Row LSTM's kernels, odd; the Diagonal BiLSTM has none.
        first_kernel: Width of the first convolution, odd.
        head_filters: Features of the hidden layer of the perceptron; None: 2h.
        dropout: Dropout of what a layer adds, in training.
        pixels: "bernoulli", "categorical" or "logistic_mixture"; by default the first for two levels, else the last.
        components: Mixture components of "logistic_mixture".
        coupling: Whether the channels of "logistic_mixture" depend on each other given the component; on for colour.
        channel_masks: Separate the channels by masks; by default where there are several and the likelihood does not join
            them (all but "logistic_mixture").
        class_conditional: Condition on the class, passed as `label=`: it is added in every gate.

    Raises:
        UsageError: The options do not fit each other or the space.
    """

    def __init__(
        self,
        space: Space,
        *,
        kind: str = "diagonal_bilstm",
        units: int = 128,
        layers: int = 12,
        kernel: int = 3,
        first_kernel: int = 7,
        head_filters: int | None = None,
        dropout: float = 0.0,
        pixels: str | None = None,
        components: int | None = None,
        coupling: bool | None = None,
        channel_masks: bool | None = None,
        class_conditional: bool = False,
    ) -> None:
        super().__init__(
            space,
            pixels=pixels,
            components=components,
            coupling=coupling,
            channel_masks=channel_masks,
            class_conditional=class_conditional,
        )
        if kind not in KINDS:
            raise unknown_name("kind", kind, KINDS)
        hidden, groups = head_filters or 2 * units, self.head.groups
        check_network(groups, dropout, kernels=(kernel, first_kernel), units=units, head_filters=hidden, layers=layers)
        self.kind, self.kernel, self.first_reach = kind, kernel, first_kernel // 2
        inner, outer = spread_groups(units, groups), spread_groups(2 * units, groups)
        reach = self.first_reach
        self.first = CausalConv(self.input_groups, outer, (reach + 1, first_kernel), (reach, reach), "A")

        def layer(index: int) -> nn.Module:
            scale = layers**-0.5
            if kind == "row_lstm":
                return RowLSTM(outer, inner, kernel, self.classes, dropout, scale)
            return DiagonalBiLSTM(outer, inner, self.classes, dropout, scale, 0 if index else len(self.input_groups))

        self.layers = nn.ModuleList(layer(index) for index in range(layers))
        self.out = SiteMLP(2 * units, hidden, self.head)

    @property
    def stack(self) -> list[RowLSTM | DiagonalBiLSTM]:
        """The layers, in order."""
        return [layer for layer in self.layers if isinstance(layer, RowLSTM | DiagonalBiLSTM)]

    def outputs(self, levels: Tensor, label: Tensor | None = None) -> Tensor:
        """The network's outputs at every site, (B, C, H, W) to (B, P, H, W)."""
        size = (levels.shape[2], levels.shape[3])
        sites = self.stack[0].blocks(size).sites.to(levels.device)
        image = self.inputs(levels).permute(1, 2, 3, 0).flatten(1, 2).index_select(1, sites)  # (C + 1, S, B)
        x = apply_at_sites(self.first, image, sites, size)
        for layer in self.stack:
            x = layer(x, image, label, size)
        out = self.out.at_sites(x.flatten(1)).unflatten(1, x.shape[1:])
        return gather_sites(out, sites.argsort()).unflatten(1, size).permute(3, 0, 1, 2)

    @property
    def reach(self) -> int:
        """Sites to either side, and rows up, that any window reads."""
        return max(self.first_reach, self.kernel // 2 if self.kind == "row_lstm" else 1)

    @property
    def slope(self) -> int:
        """Columns that a row's wavefront is ahead of that of the row below (Row LSTM)."""
        return self.reach + 1

    @property
    def schedule(self) -> list[Positions]:
        """Wavefronts of the Row LSTM, whose windows reach a few columns to the right; the Diagonal BiLSTM sees whole rows."""
        _, height, width = self.space.sizes
        if self.kind == "row_lstm":
            return wavefront_schedule(height, width, self.slope)
        return raster_schedule(height, width)

    @property
    def raster_causal(self) -> bool:
        """Windows hold rows above and sites to the left; wavefronts only visit sites in another order."""
        return True

    def start(self, n: int, label: Tensor | None) -> SiteSteps:
        return PixelRNNSteps(self, n, label)
