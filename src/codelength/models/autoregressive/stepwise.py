"""Sampling and scoring step by step: the loop that a codec runs too.

Each step asks the model for the distribution at the next positions and tells it the values at the ones before.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor

from codelength.errors import UsageError
from codelength.space import Space

if TYPE_CHECKING:
    from codelength.models.base import Positions
    from codelength.pixels import PixelDistribution


class Stepwise(Protocol):
    """What the loops below need of a model."""

    space: Space

    @property
    def schedule(self) -> list[Positions]: ...

    @property
    def device(self) -> torch.device: ...

    def init_state(self, n: int, **conditions: Tensor) -> Any: ...

    def step(self, state: Any, values: Tensor | None) -> tuple[PixelDistribution, Any]: ...


@torch.no_grad()
def sample_stepwise(
    model: Stepwise,
    n: int,
    generator: torch.Generator,
    temperature: float = 1.0,
    *,
    given: Tensor | None = None,
    rows: int = 0,
    **conditions: Tensor,
) -> Tensor:
    """Draw n data in the model's coding order, (n, C, H, W) int64.

    Args:
        model: Model with `schedule`, `init_state` and `step`.
        n: Number of data.
        generator: Source of randomness.
        temperature: Passed to every pixel distribution.
        given: Data to complete, (n, C, H, W): their first `rows` rows are kept.
        rows: Number of rows kept.

    Raises:
        UsageError: `given` is not n data, or the model does not code the kept rows first, so that its conditionals
            after them are not those of a completion.
    """
    space, schedule = model.space, model.schedule
    kept = _kept_steps(schedule, rows) if given is not None else 0
    if given is not None:
        given = space.validate(given).to(model.device) - space.offset
        if len(given) != n:
            raise UsageError(f"sample: {len(given)} data given to complete; wanted n={n}")
    elif rows:
        raise UsageError(f"sample: rows={rows} but no data given; pass given= with the data to complete")
    x = torch.zeros((n, *space.sizes), dtype=torch.long, device=model.device)
    state, values = model.init_state(n, **conditions), None
    for index, positions in enumerate(schedule):
        distribution, state = model.step(state, values)
        if given is not None and index < kept:
            values = positions.gather(given)
        else:
            values = distribution.sample(generator=generator, temperature=temperature)
        if given is not None and index == kept and kept < len(schedule):
            inside = (positions.rows < rows).to(x.device)
            values = torch.where(inside, positions.gather(given), values)
        positions.scatter(x, values)
    return x + space.offset


def _kept_steps(schedule: list[Positions], rows: int) -> int:
    """Number of first steps that lie wholly in the kept rows.

    The step after may lie there in part: sites of one step do not depend on each other.
    """
    whole = [bool((positions.rows < rows).all()) for positions in schedule]
    some = [bool((positions.rows < rows).any()) for positions in schedule]
    kept = whole.index(False) if False in whole else len(whole)
    if any(some[kept + 1 :]):
        raise UsageError(
            f"sample: the model does not code the upper {rows} rows first, so it cannot complete them; use a model in "
            "raster order"
        )
    return kept


@torch.no_grad()
def stepwise_log_prob_per_dim(model: Stepwise, x: Tensor, **conditions: Tensor) -> Tensor:
    """log P of each dim given those before it, computed by steps: nats, (B, C, H, W), float64."""
    space = model.space
    levels = space.validate(x).to(model.device) - space.offset
    out = torch.zeros(levels.shape, dtype=torch.float64, device=model.device)
    state, values = model.init_state(len(levels), **conditions), None
    for positions in model.schedule:
        distribution, state = model.step(state, values)
        values = positions.gather(levels)
        positions.scatter(out, distribution.log_prob_per_dim(values))
    return out


def score_stepwise(model: Stepwise, x: Tensor, **conditions: Tensor) -> Tensor:
    """log P(x) computed by steps, nats, (B,), float64: what a codec that runs the steps will spend."""
    return stepwise_log_prob_per_dim(model, x, **conditions).flatten(1).sum(1)
