"""What the causal window network sees of a site, and in which unit."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from codelength.models.autoregressive.base import wavefront_schedule
from codelength.models.base import Positions
from codelength.nn.level_scale import WIDE_LEVELS
from codelength.space import Space

TYPICAL_RESIDUAL = 6.0
"""Mean distance of an 8-bit photograph's values from their median-edge prediction: what the network's inputs are scaled for."""


class LevelUnits(nn.Module):
    """The unit in which differences of levels reach the network and its mixtures: about 1/256 of the values that occur.

    16-bit files rarely fill their 65,536 levels: a magnetic resonance image may end at 1,000, and then a difference that
    matters is 1/10,000 of the range. So above 256 levels the unit is set from data: such that their values are as far from
    their local prediction as an 8-bit photograph's.

    Args:
        levels: Number of levels.
    """

    def __init__(self, levels: int) -> None:
        super().__init__()
        self.levels = levels
        self.adapts = levels > WIDE_LEVELS
        if self.adapts:
            half_range = (levels - 1) / 2
            self.statistics: Tensor
            self.fitted: Tensor
            # Levels a unit, mean of the values, their spread.
            self.register_buffer("statistics", torch.tensor([levels / 256, half_range, half_range]))
            self.register_buffer("fitted", torch.tensor(False))

    @torch.no_grad()
    def fit(self, values: Tensor, predict: Callable[[], Tensor]) -> None:
        """Set mean and spread from values, (M, C) levels, then the unit from their predictions, (M, C); once."""
        if not self.adapts or self.fitted:
            return
        spread, mean = torch.std_mean(values.double(), correction=0)
        self.statistics[1], self.statistics[2] = mean, 2 * spread.clamp(min=1.0)
        residual = (values - predict()).abs().double().mean() / TYPICAL_RESIDUAL
        self.statistics[0] = residual.clamp(min=1 / 64)  # constant data have no unit of their own
        self.fitted.fill_(True)

    @property
    def start(self) -> float | Tensor:
        """What a site without neighbours is predicted to be, in levels."""
        return self.statistics[1] if self.adapts else self.levels // 2

    @property
    def per_level(self) -> float | Tensor:
        """Units a level."""
        return 1 / self.statistics[0] if self.adapts else 256 / self.levels

    @property
    def zoom(self) -> float | Tensor:
        """127.5 units as a share of half the range: 1 where the range is the unit."""
        return 127.5 * self.statistics[0] / ((self.levels - 1) / 2) if self.adapts else 1.0

    def relative(self, prediction: Tensor) -> Tensor:
        """Predictions in levels on about [−1, 1]."""
        if self.adapts:
            return (prediction - self.statistics[1]) / self.statistics[2]
        return prediction * (2 / (self.levels - 1)) - 1


class Window:
    """The causal window: where its sites lie, and what the network sees of them.

    Images are padded by `rows` rows above and `reach` columns to either side, sites laid out in a row, channels last; a
    last channel says which sites are inside. What lies outside equals the prediction, so that its difference is 0.
    """

    def __init__(self, space: Space, rows: int, reach: int) -> None:
        self.rows, self.reach = rows, reach
        self.channels, self.height, self.width = space.sizes
        self.levels = space.levels
        self.offsets = [(-r, c) for r in range(rows, 0, -1) for c in range(-reach, reach + 1)]
        self.offsets += [(0, c) for c in range(-reach, 0)]
        self.padded_width = self.width + 2 * reach
        self.shifts = torch.tensor([r * self.padded_width + c for r, c in self.offsets])
        self.num_inputs = 2 * len(self.offsets) * self.channels + self.channels + self.channels - 1 + 5

    def wavefronts(self) -> list[Positions]:
        """The sites with column + (reach + 1) * row = t, for t = 0, 1, ...: none of them sees another."""
        return wavefront_schedule(self.height, self.width, self.reach + 1)

    def pad(self, levels: Tensor) -> Tensor:
        """(B, C, H, W) levels -> (B, padded sites, C + 1) float32."""
        padded = torch.zeros(
            (len(levels), self.rows + self.height, self.padded_width, self.channels + 1), device=levels.device
        )
        inside = padded[:, self.rows :, self.reach : self.reach + self.width]
        inside[..., :-1] = levels.movedim(1, -1)
        inside[..., -1] = 1
        return padded.flatten(1, 2)

    def write(self, padded: Tensor, positions: Positions, values: Tensor) -> None:
        """Put values, (n, C, S), at positions of padded images, in place."""
        site = (positions.rows + self.rows) * self.padded_width + positions.columns + self.reach
        padded[:, site.to(padded.device), : self.channels] = values.movedim(1, -1).to(padded.dtype)

    def neighbours(
        self, padded: Tensor, image: Tensor, row: Tensor, column: Tensor, start: float | Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Values of the window at M sites, (M, O, C), which of them are inside, (M, O, 1), and the predictions, (M, C).

        `start` is what a site without neighbours is predicted to be, in levels; the middle of the range by default.
        """
        site = image * padded.shape[1] + (row + self.rows) * self.padded_width + column + self.reach
        index = site.unsqueeze(1) + self.shifts.to(site.device)
        window = padded.flatten(0, 1).index_select(0, index.flatten()).view(len(site), len(self.offsets), -1)
        values, inside = window[..., :-1], window[..., -1:]
        return values, inside, self._predict(values, inside, self.levels // 2 if start is None else start)

    def inputs(
        self, padded: Tensor, image: Tensor, row: Tensor, column: Tensor, units: LevelUnits
    ) -> tuple[Tensor, Tensor]:
        """What the network sees at M sites.

        Args:
            padded: From `pad`, (B, padded sites, C + 1).
            image, row, column: Of each site, (M,).
            units: The unit of differences.

        Returns:
            Inputs, (M, num_inputs), and the prediction of each channel in levels, (M, C).
        """
        values, inside, prediction = self.neighbours(padded, image, row, column, units.start)
        difference = ((values - prediction.unsqueeze(1)) * inside * units.per_level).flatten(1)
        relative = units.relative(prediction)
        position = torch.stack(
            [
                row * (2 / self.height) - 1,
                column * (2 / self.width) - 1,
                (1 - row / self.rows).clamp(min=0),
                (1 - column / self.reach).clamp(min=0),
                (1 - (self.width - 1 - column) / self.reach).clamp(min=0),
            ],
            dim=1,
        )
        parts = [difference / 64, torch.asinh(difference / 4) / 2, relative, position]
        return torch.cat([*parts, relative.diff(dim=1) * 2], dim=1), prediction

    def _predict(self, values: Tensor, inside: Tensor, start: float | Tensor) -> Tensor:
        """Median-edge prediction of each channel from the neighbours west, north and north-west, (M, C)."""
        at = self.offsets.index
        north, west, north_west = (values[:, at(o)] for o in ((-1, 0), (0, -1), (-1, -1)))
        has_north, has_west = inside[:, at((-1, 0))] > 0, inside[:, at((0, -1))] > 0
        return median_edge(north, west, north_west, has_north, has_west, start)


def median_edge(
    north: Tensor, west: Tensor, north_west: Tensor, has_north: Tensor, has_west: Tensor, start: float | Tensor
) -> Tensor:
    """LOCO-I's prediction from three neighbours, of those that exist; exact on levels in any type that holds them.

    Args:
        north, west, north_west: Levels, of one shape.
        has_north, has_west: Which of them lie inside the image, broadcastable.
        start: Prediction of the first site.

    Reference: Weinberger et al. 2000, eq. (1).
    """
    low, high = torch.minimum(north, west), torch.maximum(north, west)
    planar = north + west - north_west
    median = torch.where(north_west >= high, low, torch.where(north_west <= low, high, planar))
    one = torch.where(has_north, north, torch.where(has_west, west, torch.as_tensor(start).to(north)))
    return torch.where(has_north & has_west, median, one)
