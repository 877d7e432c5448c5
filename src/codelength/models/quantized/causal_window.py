"""The causal window network in integers: the factorization, window and heads of `causal_window` in exact arithmetic.

Levels become differences from the prediction, which are integers already; each function of them (linear, asinh) is a table. The trunk's
residual stream is held in units of 2^-12 and requantized for each product; GELU is a table over the rounded sums.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from codelength.integer import IntegerChannel, IntegerDistribution, IntegerLinear, LogisticTables, Lookup, Requantize
from codelength.integer.mixture import MEAN_UNIT
from codelength.integer.tables import select_rows
from codelength.models.autoregressive.base import AutoregressiveModel
from codelength.models.autoregressive.causal_window import WindowState
from codelength.models.autoregressive.causal_window_inputs import Window, median_edge
from codelength.models.base import Positions
from codelength.models.quantized.parts import MixtureGrid, SumsTable, WeightGrid, add_exact, bounds, table_bits
from codelength.nn.conditions import LABEL, conditioning_of, label_classes
from codelength.pixels import PixelDistribution, pixel_likelihood
from codelength.space import Space

SITES_PER_CHUNK = 2**10
"""Sites in one pass of the network: its activations should stay in the processor's cache."""
COLUMN_FEATURES = 3
ROW_FEATURES = 2


class IntegerCausalWindow(AutoregressiveModel):
    """The integer form of a `CausalWindow`; its arguments beside `bits` are those of the float model.

    Args:
        bits: Bits of activations.
    """

    exact_integers = True

    def __init__(
        self,
        space: Space,
        *,
        bits: int = 10,
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
        name = pixel_likelihood(space, pixels, components).name
        low, high = bounds(bits)
        self.window = Window(space, rows, reach)
        self.inputs = WindowInputs(self.window)
        self.embed = IntegerLinear(self.window.num_inputs, width, *bounds(table_bits(bits)))
        self.hidden = nn.ModuleList(IntegerLinear(width, width, low, high) for _ in range(layers - 1))
        self.class_biases = nn.ModuleList(Lookup(0, classes, width) for _ in range(layers) if classes)
        self.gelus = nn.ModuleList(SumsTable(width) for _ in range(layers))
        # One for each hidden layer, and a last one for the heads.
        self.requantize = nn.ModuleList(Requantize(width, low, high) for _ in range(layers))
        self.tables = LogisticTables(space.levels) if name == "logistic_mixture" else None
        self.heads = nn.ModuleList(
            IntegerHead(width, head_width, channel, coupling is not False, name, components or 10, space.levels, bits)
            for channel in range(space.sizes[0])
        )

    def trunk(self, inputs: Tensor, label: Tensor | None = None) -> Tensor:
        """Features of each site, integers (M, width), from the inputs, (M, num_inputs), and the classes, (M,)."""
        stream = self.gelus[0](self._with_class(0, self.embed(inputs), label))
        for index, layer in enumerate(self.hidden, start=1):
            sums = self._with_class(index, layer(self.requantize[index - 1](stream)), label)
            stream = self.gelus[index](sums).add_(stream)
        features: Tensor = self.requantize[-1](stream)
        return features

    def _with_class(self, index: int, sums: Tensor, label: Tensor | None) -> Tensor:
        if label is None:
            return sums
        # In int32: the proof of the layer does not count the class's bias.
        return sums.to(torch.int32) + self.class_biases[index](label).to(torch.int32)

    @torch.no_grad()
    def log_prob(self, x: Tensor, **conditions: Tensor) -> Tensor:
        """Exact log P(x), nats, (B,), float64: the sum of the logs of integer masses."""
        levels = self.space.validate(x) - self.space.offset
        label = self.check_conditions(conditions, len(x)).get(LABEL)
        padded, places = self.inputs.pad(levels), every_site(levels)
        nats = []
        for image, row, column in zip(*(index.split(SITES_PER_CHUNK) for index in places), strict=True):
            at = self._at(padded, (image, row, column), (len(image), ()), label)
            nats.append(at.log_prob_per_dim(levels[image, :, row, column]).sum(1))
        return torch.cat(nats).view(len(levels), -1).sum(1)

    def _at(
        self,
        padded: Tensor,
        places: tuple[Tensor, Tensor, Tensor],
        shape: tuple[int, tuple[int, ...]],
        label: Tensor | None,
    ) -> IntegerWindowDistribution:
        """The distribution at some sites (image, row, column), laid out as `shape`; label of each image."""
        features, predictions = [], []
        for part in zip(*(index.split(SITES_PER_CHUNK) for index in places), strict=True):
            inputs, prediction = self.inputs(padded, *part)
            features.append(self.trunk(inputs, None if label is None else label[part[0]]))
            predictions.append(prediction)
        return IntegerWindowDistribution(self, torch.cat(features), torch.cat(predictions), shape)

    @torch.no_grad()
    def conditionals(self, x: Tensor, **conditions: Tensor) -> PixelDistribution:
        """Distribution of every dim given those before it, in one parallel pass; x is (B, C, H, W)."""
        levels = self.space.validate(x) - self.space.offset
        label = self.check_conditions(conditions, len(x)).get(LABEL)
        shape = len(levels), tuple(levels.shape[2:])
        return self._at(self.inputs.pad(levels), every_site(levels), shape, label)

    @property
    def schedule(self) -> list[Positions]:
        """Wavefronts: the sites with column + (reach + 1) * row = t, for t = 0, 1, ..."""
        return self.window.wavefronts()

    @property
    def raster_causal(self) -> bool:
        """See `CausalWindow`."""
        return True

    def init_state(self, n: int, **conditions: Tensor) -> WindowState:
        """Nothing coded yet."""
        label = self.check_conditions(conditions, n).get(LABEL)
        empty = torch.zeros((n, *self.space.sizes), dtype=torch.long, device=self.device)
        return WindowState(self.inputs.pad(empty), self.schedule, label)

    @torch.no_grad()
    def step(self, state: WindowState, values: Tensor | None) -> tuple[PixelDistribution, WindowState]:
        """Distribution of the next wavefront; `values` are the levels of the one before."""
        n = state.padded.shape[1]
        if values is not None:
            self.inputs.write(state.padded, state.positions[state.time - 1], values)
        positions = state.positions[state.time]
        state.time += 1
        count = len(positions.rows)
        image = torch.arange(n, device=self.device).repeat_interleave(count)
        places = image, positions.rows.to(self.device).repeat(n), positions.columns.to(self.device).repeat(n)
        return self._at(state.padded, places, (n, (count,)), state.label), state


class WindowInputs(nn.Module):
    """What the integer network sees of a window: tables of the integer differences, predictions and positions.

    Inputs of a site: channel by channel, for each offset the linear and the asinh function of its difference; the predictions; two
    functions of the row, three of the column; differences of the channels' predictions.

    Images are held as planes of integers, padded like `Window.pad`'s; what lies outside is OUTSIDE, beyond every
    difference, for which the table's last row is 0.
    """

    def __init__(self, window: Window) -> None:
        super().__init__()
        self.start: Tensor
        self.window, self.levels = window, window.levels
        self.outside = 4 * window.levels
        self.register_buffer("start", torch.tensor(window.levels // 2, dtype=torch.int32))
        self.difference = Lookup(1 - self.levels, 2 * self.levels, 2)
        self.relative = Lookup(0, self.levels)
        self.row = Lookup(0, window.height, ROW_FEATURES)
        self.column = Lookup(0, window.width, COLUMN_FEATURES)
        self.between = Lookup(1 - self.levels, 2 * self.levels - 1)

    def pad(self, levels: Tensor) -> Tensor:
        """(B, C, H, W) levels -> (C, B, padded sites) int32."""
        window = self.window
        shape = (levels.shape[1], len(levels), window.rows + window.height, window.padded_width)
        padded = torch.full(shape, self.outside, dtype=torch.int32, device=levels.device)
        padded[:, :, window.rows :, window.reach : window.reach + window.width] = levels.transpose(0, 1)
        return padded.flatten(2)

    def write(self, padded: Tensor, positions: Positions, values: Tensor) -> None:
        """Put values, (n, C, S), at positions of padded images, in place."""
        window = self.window
        site = (positions.rows + window.rows) * window.padded_width + positions.columns + window.reach
        padded[:, :, site.to(padded.device)] = values.transpose(0, 1).to(padded.dtype)

    def forward(self, padded: Tensor, image: Tensor, row: Tensor, column: Tensor) -> tuple[Tensor, Tensor]:
        """Inputs, float32 integers (M, num_inputs), and predictions in levels, int32 (M, C); see `Window.inputs`."""
        window = self.window
        site = image * padded.shape[2] + (row + window.rows) * window.padded_width + column + window.reach
        index = (site.to(torch.int32).unsqueeze(1) + window.shifts.to(site.device, torch.int32)).flatten()
        parts, predictions = [], []
        for plane in padded:
            values = torch.index_select(plane.flatten(), 0, index).view(len(site), -1)  # (M, O)
            prediction = self._predict(values)
            # Of what lies outside the difference is larger than any: it gets the last row.
            values -= prediction - (self.levels - 1)
            differences = values.clamp_(max=2 * self.levels - 1).flatten()
            parts.append(select_rows(self.difference.entries, differences).view(len(site), -1))
            predictions.append(prediction)
        prediction = torch.cat(predictions, dim=1)
        places = self.relative(prediction), self.row(row), self.column(column), self.between(prediction.diff(dim=1))
        return torch.cat([*parts, *places], dim=1), prediction

    def _predict(self, values: Tensor) -> Tensor:
        """The median-edge prediction, (M, 1), of one channel's window, (M, O)."""
        at = self.window.offsets.index
        north, west, north_west = (values[:, at(o), None].contiguous() for o in ((-1, 0), (0, -1), (-1, -1)))
        return median_edge(north, west, north_west, north < self.levels, west < self.levels, self.start)


class IntegerHead(nn.Module):
    """The distribution of one channel from the trunk's features and the channels before; arguments as for `ChannelHead`."""

    def __init__(
        self,
        width: int,
        head_width: int,
        channel: int,
        coupled: bool,
        pixels: str,
        components: int,
        levels: int,
        bits: int,
    ) -> None:
        super().__init__()
        low, high = bounds(bits)
        self.channel, self.levels, self.coupled = channel, levels, coupled and channel > 0
        mixture = pixels == "logistic_mixture"
        if self.coupled:
            self.features = IntegerLinear(width, head_width, low, high)
            self.residuals = IntegerLinear(4 * channel, head_width, *bounds(table_bits(bits)))
            self.known = Lookup(1 - levels, 2 * levels - 1, 4)
            self.center = Lookup(1 - levels, 2 * levels - 1)
            self.gelu = SumsTable(head_width)
            self.requantize = Requantize(head_width, low, high)
        outputs = 3 * components if mixture else levels if pixels == "categorical" else 1
        self.out = IntegerLinear(head_width if self.coupled else width, outputs, low, high)
        self.grid: MixtureGrid | WeightGrid = MixtureGrid(components) if mixture else WeightGrid(outputs)

    def forward(
        self, features: Tensor, prediction: Tensor, previous: Tensor, tables: LogisticTables | None, shape: torch.Size
    ) -> IntegerChannel:
        """The channel's distribution at M sites; arguments as for `ChannelHead`, all integers."""
        center = (prediction[:, self.channel] * MEAN_UNIT).float()
        if self.coupled:
            residual = previous[:, : self.channel] - prediction[:, : self.channel]
            known = self.residuals(self.known(residual).flatten(1))
            sums = add_exact((self.features, self.features(features)), (self.residuals, known))
            features = self.requantize(self.gelu(sums))
            center = center + self.center(residual[:, -1])
        sums = self.out(features)
        if isinstance(self.grid, WeightGrid):
            return self.grid(sums, shape)
        return self.grid(sums, center.unsqueeze(1), tables, shape)


class IntegerWindowDistribution(IntegerDistribution):
    """Distribution of the channels at some sites; see `WindowDistribution`."""

    def __init__(
        self, model: IntegerCausalWindow, features: Tensor, prediction: Tensor, shape: tuple[int, tuple[int, ...]]
    ) -> None:
        self.heads, self.tables, self.features, self.prediction = model.heads, model.tables, features, prediction
        batch, sites = shape
        super().__init__(batch, prediction.shape[1], torch.Size(sites), model.space.levels)

    def channel(self, c: int, previous: Tensor) -> IntegerChannel:
        before = previous.movedim(1, -1).flatten(0, -2).to(self.prediction)
        shape = torch.Size((*self.batch_shape, *self.sites))
        channel: IntegerChannel = self.heads[c](self.features, self.prediction, before, self.tables, shape)
        return channel


def every_site(levels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Image, row and column of every site of (B, C, H, W), image by image, (B * H * W,) each."""
    batch, _, height, width = levels.shape
    place = torch.arange(batch * height * width, device=levels.device)
    site = place % (height * width)
    return place // (height * width), site // width, site % width
