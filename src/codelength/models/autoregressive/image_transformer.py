"""Image Transformer: self-attention inside blocks of an image and the memory around them.

    P(x) = Π_i P(x_i | x_<i),    x_i the i-th dim (or site) in the order of generation.

Positions are cut into query blocks. All positions of a block attend to the block itself, as far as it is generated, and to
a memory of positions before it; one layer sees no further, but each layer adds its memory to what the ones before saw.

    1d   blocks of `query` consecutive positions in raster order; memory: the `memory` positions before the block
    2d   rectangles of `query` rows and columns, generated one after the other; memory: `memory` rows above the
         rectangle and columns to either side, as far as they are generated

A layer normalizes after each sum (arXiv:1802.05751, eqs. (1)-(2)):

    q_a = norm(q + drop(softmax(W_q q (M W_k)ᵀ / sqrt(d)) M W_v)),      q' = norm(q_a + drop(W_1 relu(W_2 q_a)))

Inputs: an embedding of every channel's value where values are categorical, one projection of a site's channels where they
are mixtures of logistics, plus row and column encodings of half the width each.

Reference: Image Transformer, arXiv:1802.05751. Departure: the memory of a block is exact at the image's edges, where the
paper pads.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from codelength.errors import UsageError
from codelength.models.autoregressive.pixel_sequence import Content, PixelOrder, PlaceEncoding
from codelength.models.autoregressive.pixel_transformer import Parts, PixelTransformer, check_network
from codelength.nn.attention import Attention, Block, Stack
from codelength.nn.attention_patterns import GridBlocks, LocalBlocks, Pattern
from codelength.space import Space


class ImageTransformer(PixelTransformer):
    """Image Transformer.

    Args:
        space: Images of a fixed size.
        block: "1d" or "2d".
        query: Positions of a query block (1d), or its rows and columns of sites (2d), which must divide the image.
        memory: Positions before the block (1d), or rows above and columns to either side (2d).
        layers: Layers.
        width: Width of the stream.
        heads: Attention heads.
        attention_width: Width of all heads' keys, and of their values, together; `width` by default.
        feed_forward: Units of the two-layer network, 4 * width by default.
        dropout: At the end of every branch, in training.
        norm: "post": normalize sums, as the paper; "pre": the branches' inputs, which trains without a long warm-up.
        positions: Encoding of rows and columns, "sine" or "learned".
        pixels: "bernoulli", "categorical" or "logistic_mixture"; by default the first for two levels, else the last.
        components: Mixture components of "logistic_mixture".
        coupling: Whether the channels of a site depend on each other inside a mixture component.
        channel_positions: Whether every channel is a position of its own; by default where the likelihood does not join
            channels, that is but for mixtures.
        class_conditional: Condition on the class, passed as `label=`.
        checkpoint: Compute activations again in the backward pass instead of keeping them.

    Raises:
        UsageError: The options do not fit each other or the space.
    """

    def __init__(
        self,
        space: Space,
        *,
        block: Literal["1d", "2d"] = "1d",
        query: int | Sequence[int] = 256,
        memory: int | Sequence[int] = 256,
        layers: int = 12,
        width: int = 512,
        heads: int = 4,
        attention_width: int | None = None,
        feed_forward: int | None = None,
        dropout: float = 0.1,
        norm: Literal["post", "pre"] = "post",
        positions: Literal["sine", "learned"] = "sine",
        pixels: str | None = None,
        components: int | None = None,
        coupling: bool | None = None,
        channel_positions: bool | None = None,
        class_conditional: bool = False,
        checkpoint: bool = False,
    ) -> None:
        check_network(space, dropout, layers=layers, width=width, heads=heads, feed_forward=feed_forward or 1)
        if norm not in ("post", "pre") or positions not in ("sine", "learned"):
            raise UsageError(f"norm={norm!r}, positions={positions!r}; wanted post or pre, sine or learned")
        super().__init__(
            space,
            pixels=pixels,
            components=components,
            coupling=coupling,
            channel_masks=channel_positions,
            class_conditional=class_conditional,
        )
        group = self.head.groups
        pattern, sites = _pattern(space, group, block, query, memory)
        order = PixelOrder(space, "dims" if group > 1 else "sites", sites)
        discrete = self.head.likelihood.name != "logistic_mixture"

        def layer() -> Block:
            attention = Attention(width, heads, [pattern], key_width=attention_width, value_width=attention_width)
            hidden = feed_forward or 4 * width
            return Block(attention, width, hidden, activation="relu", dropout=dropout, pre=norm == "pre")

        parts = Parts(
            order,
            Content(order, space.levels, width, discrete=discrete),
            PlaceEncoding(order, width, "sine" if positions == "sine" else "halves"),
            Stack([layer() for _ in range(layers)], width, checkpoint=checkpoint),
            width,
            output_scale=0.1 * width**-0.5,
            symbol_scale=1.0,
        )
        self.assemble(parts)


def _pattern(
    space: Space, group: int, block: str, query: int | Sequence[int], memory: int | Sequence[int]
) -> tuple[Pattern, list[int] | None]:
    """The attention pattern over positions, `group` a site, and the coding order of sites (None: raster)."""
    _, height, width = space.sizes
    if block == "1d":
        if not isinstance(query, int) or not isinstance(memory, int) or query < 1 or memory < 0:
            raise UsageError(f"block=1d with query={query}, memory={memory}; wanted one number of positions each")
        length = height * width * group
        return LocalBlocks(min(query, length), min(memory, length)), None
    if block != "2d":
        raise UsageError(f"block={block!r}; wanted 1d or 2d")
    (rows, columns), (above, beside) = _pair("query", query), _pair("memory", memory)
    if rows < 1 or columns < 1 or height % rows or width % columns or min(above, beside) < 0:
        raise UsageError(
            f"block=2d with query=[{rows}, {columns}], memory=[{above}, {beside}] on images of {height} x {width}; wanted rows "
            f"and columns of the query block that divide the image's, and a memory of 0 or more"
        )
    grid = GridBlocks(height, width, (rows, columns), (above, beside), group)
    return grid, grid.sites()


def _pair(name: str, value: int | Sequence[int]) -> tuple[int, int]:
    if isinstance(value, int) or len(value) != 2:
        raise UsageError(f"block=2d with {name}={value}; wanted [rows, columns]")
    return value[0], value[1]
