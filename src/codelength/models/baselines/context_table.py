"""Context tables: counts of what follows each quantized neighbourhood. No network, no gradient, a look-up a dim.

Two rules, both with the causal neighbours west W, north N, north-west and north-east:

predictor   a channel's difference to the channel before is predicted by the median edge detector,
            MED = median(W, N, W + N − NW) of those differences, and the residual is counted in one of `classes` classes
            of the activity |W − NW| + |NW − N| + |N − NE|, whose borders are quantiles of the training data.
neighbours  a level is counted given its channel and the bins (7 at most) of W, N, NE and of the channels before.

The residual is taken modulo the number of levels. That permutes the levels, so that the masses of 0 .. levels − 1 sum
to 1 for every prediction. A model of images that does not beat these tables has a bug or no value.

Reference: MED is LOCO-I's, Weinberger et al., IEEE Trans. Image Processing 9, 2000. The counts are frozen after the fit.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from codelength.errors import UsageError, unknown_name
from codelength.models.autoregressive.base import AutoregressiveModel
from codelength.models.base import Positions
from codelength.models.baselines.contexts import (
    RULES,
    ContextPixels,
    ContextRule,
    Rule,
    bin_borders,
    neighbour_index,
)
from codelength.models.baselines.tables import count_rows, log_masses, want_data, want_fitted, want_images
from codelength.space import Space

CHUNK_DIMS = 2**19  # dims in hand at a time
QUANTILE_DATA = 5_000
PSEUDO_COUNT = 0.5


@dataclass
class Canvas:
    """State of the steps: what is known of n images.

    Args:
        x: Levels, (n, C, H * W + 1); the last site stands for "outside".
        tables: As in `ContextPixels`.
        sites: Sites of each step.
        index: Sites of their neighbours, (4, H * W).
        done: Steps done.
    """

    x: Tensor
    tables: tuple[Tensor, ...]
    sites: list[Tensor]
    index: Tensor
    done: int = 0


class ContextTable(AutoregressiveModel):
    """Counts of levels or residuals in each context.

    Args:
        space: Images; H and W may be open for `fit` and `log_prob`.
        rule: "predictor" (natural images) or "neighbours" (drawings); by default the first for colour and for more
            than 256 levels.
        classes: Activity classes a channel of "predictor"; by default 60, and 8 for more than 4,096 levels.

    Raises:
        UsageError: The space holds no images, or an option is unknown or does not fit the rule.

    Departure from the recipe G, R − G, B − G: channels come in the order R, G − R, B − G of every other model here, so
    that `channel(c, previous)` is a plain look-up. It costs 0.02 bits/dim on CIFAR-10.
    """

    borders: Tensor
    num_data: Tensor

    def __init__(self, space: Space, *, rule: Rule | None = None, classes: int | None = None) -> None:
        super().__init__(space)
        want_images(space, "context_table")
        self.channels = int(space.shape[0] or 0)
        if rule is None:
            rule = "predictor" if self.channels > 1 or space.levels > 256 else "neighbours"
        if rule not in RULES:
            raise unknown_name("rule of context_table", rule, RULES)
        if classes is not None and (rule == "neighbours" or classes < 1):
            raise UsageError(f"context_table: classes={classes}; wanted 1 or more, and only with rule='predictor'")
        if rule == "neighbours" and self.channels > 3:
            raise UsageError(f"context_table: rule='neighbours' takes 3 channels, not {self.channels}; use 'predictor'")
        self.rule_name: Rule = rule
        if rule == "neighbours":
            borders = torch.tensor(bin_borders(space.levels))
            rows = [(len(borders) + 1) ** (3 + c) for c in range(self.channels)]
        else:
            classes = classes or (60 if space.levels <= 4096 else 8)
            borders = torch.zeros(self.channels, classes - 1, dtype=torch.long)
            rows = [classes] * self.channels
        self.register_buffer("borders", borders)
        self.register_buffer("num_data", torch.zeros((), dtype=torch.long))
        for c, count in enumerate(rows):
            self.register_buffer(f"counts_{c}", torch.zeros(count, space.levels, dtype=torch.long))

    @property
    def _counts(self) -> list[Tensor]:
        return [self.get_buffer(f"counts_{c}") for c in range(self.channels)]

    @property
    def _rule(self) -> ContextRule:
        return ContextRule(self.rule_name, self.space.levels, self.borders)

    def _tables(self) -> tuple[Tensor, ...]:
        """Log masses of each channel. A residual's prior is its histogram over all classes, a level's is uniform."""
        want_fitted(self, self.num_data)
        if self.rule_name == "neighbours":
            return tuple(log_masses(counts, PSEUDO_COUNT) for counts in self._counts)
        pooled = [log_masses(counts.sum(0), PSEUDO_COUNT).exp() for counts in self._counts]
        return tuple(log_masses(n, PSEUDO_COUNT, prior) for n, prior in zip(self._counts, pooled, strict=True))

    def _blank(self, n: int, sites: int) -> Tensor:
        """Unknown levels, (n, C, sites + 1); what is outside counts as level 0, to a prediction as the middle level."""
        outside = 0 if self.rule_name == "neighbours" else self.space.levels // 2
        return torch.full((n, self.channels, sites + 1), outside, dtype=torch.long, device=self.borders.device)

    def _near(self, levels: Tensor) -> Tensor:
        """Neighbours of every site of levels (B, C, H, W): (4, B, C, H, W)."""
        height, width = levels.shape[2:]
        x = self._blank(len(levels), height * width)
        x[:, :, :-1] = levels.flatten(2)
        index = neighbour_index(height, width).to(x.device)
        return torch.stack([x[:, :, i] for i in index]).unflatten(-1, (height, width))

    def _chunks(self, x: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """Levels and their neighbours, a few data at a time."""
        for part in x.split(max(1, CHUNK_DIMS // max(1, x[:1].numel()))):
            levels = self.space.validate(part).to(self.borders.device) - self.space.offset
            yield levels, self._near(levels)

    @torch.no_grad()
    def fit(self, x: Tensor, **conditions: Tensor) -> None:
        """Count the training data, in place of what was counted before.

        Args:
            x: Integers of the space, (N, C, H, W).

        Raises:
            SpaceMismatchError: x is not of the model's space.
            UsageError: There are no data.
        """
        self.check_conditions(conditions, len(x))
        want_data(x)
        if self.rule_name == "predictor":
            self.borders.copy_(self._quantiles(x))
        counts = [torch.zeros_like(table) for table in self._counts]
        for levels, near in self._chunks(x):
            for c, table in enumerate(counts):
                row, shift = self._rule.context(c, near, levels)
                column = levels[:, c] if shift is None else (levels[:, c] - shift).remainder(self.space.levels)
                table += count_rows(row, column, *table.shape)
        for table, count in zip(self._counts, counts, strict=True):
            table.copy_(count)
        self.num_data.fill_(len(x))

    def _quantiles(self, x: Tensor) -> Tensor:
        """Activities that part the data into classes of equal counts, (C, classes − 1), of evenly spaced data."""
        x = x[:: max(1, len(x) // QUANTILE_DATA)]
        histogram = torch.zeros(self.channels, 6 * self.space.levels, dtype=torch.long, device=self.borders.device)
        for _, near in self._chunks(x):
            for c in range(self.channels):
                activity, _ = self._rule.activity(c, near)
                histogram[c] += torch.bincount(activity.flatten(), minlength=histogram.shape[1])
        classes = self.borders.shape[1] + 1
        shares = torch.arange(1, classes, device=histogram.device) / classes
        cumulative = histogram.cumsum(1).double()
        return torch.searchsorted(cumulative, shares.double() * cumulative[:, -1:])

    def conditionals(self, x: Tensor, **conditions: Tensor) -> ContextPixels:
        """Distribution of every dim given those before it; holds 4 neighbours a dim, so take a few thousand images."""
        self.check_conditions(conditions, len(x))
        levels = self.space.validate(x).to(self.borders.device) - self.space.offset
        return ContextPixels(self._rule, self._tables(), self._near(levels))

    @torch.no_grad()
    def log_prob(self, x: Tensor, **conditions: Tensor) -> Tensor:
        """Exact log P(x), nats, (B,), float64."""
        self.check_conditions(conditions, len(x))
        tables, rule = self._tables(), self._rule
        parts = [ContextPixels(rule, tables, near).log_prob(levels) for levels, near in self._chunks(x)]
        return torch.cat(parts)

    @property
    def schedule(self) -> list[Positions]:
        """Diagonals column + 2 row = t: W, N, NW and NE of a site lie on earlier ones. 94 steps for 32 x 32."""
        _, height, width = self.space.sizes
        rows = torch.arange(height).repeat_interleave(width)
        columns = torch.arange(width).repeat(height)
        times = columns + 2 * rows
        return [
            Positions(rows[times == t], columns[times == t]) for t in range(int(times.max()) + 1) if (times == t).any()
        ]

    @property
    def raster_causal(self) -> bool:
        """All neighbours lie above or to the left; the diagonals only visit sites in another order."""
        return True

    def init_state(self, n: int, **conditions: Tensor) -> Canvas:
        """Nothing known of n images."""
        self.check_conditions(conditions, n)
        _, height, width = self.space.sizes
        x = self._blank(n, height * width)
        sites = [(p.rows * width + p.columns).to(x.device) for p in self.schedule]
        return Canvas(x, self._tables(), sites, neighbour_index(height, width).to(x.device))

    @torch.no_grad()
    def step(self, state: Canvas, values: Tensor | None) -> tuple[ContextPixels, Canvas]:
        if values is not None:
            state.x[:, :, state.sites[state.done - 1]] = values.to(state.x)
        index = state.index[:, state.sites[state.done]]
        near = torch.stack([state.x[:, :, i] for i in index])
        state.done += 1
        return ContextPixels(self._rule, state.tables, near), state
