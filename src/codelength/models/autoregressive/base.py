"""The interface of models that give one dim after another its distribution: P(x) = Π_t P(x_t | x_<t).

A system defines the four abstract members; scoring and sampling follow. The parallel pass (`conditionals`) and the
steps (`schedule`, `init_state`, `step`) are two computations of the same numbers.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import torch
from torch import Tensor

from codelength.models.autoregressive.stepwise import is_raster, sample_stepwise
from codelength.models.base import LikelihoodModel, Positions
from codelength.pixels import PixelDistribution


class AutoregressiveModel(LikelihoodModel, ABC):
    """A mass that factorizes over sites, and inside a site over channels by its pixel distribution."""

    @abstractmethod
    def conditionals(self, x: Tensor, **conditions: Tensor) -> PixelDistribution:
        """Distribution of every dim given those before it, in one parallel pass; x is (B, C, H, W)."""

    @property
    @abstractmethod
    def schedule(self) -> list[Positions]:
        """Sites coded together, in coding order; every site once."""

    @property
    def raster_causal(self) -> bool:
        """Whether a site depends on nothing but sites before it in raster order, so that any upper rows can be completed.

        Derived from the schedule where that is the raster order; a model with another one (a wavefront) that keeps the
        promise says so itself.
        """
        return is_raster(self.schedule)

    @abstractmethod
    def init_state(self, n: int, **conditions: Tensor) -> Any:
        """State before the first step of `n` data. A state is changed in place by `step` and serves one pass."""

    @abstractmethod
    def step(self, state: Any, values: Tensor | None) -> tuple[PixelDistribution, Any]:
        """Distribution of the next positions of `schedule`, event shape (C, S), and the state after.

        Args:
            state: From `init_state` or the step before.
            values: Levels (x − space.offset) at the previous positions, (n, C, S_previous); None at the first step.
        """

    def log_prob(self, x: Tensor, **conditions: Tensor) -> Tensor:
        """Exact log P(x), nats, (B,).

        Args:
            x: Integers of the model's space, (B, C, H, W).

        Raises:
            SpaceMismatchError: x is not of the model's space.
        """
        x = self.space.validate(x)
        return self.conditionals(x, **conditions).log_prob(with_channels(x) - self.space.offset)

    def sample(
        self,
        n: int,
        generator: torch.Generator,
        temperature: float = 1.0,
        *,
        given: Tensor | None = None,
        rows: int = 0,
        **conditions: Tensor,
    ) -> Tensor:
        """Draw n data by steps, (n, C, H, W) int64.

        Args:
            n: Number of data.
            generator: Source of randomness.
            temperature: Below 1 sharpens every conditional; 0 takes its likely value.
            given: Data whose upper `rows` rows are kept and completed, (n, C, H, W).
            rows: Number of rows kept.
        """
        return sample_stepwise(self, n, generator, temperature, given=given, rows=rows, **conditions)


def with_channels(x: Tensor) -> Tensor:
    """Data with an axis of channels, as pixel distributions want them: sequences (B, T) become (B, 1, T)."""
    return x.unsqueeze(1) if x.ndim == 2 else x


def raster_schedule(height: int, width: int) -> list[Positions]:
    """One site a step, row by row."""
    return [Positions(torch.tensor([row]), torch.tensor([column])) for row in range(height) for column in range(width)]


def wavefront_schedule(height: int, width: int, slope: int) -> list[Positions]:
    """The sites with column + slope * row = t in one step, t = 0, 1, ..., from the upper ones down.

    Exact where a site depends on none that is as late: where no window reaches `slope` columns to the right a row up.
    """
    site = torch.arange(height * width)
    time = site % width + slope * (site // width)
    _, counts = time.unique(return_counts=True)
    groups = time.argsort(stable=True).split(counts.tolist())
    return [Positions(group // width, group % width) for group in groups]


def all_sites(height: int, width: int) -> list[Positions]:
    """All sites in one step: for models whose sites do not depend on each other."""
    rows = torch.arange(height).repeat_interleave(width)
    return [Positions(rows, torch.arange(width).repeat(height))]
