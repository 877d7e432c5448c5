"""Causal lattice network: a causal window network whose sites hear, at every layer, from the sites coded before.

    P(x) = Π_sites Π_c P(x_site,c | all sites above whose light reaches it, sites to the left, x_site,<c)

Each site runs the residual perceptron of `causal_window` on its window. At layer l it also receives a message of each of
six neighbours (west, north, north-west, north-east, two to the west, two to the north):

    f_l+1(s) = f_l(s) + gelu(W f_l(s) + Σ_k V_k m_l(s + k)),    m_l(s') = U [f_l(s'), r(s')]

where r(s') is how far the neighbour's channels lay from their prediction, known by then. A network of L layers so sees 2 L
rows further up than its window, at a fifth more work a site, and what a neighbour has found out of its surroundings need not be
found out again. Features pass between sites as in a PixelCNN (arXiv:1601.06759); the inputs and heads are those of a window network.

A site's features depend on earlier sites only, so that coding keeps them: every site is computed once, along the same wavefronts
as a causal window's. Training takes a random square of each image; what lies outside it is seen by the windows and sends no message.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu, pad

from codelength.errors import UsageError
from codelength.models.autoregressive.causal_window import CausalWindow, every_site
from codelength.models.autoregressive.causal_window_heads import WindowDistribution
from codelength.models.base import Positions
from codelength.nn.conditions import LABEL
from codelength.nn.site_cache import CachedSites, Offsets, Places, Ring
from codelength.pixels import PixelDistribution
from codelength.randomness import SharedNoise, integers
from codelength.space import Space

NEIGHBOURS: Offsets = ((0, -1), (-1, 0), (-1, -1), (-1, 1), (0, -2), (-2, 0))
"""Row and column of the senders, relative to the site."""

FAR = 2
"""As far as a neighbour lies."""

SITES_PER_CHUNK = 2**15
"""Sites in one pass of the network outside training, whole images: what its activations take memory for."""


class CausalLattice(CausalWindow):
    """A causal window network with messages between sites; the options that it shares are described there.

    Args:
        space: Images (C, H, W).
        rows, reach, width, layers, head_width, components, pixels, coupling, class_conditional: As of `CausalWindow`; two layers at least.
        message_width: Numbers in a message.
        crop: Side of the random square of each image that a training step scores; 0 for whole images. The square's mean
            code length a site times the number of sites estimates the image's (sites at the border are drawn less often, and
            those of a square's border hear less: it is an estimate from above, not an unbiased one).

    Raises:
        UsageError: As of `CausalWindow`, or there is no layer for messages.
    """

    def __init__(
        self,
        space: Space,
        *,
        rows: int = 5,
        reach: int = 5,
        width: int = 256,
        layers: int = 4,
        head_width: int = 128,
        components: int | None = None,
        message_width: int = 64,
        crop: int = 16,
        pixels: str | None = None,
        coupling: bool | None = None,
        class_conditional: bool = False,
    ) -> None:
        shared: dict[str, Any] = {
            "rows": rows,
            "reach": reach,
            "width": width,
            "layers": layers,
            "head_width": head_width,
        }
        shared |= {
            "components": components,
            "pixels": pixels,
            "coupling": coupling,
            "class_conditional": class_conditional,
        }
        super().__init__(space, **shared)
        if layers < 2 or message_width < 1 or crop < 0:
            raise UsageError(
                f"causal_lattice: layers={layers}, message_width={message_width}, crop={crop}; wanted 2, 1 and 0 at least"
            )
        self.crop = crop
        told = width + 2 * space.sizes[0]
        self.say = nn.ModuleList(nn.Linear(told, message_width) for _ in self.hidden)
        self.hear = nn.ModuleList(nn.Linear(len(NEIGHBOURS) * message_width, width, bias=False) for _ in self.hidden)

    def training_objective(self, x: Tensor, generator: torch.Generator | SharedNoise, **conditions: Tensor) -> Tensor:
        """Estimate of −log P(x) from a random square of each image, nats, (B,)."""
        levels = self.space.validate(x) - self.space.offset
        label = self.check_conditions(conditions, len(x)).get(LABEL)
        height, width = levels.shape[2:]
        shape = (min(self.crop or height, height), min(self.crop or width, width))
        corners = [
            integers(whole - part + 1, (len(x), 1, 1), generator).to(x.device)
            for whole, part in zip((height, width), shape, strict=True)
        ]
        row = (corners[0] + torch.arange(shape[0], device=x.device)[:, None]).expand(len(x), *shape)
        column = (corners[1] + torch.arange(shape[1], device=x.device)).expand(len(x), *shape)
        image = torch.arange(len(x), device=x.device)[:, None, None].expand(len(x), *shape)
        places = image.flatten(), row.flatten(), column.flatten()
        distribution = self._on_grid(levels, places, (len(x), shape), label)
        scored = levels[image, :, row, column].movedim(-1, 1)
        nats = -distribution.log_prob_per_dim(scored).flatten(1).sum(1)
        return nats * (height * width / (shape[0] * shape[1]))

    def log_prob(self, x: Tensor, **conditions: Tensor) -> Tensor:
        """Exact log P(x), nats, (B,), float64; a few images at a time."""
        x = self.space.validate(x)
        chunk = max(1, SITES_PER_CHUNK // (x.shape[2] * x.shape[3]))
        nats = [
            self.conditionals(x[i : i + chunk], **{name: value[i : i + chunk] for name, value in conditions.items()})
            .log_prob_per_dim(x[i : i + chunk] - self.space.offset)
            .flatten(1)
            .sum(1, dtype=torch.float64)
            for i in range(0, len(x), chunk)
        ]
        return torch.cat(nats) if nats else torch.zeros(0, dtype=torch.float64, device=x.device)

    def conditionals(self, x: Tensor, **conditions: Tensor) -> PixelDistribution:
        """Distribution of every dim given those before it, in one parallel pass; x is (B, C, H, W)."""
        levels = self.space.validate(x) - self.space.offset
        label = self.check_conditions(conditions, len(x)).get(LABEL)
        return self._on_grid(levels, every_site(levels), (len(x), (levels.shape[2], levels.shape[3])), label)

    def _on_grid(
        self,
        levels: Tensor,
        places: tuple[Tensor, Tensor, Tensor],
        grid: tuple[int, tuple[int, int]],
        label: Tensor | None,
    ) -> WindowDistribution:
        """The distribution at all sites of a rectangle of each image; places: image, row and column, in raster order."""
        image, row, column = places
        inputs, prediction = self.window.inputs(self.window.pad(levels), *places, self.units)
        surprise = self._surprise(levels[image, :, row, column], prediction)
        label = None if label is None else label[image]
        features = self._first(inputs.to(self.dtype), label)
        for index in range(len(self.hidden)):
            messages = self._messages(index, features, surprise).unflatten(0, (grid[0], *grid[1]))
            features = self._next(index, features, _neighbours(messages).flatten(0, 2), label)
        return WindowDistribution(self.heads, self.units, features, prediction, grid, self.space.levels)

    def _first(self, inputs: Tensor, label: Tensor | None) -> Tensor:
        """Features before the first message, (M, width)."""
        return gelu(self._with_class(0, self.embed(inputs), label), approximate="tanh")

    def _messages(self, index: int, features: Tensor, surprise: Tensor) -> Tensor:
        """What sites tell at a layer, (M, message_width)."""
        told: Tensor = self.say[index](torch.cat([features, surprise.to(features.dtype)], dim=1))
        return told

    def _next(self, index: int, features: Tensor, heard: Tensor, label: Tensor | None) -> Tensor:
        """Features after a layer; heard: the neighbours' messages side by side, (M, neighbours * message_width)."""
        units = self.hidden[index](features) + self.hear[index](heard)
        return features + gelu(self._with_class(index + 1, units, label), approximate="tanh")

    def _surprise(self, values: Tensor, prediction: Tensor) -> Tensor:
        """How far the channels lie from their prediction, on two scales: (M, C) levels twice to (M, 2 C)."""
        residual = (values - prediction) * self.units.per_level
        return torch.cat([residual / 64, torch.asinh(residual / 4) / 2], dim=1)

    def init_state(self, n: int, **conditions: Tensor) -> LatticeState:  # type: ignore[override]
        """Nothing coded yet."""
        label = self.check_conditions(conditions, n).get(LABEL)
        empty = torch.zeros((n, *self.space.sizes), dtype=torch.long, device=self.device)
        ring = Ring.of_wavefront(n, self.window.width, FAR, self.window.reach + 1)
        stores = [CachedSites(ring, say.out_features, say.weight) for say in self.say if isinstance(say, nn.Linear)]
        return LatticeState(self.window.pad(empty), self.schedule, ring, stores, label)

    def step(self, state: LatticeState, values: Tensor | None) -> tuple[PixelDistribution, LatticeState]:  # type: ignore[override]
        """Distribution of the next wavefront; `values` are the levels of the one before."""
        if values is not None and state.last is not None:
            self._learn(state, values, *state.last)
        n, positions = len(state.padded), state.positions[state.time]
        state.time += 1
        rows, columns = positions.rows.to(self.device), positions.columns.to(self.device)
        places, count = Places(state.ring, rows, columns), len(rows)
        image = torch.arange(n, device=self.device).repeat_interleave(count)
        label = None if state.label is None else state.label[image]
        inputs, prediction = self.window.inputs(state.padded, image, rows.repeat(n), columns.repeat(n), self.units)
        features, passed = self._first(inputs.to(self.dtype), label), []
        for index, store in enumerate(state.stores):
            passed.append(features)
            features = self._next(index, features, store.windows(places, NEIGHBOURS), label)
        state.last = places, prediction, passed
        return WindowDistribution(self.heads, self.units, features, prediction, (n, (count,)), self.space.levels), state

    def _learn(
        self, state: LatticeState, values: Tensor, places: Places, prediction: Tensor, passed: list[Tensor]
    ) -> None:
        """Write the values of the last step, (n, C, S), and what its sites tell."""
        self.window.write(state.padded, state.positions[state.time - 1], values)
        surprise = self._surprise(values.to(self.device).movedim(1, -1).flatten(0, 1), prediction)
        for index, (store, features) in enumerate(zip(state.stores, passed, strict=True)):
            store.put(places, self._messages(index, features, surprise).unflatten(0, (len(values), -1)))


@dataclass
class LatticeState:
    """What steps remember.

    Args:
        padded: The images so far, (n, padded sites, C + 1).
        positions: The wavefronts.
        ring: Shape of the stores.
        stores: Messages of each layer.
        label: The classes.
        time: Which wavefront comes next.
        last: Places, predictions and features before each message of the last wavefront: what its messages are made of
            when its values are known.
    """

    padded: Tensor
    positions: list[Positions]
    ring: Ring
    stores: list[CachedSites]
    label: Tensor | None = None
    time: int = 0
    last: tuple[Places, Tensor, list[Tensor]] | None = None


def _neighbours(messages: Tensor) -> Tensor:
    """Messages of the neighbours side by side, (n, h, w, M) -> (n, h, w, neighbours * M); outside there are none."""
    height, width = messages.shape[1:3]
    around = pad(messages, (0, 0, FAR, FAR, FAR, 0))
    return torch.cat([around[:, FAR + r : FAR + r + height, FAR + c : FAR + c + width] for r, c in NEIGHBOURS], dim=-1)
