"""Sparse Transformer: attention factorized into two patterns, which together reach every position before.

    P(x) = Π_i P(x_i | x_<i),    x_i the i-th byte: every channel of every site, in raster order.

With stride l (arXiv:1904.10509, section 4.3):

    strided   A1_i = {j : i − l <= j <= i},               A2_i = {j <= i : (i − j) mod l = 0}
    fixed     A1_i = {j <= i : same block of l},          A2_i = {j <= i : j mod l in the last c of a block}

Whatever j <= i: with strided patterns i reaches a position less than l after j by A2, and that one reaches j by A1, in this
order of layers or the other; with fixed ones the last position of j's block gathers j by A1 and i sees it by A2. So two
layers (one of each) see everything, and a layer costs T l or T²/l instead of T²: O(T sqrt(T)) for l near sqrt(T).

Blocks are pre-activation residual blocks (section 5.2), weights start at N(0, 0.125 / sqrt(inputs)), the last matrix of each
branch 1 / sqrt(2 layers) of that, the head at zero (section 6).

Reference: Sparse Transformer, arXiv:1904.10509. CIFAR-10 in the paper: 128 layers, 2 heads, width 256, stride 128, half-size
queries, keys and feed-forward, 59 million parameters. Departures: GELU in its tanh form; fixed patterns see position 0 too,
which holds the start symbol.
"""

from __future__ import annotations

from typing import Literal

from torch import nn

from codelength.errors import UsageError
from codelength.models.autoregressive.pixel_sequence import Content, PixelOrder, PlaceEncoding
from codelength.models.autoregressive.pixel_transformer import Parts, PixelTransformer, check_network
from codelength.nn.attention import Attention, Block, Stack
from codelength.nn.attention_patterns import LocalBlocks, Pattern, Strided, Summaries
from codelength.space import Space

GAIN = 0.125


class SparseTransformer(PixelTransformer):
    """Sparse Transformer.

    Args:
        space: Images of a fixed size.
        pattern: "strided", for data with rows; or "fixed".
        stride: l, in positions; the length of an image's row by default.
        summary: c of the fixed pattern. Heads take distinct parts of a block, as long as there are any.
        mixing: "layers": one pattern a layer, in turn; "heads": half of the heads of every layer each.
        layers: Residual blocks.
        width: Width of the stream.
        heads: Attention heads.
        key_width: Width of all heads' queries, and of their keys, together; `width` by default.
        feed_forward: Units of the two-layer network, 4 * width by default.
        dropout: At the end of every branch, in training.
        pixels: "bernoulli", "categorical" or "logistic_mixture"; by default "bernoulli" for two levels, "categorical" for
            up to 256, "logistic_mixture" for more.
        components: Mixture components of "logistic_mixture".
        coupling: Whether the channels of a site depend on each other inside a mixture component.
        channel_positions: Whether every channel is a position of its own, as in the paper; by default but for mixtures of
            logistics, which join a site's channels.
        class_conditional: Condition on the class, passed as `label=`.
        checkpoint: Compute activations again in the backward pass instead of keeping them.

    Raises:
        UsageError: The options do not fit each other or the space.
    """

    def __init__(
        self,
        space: Space,
        *,
        pattern: Literal["strided", "fixed"] = "strided",
        stride: int | None = None,
        summary: int = 8,
        mixing: Literal["layers", "heads"] = "layers",
        layers: int = 128,
        width: int = 256,
        heads: int = 2,
        key_width: int | None = None,
        feed_forward: int | None = None,
        dropout: float = 0.25,
        pixels: str | None = None,
        components: int | None = None,
        coupling: bool | None = None,
        channel_positions: bool | None = None,
        class_conditional: bool = False,
        checkpoint: bool = False,
    ) -> None:
        check_network(space, dropout, layers=layers, width=width, heads=heads, feed_forward=feed_forward or 1)
        if pixels is None and 2 < space.levels <= 256:
            pixels = "categorical"
        super().__init__(
            space,
            pixels=pixels,
            components=components,
            coupling=coupling,
            channel_masks=channel_positions,
            class_conditional=class_conditional,
        )
        group = self.head.groups
        order = PixelOrder(space, "dims" if group > 1 else "sites")
        stride = min(stride or order.width * order.group, order.length)
        patterns = _patterns(pattern, mixing, stride, summary, heads)

        def layer(index: int) -> Block:
            attention = Attention(width, heads, patterns[index % len(patterns)], key_width=key_width)
            return Block(attention, width, feed_forward or 4 * width, dropout=dropout)

        discrete = self.head.likelihood.name != "logistic_mixture"
        scale, vectors = GAIN * width**-0.5, 3 if group > 1 else 2  # vectors of a place
        parts = Parts(
            order,
            Content(order, space.levels, width, discrete=discrete, shared=True, scale=scale),
            PlaceEncoding(order, width, "sum", scale=scale * vectors**-0.5),
            Stack([layer(index) for index in range(layers)], width, checkpoint=checkpoint),
            width,
            output_scale=0.0,
            symbol_scale=scale,
        )
        _initialize(parts.stack, layers)
        self.assemble(parts)


def _patterns(kind: str, mixing: str, stride: int, summary: int, heads: int) -> list[list[Pattern]]:
    """The patterns of a layer's heads, for the layers in turn."""
    if kind not in ("strided", "fixed") or mixing not in ("layers", "heads"):
        raise UsageError(f"pattern={kind!r}, mixing={mixing!r}; wanted strided or fixed, layers or heads")
    if stride < 1 or (not 1 <= summary <= stride and kind == "fixed"):
        raise UsageError(f"stride={stride}, summary={summary}; wanted 1 <= summary <= stride")
    if mixing == "heads" and heads % 2:
        raise UsageError(f"mixing=heads with heads={heads}; wanted an even number")
    count = heads // 2 if mixing == "heads" else heads
    near: list[Pattern]
    far: list[Pattern]
    if kind == "strided":
        near, far = [LocalBlocks(stride, stride, stride)] * count, [Strided(stride)] * count
    else:
        near = [LocalBlocks(stride, 0)] * count
        far = [Summaries(stride, summary, head % (stride // summary)) for head in range(count)]
    return [near + far] if mixing == "heads" else [near, far]


def _initialize(stack: Stack, layers: int) -> None:
    """The paper's start, section 6: biases 0, weights N(0, GAIN / sqrt(inputs)), the ends of branches smaller."""
    for name, module in stack.named_modules():
        if isinstance(module, nn.Linear):
            last = name.endswith(("out", "narrow"))
            std = GAIN * module.in_features**-0.5 * ((2 * layers) ** -0.5 if last else 1)
            nn.init.normal_(module.weight, std=std)
            nn.init.zeros_(module.bias)
