"""Honest models with random weights raise no alarm: P8 apart, which rightly finds untrained models worse than uniform."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from codelength import LikelihoodModel, Space, build_model
from codelength.audit import audit
from codelength.models.base import can

# 27: a density under a dequantizer of random weights, whose bound is loose: it is judged by the tighter one of U(0, 1), as in its record.
QUICK, ALL = (*range(0, 220, 7), 27), range(200)


def failures(i: int, model: Any, make_dataset: Callable[..., Any], budget: float) -> list[str]:
    """What failed of the i-th model; every third of ours is audited on its own samples, which make it a trained one."""
    data = None
    if i % 3 == 0 and isinstance(model, LikelihoodModel) and can(model, "sample"):
        data = make_dataset(model.sample(180, torch.Generator().manual_seed(i)), model.space)  # type: ignore[operator]
    verdicts = audit(model, data, budget=budget, seed=i, fresh_process=False)
    return [f"{i} {type(model).__name__} {v.probe}: {v.message}" for v in verdicts if v.status == "fail"]


@pytest.mark.parametrize("i", QUICK)
def test_no_false_alarm(i: int, honest_model: Callable[[int], Any], make_dataset: Callable[..., Any]) -> None:
    assert not failures(i, honest_model(i), make_dataset, budget=0.5)


def test_a_conditional_model_is_coded_too() -> None:
    torch.manual_seed(0)
    space = Space.image(1, 2, 2, 3, conditions={"label": 3})
    model = build_model("made", space, hidden=[8], components=2, class_conditional=True)
    verdicts = {v.probe: v for v in audit(model, budget=0.5, fresh_process=False)}
    assert verdicts["P7"].status == "pass"
    assert verdicts["P7"].evidence["noise_coded"] > 0


@pytest.mark.slow
def test_no_false_alarm_of_two_hundred(honest_model: Callable[[int], Any], make_dataset: Callable[..., Any]) -> None:
    found = [line for i in ALL for line in failures(i, honest_model(i), make_dataset, budget=5)]
    assert not found
