"""What integer flows have in common, floating-point or in integers: the walk from data to latents and back.

    z = f(x),        P(x) = P(z) = Π_k P(z_k | z_{>k})

f is a bijection of integers, so there is no Jacobian: the mass of x is the mass of its latents. Going back, the latents that left last come
first, each group under the prior that those after it give.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Generator, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from codelength.models.base import LikelihoodModel
from codelength.models.discrete_flows.steps import Couple, Factor, Step, join
from codelength.pixels.distribution import ChannelDistribution
from codelength.space import Space

Walk = Generator[ChannelDistribution, Tensor, Tensor]


@dataclass(frozen=True)
class Latents:
    """Latents that leave at a `Factor`.

    Args:
        factor: The step.
        z: What leaves, integers (B, channels, H, W).
        kept: What stays, (B, kept, H, W); None at the end.
    """

    factor: Factor
    z: Tensor
    kept: Tensor | None


class IntegerFlow(LikelihoodModel, ABC):
    """An integer flow over images.

    Args:
        space: Images.
        steps: What it does, in order.
        size: Number of integers that a latent can be: 0 .. size − 1.
        margin: What is added to levels: latents count from −margin.
        wrap: Whether translations are added modulo `size`.
    """

    def __init__(self, space: Space, steps: list[Step], *, size: int, margin: int, wrap: bool) -> None:
        super().__init__(space)
        self.steps, self.size, self.margin, self.wrap = steps, size, margin, wrap

    @abstractmethod
    def translation(self, index: int, free: Tensor) -> Tensor:
        """The rounded translation of coupling `index`, integers (B, moved, H, W)."""

    @abstractmethod
    def features(self, index: int, kept: Tensor | None, n: int) -> Tensor:
        """What the heads of prior `index` read; computed once for all its channels."""

    @abstractmethod
    def channel(self, index: int, c: int, features: Tensor, before: Tensor, kept: Tensor | None) -> ChannelDistribution:
        """The distribution of channel c of the latents of prior `index`, given the channels before it."""

    def modulo(self, z: Tensor) -> Tensor:
        """Latents back in their range, where the flow wraps."""
        return z.remainder(self.size) if self.wrap else z

    def leaving(self, z: Tensor) -> Iterator[Latents]:
        """The latents of data, in the order in which they leave.

        Args:
            z: Levels from 0, (B, C, H, W), floats or integers.
        """
        z = z + self.margin
        for step in self.steps:
            if isinstance(step, Couple):
                free, moved = z[:, list(step.free)], z[:, list(step.moved)]
                z = join(free, self.modulo(moved + self.translation(step.index, free)), step)
            elif isinstance(step, Factor):
                kept = z[:, : step.kept] if step.kept else None
                yield Latents(step, z[:, step.kept :], kept)
                z = z[:, : step.kept]
            else:
                z = step.forward(z)

    def coded(self, x: Tensor) -> Iterator[tuple[ChannelDistribution, Tensor]]:
        """Every channel of latents with its distribution, in coding order; x is data (B, C, H, W)."""
        for latents in reversed(list(self.leaving(self.space.validate(x) - self.space.offset))):
            index = latents.factor.index
            features = self.features(index, latents.kept, len(x))
            for c in range(latents.factor.channels):
                yield self.channel(index, c, features, latents.z[:, :c], latents.kept), latents.z[:, c]

    def walk(self, n: int) -> Walk:
        """The way back of n data: yields the distribution of each channel in coding order, is sent its values (n, H, W), and returns the data."""
        z = torch.zeros(0, dtype=torch.long)
        for step in reversed(self.steps):
            if isinstance(step, Couple):
                free, moved = z[:, list(step.free)], z[:, list(step.moved)]
                z = join(free, self.modulo(moved - self.translation(step.index, free).long()), step)
            elif isinstance(step, Factor):
                kept = z if step.kept else None
                features = self.features(step.index, kept, n)
                gone = torch.zeros((n, 0, *step.size), dtype=torch.long, device=self.device)
                for c in range(step.channels):
                    values = yield self.channel(step.index, c, features, gone, kept)
                    gone = torch.cat([gone, values.long().unsqueeze(1)], dim=1)
                z = gone if kept is None else torch.cat([kept, gone], dim=1)
            else:
                z = step.inverse(z)
        return z - self.margin + self.space.offset

    @torch.no_grad()
    def latents(self, x: Tensor) -> list[Tensor]:
        """The latents of data, counted from −margin, in coding order: a bijection."""
        x = self.space.validate(x)
        return [part.z.long() - self.margin for part in reversed(list(self.leaving(x - self.space.offset)))]

    @torch.no_grad()
    def from_latents(self, parts: list[Tensor]) -> Tensor:
        """The integers whose `latents` these are, which are data of the space if the flow wraps."""
        channels = [part[:, c] + self.margin for part in parts for c in range(part.shape[1])]
        return drive(self.walk(len(parts[0])), iter(channels))

    @torch.no_grad()
    def sample(self, n: int, generator: torch.Generator, temperature: float = 1.0) -> Tensor:
        """Draw n data, int64 (n, C, H, W).

        A flow without `wrap` can draw integers beyond the levels; the nearest level is given then.
        """
        walk = self.walk(n)
        try:
            distribution = next(walk)
            while True:
                distribution = walk.send(distribution.sample(generator, temperature))
        except StopIteration as end:
            x: Tensor = end.value
        low = self.space.offset
        return x if self.wrap else x.clamp(low, low + self.space.levels - 1)


def drive(walk: Walk, values: Iterator[Tensor]) -> Tensor:
    """Send values to a walk to its end; the data."""
    try:
        next(walk)
        while True:
            walk.send(next(values))
    except StopIteration as end:
        x: Tensor = end.value
        return x
