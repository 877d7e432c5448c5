"""The model interface: narrow, so that anyone's model fits.

A model subclasses `LikelihoodModel` and defines those of the members below that it can answer. What it can be used
for, and whether its number is exact or a bound, follows from which of them it has; nothing is declared twice.

    log_prob(x) -> (B,)                      exact log P(x) (mass) or log p(x) (density), nats
    log_weights(x, k, generator)             -> LogWeights: (k, B) log importance weights, their mean bounds P(x)
    training_objective(x, generator) -> (B,) what to minimize where that is not −log_prob or −ELBO
    sample(n, generator)                     -> (n, *space.shape) integers (mass) or reals (density)
    conditionals(x)                          -> PixelDistribution over every dim given those before it, one pass
    schedule                                 list of Positions, coded together, in coding order
    init_state(n), step(state, values)       -> (PixelDistribution over the next positions, state); `values` are those
                                             of the positions of the step before, None at the first step
    expected_log_prob(intensity) -> (B,)     closed-form expectation over dynamic binarizations (emission models)
    fit(x)                                   estimate the parameters from all training data at once (baselines)
    initialize(x, generator)                 set data-dependent parameters (ActNorm) from one training batch, once, before
                                             the first step; a second call changes nothing

Every member takes the model's conditions, listed in `conditioning`, as keyword arguments (`label=`).
Data are the integers of `space`; a PixelDistribution, and so the `values` of a step, count levels from 0:
they are x − space.offset.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from codelength.errors import UsageError, unknown_name
from codelength.space import Space

Measure = Literal["mass", "density"]
EstimateKind = Literal["exact", "bound", "estimate"]


@dataclass(frozen=True)
class LogWeights:
    """Log importance weights of k samples for each datum, with their named terms.

    Args:
        terms: Name -> (k, B), nats. They add up to the log weight: log p(x, z) − log q(z | x), or
            log p(x + u) − log q(u | x).
    """

    terms: dict[str, Tensor]

    @property
    def total(self) -> Tensor:
        """(k, B) log weights, nats; the mean over k in probability bounds P(x) from below in expectation."""
        return torch.stack(list(self.terms.values())).sum(0)


@dataclass(frozen=True)
class Positions:
    """Sites of a datum that are coded in one step: row and column indices, equally long, in coding order.

    A sequence (B, T) is one channel of one row. `values` passed to and returned for a step have shape (n, C, len(rows)).
    """

    rows: Tensor
    columns: Tensor

    def gather(self, x: Tensor) -> Tensor:
        """The values at these sites: (B, C, H, W) or (B, T) -> (B, C, S)."""
        return _as_image(x)[:, :, self.rows, self.columns]

    def scatter(self, x: Tensor, values: Tensor) -> None:
        """Write (B, C, S) at these sites of (B, C, H, W) or (B, T), in place."""
        _as_image(x)[:, :, self.rows, self.columns] = values.to(x.dtype)


def _as_image(x: Tensor) -> Tensor:
    """A view (B, C, H, W): of a sequence (B, T) one row of one channel, of audio (B, C, T) one row."""
    if x.ndim == 4:
        return x
    return x[:, None, None] if x.ndim == 2 else x.unsqueeze(2)


class LikelihoodModel(nn.Module):
    """Base of every model: the space it speaks of, and its measure.

    Args:
        space: What a datum is.
        measure: "mass": P over the integers of `space`. "density": p over real data; for integer spaces over
            [offset, offset + levels)^D, so that a datum's bin has width 1 and no constant is left to add.
        conditioning: Names of the conditions it takes, such as ("label",).
    """

    def __init__(self, space: Space, measure: Measure = "mass", conditioning: tuple[str, ...] = ()) -> None:
        super().__init__()
        self.space, self.measure, self.conditioning = space, measure, conditioning

    def check_conditions(self, conditions: dict[str, Tensor], batch: int) -> dict[str, Tensor]:
        """The conditions as int64 tensors (batch,) on the model's device.

        Raises:
            UsageError: A condition is missing, not known, of another length or out of range.
        """
        for name in conditions:
            if name not in self.conditioning:
                raise unknown_name("condition", name, self.conditioning or ("(the model takes none)",))
        for name in self.conditioning:
            if name not in conditions:
                raise UsageError(f"the model is conditioned on {name!r}; pass {name}= with one integer a datum")
        checked = {name: torch.as_tensor(value, device=self.device).long() for name, value in conditions.items()}
        for name, value in checked.items():
            classes = self.space.conditions.get(name)
            if value.shape != (batch,):
                raise UsageError(f"condition {name!r} of shape {tuple(value.shape)}; wanted ({batch},)")
            if classes and batch and not (int(value.min()) >= 0 and int(value.max()) < classes):
                raise UsageError(f"condition {name!r}: {int(value.min())}..{int(value.max())}; wanted 0..{classes - 1}")
        return checked

    @property
    def device(self) -> torch.device:
        """Device of the parameters, of the buffers where there are none (CPU if there are neither)."""
        return next((p.device for p in itertools.chain(self.parameters(), self.buffers())), torch.device("cpu"))

    @property
    def dtype(self) -> torch.dtype:
        """Floating-point type of the parameters, of the buffers where there are none (float32 if there are neither)."""
        tensors = itertools.chain(self.parameters(), self.buffers())
        return next((p.dtype for p in tensors if p.is_floating_point()), torch.float32)


def can(model: Any, member: str) -> bool:
    """Whether `model` answers `member` of the interface.

    >>> can(LikelihoodModel(Space.image(1, 2, 2)), "log_prob")
    False
    """
    return getattr(model, member, None) is not None


def estimate_kind(model: Any) -> EstimateKind:
    """What the model's number is: derived from what it answers, never typed in.

    Raises:
        UsageError: It answers neither `log_prob` nor `log_weights`.
    """
    if can(model, "log_prob"):
        return "exact"
    if can(model, "log_weights"):
        return "bound"
    raise UsageError(
        f"{type(model).__name__} has neither log_prob nor log_weights; a likelihood model needs one of them"
    )


def num_parameters(model: nn.Module) -> int:
    """Number of trainable numbers."""
    return sum(p.numel() for p in model.parameters() if p.requires_grad)
