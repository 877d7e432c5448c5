"""Transformers over an image's positions in integers: the integer form of `ImageTransformer` and `SparseTransformer`.

The stream is held in units of 2^-12. Contents, places, the start symbol and classes are tables of vectors in that unit.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from codelength.integer import IntegerLinear, Lookup, Requantize
from codelength.models.autoregressive.base import AutoregressiveModel
from codelength.models.autoregressive.pixel_sequence import PixelOrder
from codelength.models.autoregressive.pixel_transformer import PixelTransformer
from codelength.models.autoregressive.pixel_transformer_steps import TransformerState
from codelength.models.base import Positions
from codelength.models.quantized.attention import IntegerAttention, IntegerLayerNorm
from codelength.models.quantized.parts import STREAM_LIMIT, SumsTable, bounds
from codelength.models.quantized.site_head import IntegerSiteHead, SumsHead
from codelength.models.registry import build_model
from codelength.nn.attention import Block
from codelength.nn.conditions import LABEL
from codelength.pixels import PixelDistribution
from codelength.space import Space


class IntegerPixelTransformer(AutoregressiveModel):
    """The integer form of a `PixelTransformer`.

    Args:
        space: Images of at most 256 levels.
        system: "image_transformer" or "sparse_transformer".
        bits: Bits of activations.
        options: Of the float system.

    Raises:
        UsageError: One likelihood joins several channels, or see the float system.
    """

    exact_integers = True

    def __init__(self, space: Space, *, system: str, bits: int, **options: Any) -> None:
        skeleton = build_model(system, space, **options)  # for its shapes; its weights are not used
        assert isinstance(skeleton, PixelTransformer)
        super().__init__(space, conditioning=skeleton.conditioning)
        self.order: PixelOrder = skeleton.order
        self.content = IntegerContent(skeleton)
        width = skeleton.first.shape[0]
        self.places = Lookup(0, self.order.length, width)
        self.first = Lookup(0, 1, width)
        self.class_vectors = Lookup(0, skeleton.classes, width) if skeleton.classes else None
        blocks = [block for block in skeleton.stack.blocks if isinstance(block, Block)]
        self.stack = IntegerStack(blocks, width, self.order.length, bits)
        self.output = IntegerOutput(width, skeleton.output.out_features, bits, normalize=blocks[0].pre)
        self.single = SumsHead(skeleton.head.likelihood, space.levels)
        self.head, self.span = IntegerSiteHead(skeleton.head, self.single), None

    def surroundings(self, label: Tensor | None) -> Tensor:
        """What every position reads besides content, in units of STREAM, (1 or B, T, width)."""
        places = self.places.entries.unsqueeze(0)
        return places if self.class_vectors is None else places + self.class_vectors(label).unsqueeze(1)

    def contents(self, values: Tensor, start: int = 0) -> Tensor:
        """Levels of the positions from `start` on, (B, t, token), as vectors, (B, t, width)."""
        vectors: Tensor = self.content(values, start)
        return vectors

    @torch.no_grad()
    def conditionals(self, x: Tensor, **conditions: Tensor) -> PixelDistribution:
        """Distribution of every dim given those before it, in one parallel pass; x is (B, C, H, W)."""
        label = self.check_conditions(conditions, len(x)).get(LABEL)
        levels = self.space.validate(x) - self.space.offset
        first = self.first.entries.expand(len(levels), 1, -1)
        content = torch.cat([first, self.contents(self.order.sequence(levels)[:, :-1])], dim=1)
        sums = self.output(self.stack(content + self.surroundings(label)))
        return self.head(self.order.image(sums).flatten(1, 2))

    @property
    def schedule(self) -> list[Positions]:
        """One site a step."""
        return self.order.schedule

    @torch.no_grad()
    def init_state(self, n: int, **conditions: Tensor) -> TransformerState:
        """Nothing coded yet."""
        label = self.check_conditions(conditions, n).get(LABEL)
        return TransformerState(_Stepped(self), n, label)  # type: ignore[arg-type]

    @torch.no_grad()
    def step(self, state: TransformerState, values: Tensor | None) -> tuple[PixelDistribution, TransformerState]:
        """Distribution of the next positions, given the levels at those before, (n, C, S)."""
        return state.next(values), state


class _Stepped:
    """What `TransformerState` asks of a model."""

    def __init__(self, model: IntegerPixelTransformer) -> None:
        self.head, self.schedule, self.span, self.order = model.head, model.schedule, model.span, model.order
        self.stack, self.device, self.surroundings = model.stack, model.device, model.surroundings
        self.contents, self.output, self.first = model.contents, model.output, model.first.entries


class IntegerContent(nn.Module):
    """What a position holds, as a vector in units of STREAM: a table of the levels of each channel."""

    channel: Tensor

    def __init__(self, skeleton: PixelTransformer) -> None:
        super().__init__()
        content = skeleton.content
        self.levels = content.levels
        rows = len(content.weight) // content.levels if content.discrete else len(content.weight)
        self.register_buffer("channel", content.channel.clone(), persistent=False)  # (T, token)
        self.table = Lookup(0, rows * content.levels, content.weight.shape[1])

    def forward(self, values: Tensor, start: int = 0) -> Tensor:
        """Levels of the positions from `start` on, (B, t, token), to (B, t, width)."""
        channel = self.channel[start : start + values.shape[1]]
        vectors: Tensor = self.table(values + channel * self.levels).sum(2)
        return vectors


class IntegerBlock(nn.Module):
    """A `Block`: attention and a two-layer network, each in a residual branch.

    Args:
        block: The float block.
        width: Width of the stream.
        length: Number of positions.
        bits: Bits of activations.
    """

    def __init__(self, block: Block, width: int, length: int, bits: int) -> None:
        super().__init__()
        ends, attention = bounds(bits), block.attention
        masks = [pattern.mask(length) for pattern, count in attention.groups for _ in range(count)]
        sizes = attention.query.out_features, attention.value.out_features
        self.pre = block.pre
        self.attention = IntegerAttention(width, attention.heads, *sizes, torch.stack(masks), bits)
        hidden = block.widen.out_features
        # Before the branches normalization leads to their inputs; after the sums it leads back to the stream.
        limits = ends if self.pre else (-STREAM_LIMIT, STREAM_LIMIT)
        self.norm_attention, self.norm_network = (IntegerLayerNorm(width, *limits) for _ in range(2))
        self.attention_input, self.network_input = (None if self.pre else Requantize(width, *ends) for _ in range(2))
        self.widen, self.narrow = IntegerLinear(width, hidden, *ends), IntegerLinear(hidden, width, *ends)
        self.activation, self.hidden_input = SumsTable(hidden), Requantize(hidden, *ends)
        self.stream = Requantize(width, -STREAM_LIMIT, STREAM_LIMIT)

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, width) to (B, T, width), in units of STREAM."""
        return self._branches(x, None, None)

    def step(self, x: Tensor, position: int, cache: tuple[Tensor, Tensor]) -> Tensor:
        """One position, (n, width)."""
        return self._branches(x, position, cache)

    def _attend(self, a: Tensor, position: int | None, cache: tuple[Tensor, Tensor] | None) -> Tensor:
        if position is None or cache is None:
            attended: Tensor = self.attention(a)
            return attended
        return self.attention.step(a, position, cache)

    def _branches(self, x: Tensor, position: int | None, cache: tuple[Tensor, Tensor] | None) -> Tensor:
        if self.attention_input is None or self.network_input is None:
            x = x + self._attend(self.norm_attention(x), position, cache)
            return x + self._network(self.norm_network(x))
        x = self.norm_attention(x + self._attend(self.attention_input(x), position, cache))
        out: Tensor = self.norm_network(x + self._network(self.network_input(x)))
        return out

    def _network(self, a: Tensor) -> Tensor:
        hidden = self.hidden_input(self.activation(self.widen(a.flatten(0, -2))))
        out: Tensor = self.stream(self.narrow(hidden)).view(a.shape)
        return out


class IntegerStack(nn.Module):
    """Blocks one after the other."""

    def __init__(self, blocks: list[Block], width: int, length: int, bits: int) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(IntegerBlock(block, width, length, bits) for block in blocks)

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, width) to (B, T, width)."""
        for block in self.blocks:
            x = block(x)
        return x

    def caches(self, n: int, length: int, group: int = 1) -> list[tuple[Tensor, Tensor]]:
        """Empty caches of every block for n sequences."""
        return [block.attention.cache(n) for block in self.blocks if isinstance(block, IntegerBlock)]

    def step(self, x: Tensor, position: int, caches: list[tuple[Tensor, Tensor]]) -> Tensor:
        """One position, (n, width) to (n, width)."""
        for block, cache in zip(self.blocks, caches, strict=True):
            assert isinstance(block, IntegerBlock)
            x = block.step(x, position, cache)
        return x


class IntegerOutput(nn.Module):
    """The last normalization, where there is one, and the sums of the outputs."""

    def __init__(self, width: int, outputs: int, bits: int, *, normalize: bool) -> None:
        super().__init__()
        ends = bounds(bits)
        self.grid = IntegerLayerNorm(width, *ends) if normalize else Requantize(width, *ends)
        self.layer = IntegerLinear(width, outputs, *ends)

    def forward(self, x: Tensor) -> Tensor:
        """(..., width) in units of STREAM to exact sums, (..., outputs)."""
        sums: Tensor = self.layer(self.grid(x).flatten(0, -2))
        return sums.view(*x.shape[:-1], -1)


def integer_image_transformer(space: Space, *, bits: int, **options: Any) -> IntegerPixelTransformer:
    """The integer form of the system `image_transformer`."""
    return IntegerPixelTransformer(space, system="image_transformer", bits=bits, **options)


def integer_sparse_transformer(space: Space, *, bits: int, **options: Any) -> IntegerPixelTransformer:
    """The integer form of the system `sparse_transformer`."""
    return IntegerPixelTransformer(space, system="sparse_transformer", bits=bits, **options)
