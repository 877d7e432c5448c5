"""The steps of an integer flow over images: what each does to latents, forwards and backwards, whatever computes its networks.

A flow is a list of steps. `Squeeze` moves pixels to channels, `Permute` reorders channels, `Couple` adds a rounded translation, `Factor` splits off channels whose
distribution is given by those that stay; the last `Factor` keeps none. Float models and their integer form have the same steps and differ in what
`translate` and the priors compute.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from codelength.errors import UsageError

Pattern = Literal["random", "restore", "lifting"]
Factoring = Literal["half", "chain"]
PATTERNS = ("random", "restore", "lifting")
FACTORINGS = ("half", "chain")
FOLD = 2
COSETS = (0, 3, 1, 2)
"""Order of the pixels of a 2x2 square: the chain predicts the centre of four kept pixels first, then what lies between kept and centre pixels."""


@dataclass(frozen=True)
class Squeeze:
    """(B, C, H, W) to (B, 4 C, H/2, W/2): channel q · C + c is channel c of pixel COSETS[q] of each 2x2 square."""

    def forward(self, x: Tensor) -> Tensor:
        batch, channels, height, width = x.shape
        squares = x.view(batch, channels, height // 2, 2, width // 2, 2).permute(0, 3, 5, 1, 2, 4)
        squares = squares.reshape(batch, 4, channels, height // 2, width // 2)
        return squares[:, list(COSETS)].flatten(1, 2)

    def inverse(self, z: Tensor) -> Tensor:
        batch, channels, height, width = z.shape
        back = sorted(range(4), key=COSETS.__getitem__)
        squares = z.view(batch, 4, channels // 4, height, width)[:, back]
        squares = squares.view(batch, 2, 2, channels // 4, height, width).permute(0, 3, 4, 1, 5, 2)
        return squares.reshape(batch, channels // 4, 2 * height, 2 * width)


@dataclass(frozen=True)
class Permute:
    """z_i = x_order[i] over channels."""

    order: tuple[int, ...]

    def forward(self, x: Tensor) -> Tensor:
        return x[:, list(self.order)]

    def inverse(self, z: Tensor) -> Tensor:
        return z[:, sorted(range(len(self.order)), key=self.order.__getitem__)]


@dataclass(frozen=True)
class Couple:
    """z_b = x_b + t(x_a), z_a = x_a.

    Args:
        index: Which translation network computes t.
        free: Channels a.
        moved: Channels b.
    """

    index: int
    free: tuple[int, ...]
    moved: tuple[int, ...]


@dataclass(frozen=True)
class Factor:
    """Channels `kept` .. of z leave; their prior is given the first `kept` channels.

    Args:
        index: Which prior.
        kept: Number of channels that stay; 0 at the end.
        channels: Number of channels that leave.
        size: (H, W) of the latents.
    """

    index: int
    kept: int
    channels: int
    size: tuple[int, int]


Step = Squeeze | Permute | Couple | Factor


def join(free: Tensor, moved: Tensor, couple: Couple) -> Tensor:
    """The channels of a coupling, in their order."""
    order = (*couple.free, *couple.moved)
    return torch.cat([free, moved], dim=1)[:, sorted(range(len(order)), key=order.__getitem__)]


def plan(
    shape: tuple[int, int, int], *, scales: int, couplings: int, pattern: Pattern, factoring: Factoring, seed: int
) -> list[Step]:
    """The steps for images of a shape.

    Args:
        shape: (C, H, W).
        scales: Number of squeezes.
        couplings: Couplings a scale.
        pattern: What is translated. "random": channels are permuted by a seed before each coupling; three quarters condition, one is translated, as in the
            authors' code. "restore": the same, and channels go back to their places after it (IDF++), so that pixels leave by place. "lifting": by turns the three pixels of a square that leave, given the one that stays, and the other way round, the
            prediction and update steps of wavelets.
        factoring: "half": half of the channels leave after a scale. "chain": three pixels of each square leave, one after the other, the last one given the others.
        seed: Of random permutations.

    Raises:
        UsageError: The image cannot be squeezed so often.
    """
    if pattern not in PATTERNS or factoring not in FACTORINGS:
        raise UsageError(
            f"pattern={pattern!r}, factoring={factoring!r}; wanted one of {', '.join(PATTERNS)}, and one of {', '.join(FACTORINGS)}"
        )
    channels, height, width = shape
    if scales < 1 or height % FOLD**scales or width % FOLD**scales:
        raise UsageError(
            f"scales={scales}: images of {height} x {width} do not halve so often; choose fewer scales, at least 1"
        )
    generator = torch.Generator("cpu").manual_seed(seed)
    steps: list[Step] = []
    moves = leaving = 0
    for scale in range(scales):
        steps.append(Squeeze())
        before = channels
        channels, height, width = 4 * channels, height // 2, width // 2
        for turn in range(couplings):
            order = tuple(torch.randperm(channels, generator=generator, device="cpu").tolist())
            if pattern != "lifting":
                steps.append(Permute(order))
            edge = before if pattern == "lifting" else channels - channels // 4
            low, high = tuple(range(edge)), tuple(range(edge, channels))
            swap = pattern == "lifting" and turn % 2 == 1
            steps.append(Couple(moves, high if swap else low, low if swap else high))
            if pattern == "restore":
                steps.append(Permute(tuple(sorted(range(channels), key=order.__getitem__))))
            moves += 1
        parts = [channels // 2] if factoring == "half" else [before] * 3
        for part in parts:
            channels -= part
            steps.append(Factor(leaving, channels, part, (height, width)))
            leaving += 1
        if scale == scales - 1:
            steps.append(Factor(leaving, 0, channels, (height, width)))
    return steps
