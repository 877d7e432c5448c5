"""The model under audit, seen through one face: float64 numbers on the CPU, in chunks, with faults named."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from codelength.adapters.foreign import ForeignModel, is_module
from codelength.adapters.table import conditional_table
from codelength.errors import CodelengthError, EvaluationError
from codelength.functional import log_mean_exp
from codelength.models.base import LikelihoodModel, can
from codelength.nn.conditions import FEATURES
from codelength.space import Space

TABLE_NUMBERS = 2**21
ROW_NUMBERS = 2**19
BOUND_NUMBERS = 2**18
# Data that are always scored in one call, where it matters who is in the batch.
COMPANY = 24


class ProbeError(CodelengthError):
    """The subject raised, or returned something that is no answer, for data of its space."""


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"


@dataclass
class Probed:
    """A model under audit.

    Args:
        model: As given; our own models in evaluation mode.
        space: Space of its data, sizes known.
        precise: A copy in float64, where it can be made; else the model itself.
        pristine: A copy from before its first use; None where it cannot be copied.
        spec: FILE.py:NAME or the path of a run, where it can be loaded again.
    """

    model: Any
    space: Space
    precise: Any = None
    pristine: Any = None
    spec: str | None = None
    in_float64: bool = False
    real_dtype: torch.dtype = torch.float64
    seconds: dict[str, float] = field(default_factory=dict)

    @staticmethod
    def of(model: LikelihoodModel, space: Space, spec: str | None = None) -> Probed:
        """A model with its copies, before anything of it has been called."""
        model.eval()
        pristine, precise = _copy(model), None
        if is_module(model):
            candidate = _copy(model)
            precise = candidate.double() if candidate is not None else None
        return Probed(model, space, precise, pristine, spec)

    @property
    def name(self) -> str:
        """Name of the model's class."""
        return self.model.name if isinstance(self.model, ForeignModel) else type(self.model).__name__

    @property
    def is_mass(self) -> bool:
        """Whether it speaks of integers."""
        return bool(self.model.measure == "mass")

    @property
    def has_log_prob(self) -> bool:
        """Whether it gives an exact probability of integers."""
        return self.is_mass and can(self.model, "log_prob")

    @property
    def has_table(self) -> bool:
        """Whether it gives the distribution of every dim given those before it."""
        return can(self.model, "conditionals")

    @property
    def has_bound(self) -> bool:
        """Whether it gives a bound by samples."""
        return can(self.model, "bound") or can(self.model, "log_weights")

    @property
    def has_density(self) -> bool:
        """Whether it gives a density of reals."""
        return _density_of(self.model) is not None

    def answers(self, member: str) -> bool:
        """Whether it has a member of the interface."""
        return can(self.model, member)

    def conditions(self, n: int) -> dict[str, Tensor]:
        """The conditions the model takes, for n data: class 0, 0 for each real feature, or what the model gives as an example."""
        if can(self.model, "example_conditions"):
            example: dict[str, Tensor] = self.model.example_conditions(n)
            return example
        features = getattr(self.model, "features", 0)
        return {
            name: torch.zeros(n, features) if name == FEATURES else torch.zeros(n, dtype=torch.long)
            for name in self.model.conditioning
        }

    def prepare(self, x: Tensor) -> list[str]:
        """First use, on a batch x: whether it answers, and in which precision. Returns what to tell the reader.

        Raises:
            ProbeError: It answers neither the batch nor a single datum.
        """
        notes = []
        if self.precise is not None:
            try:
                self.in_float64 = self._first_score(self.precise, x).dtype == torch.float64
            except Exception as error:  # a copy in float64 need not work: then the model is taken as it is
                notes.append(f"its copy in float64 raised {_first_line(error)}")
                self.precise = None
        if self.precise is None:
            self.precise = self.model
            self.in_float64 = self._first_try(x).dtype == torch.float64
        return notes

    def _first_try(self, x: Tensor) -> Tensor:
        try:
            return self._first_score(self.model, x)
        except Exception:  # a fault of batches is for the probes to name; one datum must be answered
            try:
                return self._first_score(self.model, x[:1])
            except Exception as error:
                if isinstance(error, EvaluationError):  # it answers, but not one number a datum: the probes say so
                    return torch.zeros(1)
                raise ProbeError(f"{self.name} cannot score data of its space: {_first_line(error)}") from error

    def _first_score(self, model: Any, x: Tensor) -> Tensor:
        """Whatever number the model gives of x."""
        with torch.no_grad():
            if can(model, "log_prob") and self.is_mass:
                return torch.as_tensor(model.log_prob(x, **self.conditions(len(x))))
            density = _density_of(model)
            if density is None:
                return _bound(model, x, 1, torch.Generator().manual_seed(0), self.conditions(len(x)))
            try:
                return density(x.double() + 0.5, **self.conditions(len(x)))
            except Exception:  # float64 reals into float32 layers
                self.real_dtype = torch.float32
                return density(x.float() + 0.5, **self.conditions(len(x)))

    def log_prob(self, x: Tensor, *, model: Any = None) -> Tensor:
        """log P(x), nats, (N,) float64; −inf is allowed, NaN is not."""
        used = self.precise if model is None else model
        return self._chunked("log_prob", lambda part: used.log_prob(part, **self.conditions(len(part))), x)

    def table(self, x: Tensor, *, model: Any = None) -> Tensor:
        """Conditional probabilities as the model gives them, (N, D, levels) float64."""
        used = self.precise if model is None else model

        def one(part: Tensor) -> Tensor:
            if isinstance(used, ForeignModel):
                return used.conditional_table(part)  # type: ignore[operator]
            return conditional_table(used.conditionals(part, **self.conditions(len(part))), part, self.space, self.name)

        return self._chunked("conditionals", one, x, TABLE_NUMBERS // (x[0].numel() * self.space.levels))

    def bound(self, x: Tensor, k: int, noise: Any, *, model: Any = None) -> Tensor:
        """The bound from k samples, nats, (N,) float64. `noise`: a seed, or a source of noise for all chunks."""
        used = self.precise if model is None else model
        generator = torch.Generator().manual_seed(noise) if isinstance(noise, int) else noise
        conditions = self.conditions(len(x))
        rows = max(COMPANY if k <= 4 else 1, BOUND_NUMBERS // (k * x[0].numel()))

        def one(part: Tensor) -> Tensor:
            return _bound(used, part, k, generator, {name: value[: len(part)] for name, value in conditions.items()})

        return self._chunked("bound", one, x, rows)

    def density(self, y: Tensor, *, model: Any = None) -> Tensor:
        """log p(y) of reals, nats, (N,) float64."""
        function = _density_of(self.precise if model is None else model)
        assert function is not None
        return self._chunked("density", lambda part: function(part, **self.conditions(len(part))), y)

    def density_anywhere(self, y: Tensor) -> Tensor:
        """log p(y) where it may be undefined: −inf where the model raises or returns NaN."""
        function = _density_of(self.precise)
        assert function is not None
        rows, results = max(1, min(4096, ROW_NUMBERS // max(1, y[0].numel()))), []
        for part in y.split(rows):
            try:
                with torch.no_grad():
                    value = function(part, **self.conditions(len(part))).detach().cpu().double()
            except Exception:  # outside its domain a density may refuse
                value = torch.full((len(part),), -torch.inf, dtype=torch.float64)
            results.append(value.nan_to_num(nan=-torch.inf, posinf=torch.inf, neginf=-torch.inf))
        return torch.cat(results)

    def _chunked(self, member: str, function: Callable[[Tensor], Tensor], x: Tensor, rows: int | None = None) -> Tensor:
        rows = max(1, rows if rows is not None else min(4096, ROW_NUMBERS // max(1, x[0].numel())))
        started, results = time.process_time(), []
        for start in range(0, len(x), rows):
            part = x[start : start + rows]
            try:
                with torch.no_grad():
                    value = function(part)
            except Exception as error:
                raise ProbeError(f"{member} raised {_first_line(error)} for {len(part)} data of its space") from error
            if not isinstance(value, Tensor) or value.dim() < 1 or len(value) != len(part):
                shape = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
                raise ProbeError(f"{member} returned {shape} for {len(part)} data; wanted one value a datum")
            if bool(value.isnan().any()):
                raise ProbeError(f"{member} returned NaN for {int(value.isnan().any(-1).sum())} data of its space")
            results.append(value.detach().cpu().double())
        cost = (time.process_time() - started) / len(x)
        self.seconds[member] = min(cost, self.seconds.get(member, cost))  # small batches cost more a datum
        return torch.cat(results)


def _copy(model: Any) -> Any:
    """A deep copy, or None: foreign objects may hold what cannot be copied."""
    try:
        return copy.deepcopy(model)
    except Exception:  # anything can happen in a foreign __deepcopy__; the probes say what they then cannot check
        return None


def _density_of(model: Any) -> Callable[..., Tensor] | None:
    """The log density of reals behind a model: its own, or the one it dequantizes."""
    if can(model, "density_log_prob"):
        return model.density_log_prob
    if getattr(model, "measure", "mass") == "density" and can(model, "log_prob"):
        return model.log_prob
    inner = getattr(model, "density", None)
    if not isinstance(inner, LikelihoodModel) or not can(inner, "log_prob"):
        return None
    found: Callable[..., Tensor] = inner.log_prob  # type: ignore[assignment]
    return found


def _bound(model: Any, x: Tensor, k: int, generator: Any, conditions: dict[str, Tensor]) -> Tensor:
    if can(model, "bound"):
        return model.bound(x, k, generator)
    return log_mean_exp(model.log_weights(x, k, generator, **conditions).total.double(), dim=0)
