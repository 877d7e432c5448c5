"""What transformers over an image's positions share: P(x) = Π_i P(x_i | x_<i), positions being dims or sites.

A system is a subclass that puts together the parts: the order of positions, their contents and places, a stack of causal
attention blocks. Where every dim is a position, the head speaks of one channel, and the channels of a site come one after
the other, each given the values before it; where every site is a position, the pixel likelihood joins its channels.
"""

from __future__ import annotations

from abc import ABC
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from codelength.errors import UsageError
from codelength.models.autoregressive.pixel_sequence import Content, PixelOrder, PlaceEncoding
from codelength.models.autoregressive.pixel_transformer_steps import TransformerState
from codelength.models.autoregressive.site_model import SiteModel
from codelength.models.base import Positions
from codelength.nn.attention import Stack
from codelength.space import Space


@dataclass
class Parts:
    """What a system puts together.

    Args:
        order: The positions; one a channel where the head gives each channel its own likelihood, else one a site.
        content, places, stack: From values to features.
        width: Width of the stream.
        output_scale: Standard deviation of the last layer's weights at the start.
        symbol_scale: Standard deviation of the start symbol and of the classes' vectors at the start.
    """

    order: PixelOrder
    content: Content
    places: PlaceEncoding
    stack: Stack
    width: int
    output_scale: float
    symbol_scale: float


class PixelTransformer(SiteModel, ABC):
    """Base of the transformers over an image's positions; a subclass's constructor ends with `assemble`.

    A class is a vector that is added at every position.
    """

    def assemble(self, parts: Parts) -> None:
        """Take the parts, and make what all systems have: start symbol, classes, last layer."""
        width, likelihood = parts.width, self.head.likelihood
        self.order, self.content, self.places, self.stack = parts.order, parts.content, parts.places, parts.stack
        self.first = nn.Parameter(torch.randn(width) * parts.symbol_scale)
        self.class_vectors = (
            nn.Parameter(torch.randn(self.classes, width) * parts.symbol_scale) if self.classes else None
        )
        self.output = nn.Linear(width, likelihood.num_parameters)
        nn.init.normal_(self.output.weight, std=parts.output_scale)
        with torch.no_grad():
            self.output.bias.copy_(likelihood.initial())

    def surroundings(self, label: Tensor | None) -> Tensor:
        """What every position reads besides content: its place, and the class; (1 or B, T, width)."""
        places: Tensor = self.places().unsqueeze(0)
        return places if self.class_vectors is None else places + self.class_vectors[label].unsqueeze(1)

    def contents(self, values: Tensor, start: int = 0) -> Tensor:
        """Levels of the positions from `start` on, (B, t, token), as vectors, (B, t, width)."""
        vectors: Tensor = self.content(values if self.content.discrete else self.scale(values), start)
        return vectors

    def outputs(self, levels: Tensor, label: Tensor | None = None) -> Tensor:
        """The network's outputs at every site, all channels' side by side, (B, C, H, W) to (B, P, H, W).

        Args:
            levels: Levels x − space.offset; they may be real where contents are projected.
            label: Classes, (B,).
        """
        first = self.first.expand(len(levels), 1, -1)
        content = torch.cat([first, self.contents(self.order.sequence(levels)[:, :-1])], dim=1)
        features = self.stack(content + self.surroundings(label))  # (B, T, width)
        return self.order.image(self.output(features)).flatten(1, 2)

    def start(self, n: int, label: Tensor | None) -> TransformerState:
        return TransformerState(self, n, label)

    @property
    def schedule(self) -> list[Positions]:
        return self.order.schedule

    @property
    def state_numbers(self) -> int:
        """Numbers that the caches of a pass keep for one datum."""
        return self.stack.num_cached(self.order.length, self.order.group)


def check_network(space: Space, dropout: float, **sizes: int) -> None:
    """Raise UsageError unless images have one size, sizes are positive and dropout is a probability below 1."""
    if space.kind != "image" or None in space.shape:
        raise UsageError(
            f"data of kind {space.kind!r} and shape {space.shape}; a transformer over pixels needs images of one size: "
            "crop the images, or choose another system"
        )
    for name, size in sizes.items():
        if size < 1:
            raise UsageError(f"{name}={size}; wanted at least 1")
    if not 0 <= dropout < 1:
        raise UsageError(f"dropout={dropout}; wanted 0 <= dropout < 1")
