"""Samples of a run, in batches and with what the model can take."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from codelength import distributed
from codelength.errors import UsageError, unknown_name
from codelength.models.base import LikelihoodModel, can
from codelength.randomness import make_generator

BATCH = 64


def draw_samples(
    model: LikelihoodModel,
    n: int,
    *,
    seed: int = 0,
    temperature: float = 1.0,
    conditions: Mapping[str, int | Sequence[int]] | None = None,
    given: Tensor | None = None,
    rows: int = 0,
) -> Tensor:
    """Draw n data, (n, *space.shape) int64, as a function of the seed; the processes of a job draw a part each.

    Args:
        model: A model with `sample`.
        n: Number of data.
        seed: Seed of the draw.
        temperature: Below 1 sharpens the distributions.
        conditions: Name -> value, the same for all n, or values that take turns.
        given: Data whose upper rows are kept, (n, C, H, W).
        rows: Number of rows kept.

    Raises:
        UsageError: The model cannot sample, or does not take one of the arguments.
    """
    name = type(model).__name__
    if not can(model, "sample"):
        raise UsageError(f"{name} has no sample(); choose a run of a model that can be sampled")
    options: dict[str, Any] = {}
    if temperature != 1.0:
        _require(model, "temperature", f"--temperature {temperature:g}")
        options["temperature"] = temperature
    if given is not None:
        _require(model, "given", f"--given {rows}")
        options["rows"] = rows
    values = check_conditions(model, conditions or {})
    sample: Any = model.sample
    parts = []
    starts = range(0, n, BATCH)
    for index in range(*distributed.share(len(starts))):
        start = starts[index]
        count = min(BATCH, n - start)
        turns = torch.arange(start, start + count)
        extra = {key: torch.tensor(several)[turns % len(several)] for key, several in values.items()}
        if given is not None:
            extra["given"] = given[start : start + count]
        generator = make_generator(seed, "samples", index, device=model.device)
        with torch.no_grad():
            parts.append(sample(count, generator, **options, **extra).cpu())
    if distributed.size() == 1:
        return torch.cat(parts)
    none = torch.zeros((0, *distributed.from_first(parts[0].shape[1:] if parts else None)), dtype=torch.int64)
    return torch.from_numpy(distributed.gather(torch.cat([none, *parts]).numpy()))


def check_conditions(model: LikelihoodModel, conditions: Mapping[str, int | Sequence[int]]) -> dict[str, list[int]]:
    """The values of each condition, if the model takes exactly these.

    Raises:
        UsageError: One is unknown, missing or out of range.
    """
    several = {key: [value] if isinstance(value, int) else list(value) for key, value in conditions.items()}
    for key, values in several.items():
        if key not in model.conditioning:
            raise unknown_name(f"condition of {type(model).__name__}:", key, model.conditioning or ["(none)"])
        classes = model.space.conditions.get(key)
        for value in values:
            if classes is not None and not 0 <= value < classes:
                raise UsageError(f"condition {key}={value}; wanted 0..{classes - 1}")
    missing = [key for key in model.conditioning if key not in conditions]
    if missing:
        raise UsageError(f"{type(model).__name__} wants a value for {missing[0]}; give --condition {missing[0]}=VALUE")
    return several


def _require(model: LikelihoodModel, argument: str, option: str) -> None:
    sample: Any = model.sample
    if argument not in inspect.signature(sample).parameters:
        raise UsageError(
            f"{type(model).__name__} cannot be sampled with {option}: its sample() has no {argument!r}. Leave the option out, or "
            "choose an autoregressive run"
        )
