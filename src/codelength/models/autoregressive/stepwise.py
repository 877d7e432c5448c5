"""Sampling and scoring step by step: the loop that a codec runs too.

Each step asks the model for the distribution at the next positions and tells it the values at the ones before.

**Completion.** Given the upper rows, the rest is drawn from P(rest | rows) by walking the whole schedule: sites of the given
rows are told their values, the others are drawn. That is exact in two cases:

1. The model is *raster-causal*: the distribution of a site depends on nothing but sites before it in raster order. Then
   P(x) = Π_s P(x_s | x_<s) in raster order, the given rows come first in it, and so P(rest | rows) is the product over
   the rest of P(x_s | x_<s). A schedule of such a model may run ahead below the given rows (a wavefront does) as it likes:
   it asks for a site after all that the site depends on, and each of those is given or was drawn from its own factor. No
   given site depends on a drawn one, so that nothing drawn should have been weighed by what is given.
2. The schedule codes the given rows first, whatever the order inside them and after.

Elsewhere a given site follows drawn ones that it depends on, and its probability would have to weigh them: refused.
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
        model: Model with `schedule`, `init_state` and `step`; `raster_causal` where it has that.
        n: Number of data.
        generator: Source of randomness.
        temperature: Passed to every pixel distribution.
        given: Data to complete, (n, C, H, W): their first `rows` rows are kept.
        rows: Number of rows kept.

    Raises:
        UsageError: `given` is not n data, or forcing the kept rows is no exact completion; see the module's docstring.
    """
    space, schedule = model.space, model.schedule
    if given is not None:
        _require_completion(model, rows)
        given = space.validate(given).to(model.device) - space.offset
        if len(given) != n:
            raise UsageError(f"sample: {len(given)} data given to complete; wanted n={n}")
    elif rows:
        raise UsageError(f"sample: rows={rows} but no data given; pass given= with the data to complete")
    x = torch.zeros((n, *space.sizes), dtype=torch.long, device=model.device)
    state, values = model.init_state(n, **conditions), None
    for positions in schedule:
        distribution, state = model.step(state, values)
        inside = (positions.rows < rows).to(x.device)
        if given is None or not inside.any():
            values = distribution.sample(generator=generator, temperature=temperature)
        elif inside.all():
            values = positions.gather(given)
        else:
            drawn = distribution.sample(generator=generator, temperature=temperature)
            values = torch.where(inside, positions.gather(given), drawn)
        positions.scatter(x, values)
    return x + space.offset


def is_raster(schedule: list[Positions]) -> bool:
    """Whether a schedule visits sites in raster order, or sites that cannot depend on each other (a single step).

    Sites of one step do not depend on each other, and a site depends on earlier steps only: where all sites of the earlier
    steps lie before all sites of the later ones in raster order, a model of this schedule is raster-causal.
    """
    before = -1, -1
    for positions in schedule:
        places = list(zip(positions.rows.tolist(), positions.columns.tolist(), strict=True))
        if min(places, default=before) < before:
            return False
        before = max(places, default=before)
    return True


def _require_completion(model: Stepwise, rows: int) -> None:
    """Raise UsageError unless forcing the upper `rows` rows samples their completion; see the module's docstring."""
    if getattr(model, "raster_causal", False):
        return
    given = [(positions.rows < rows) for positions in model.schedule]
    free = [index for index, inside in enumerate(given) if not inside.all()]
    if free and any(inside.any() for inside in given[free[0] + 1 :]):
        raise UsageError(
            f"sample: the model does not code the upper {rows} rows first, and its order is not the raster order, so it "
            "cannot complete them; use a model in raster order"
        )


@torch.no_grad()
def stepwise_log_prob_per_dim(model: Stepwise, x: Tensor, **conditions: Tensor) -> Tensor:
    """log P of each dim given those before it, computed by steps: nats, of the shape of x, float64."""
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
