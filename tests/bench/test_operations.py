"""Hot paths do no more operations than when they were last counted, give or take a tenth."""

from __future__ import annotations

import json
from pathlib import Path

import torch

from codelength.bench.operations import PATHS, count, count_all, grown

COUNTS = Path(__file__).with_name("operation_counts.json")


def test_hot_paths_have_not_grown():
    lines = grown(count_all(), json.loads(COUNTS.read_text()))
    assert not lines, f"{lines}; if that is meant: python -m codelength.bench.operations --write {COUNTS}"


def test_control_a_path_that_grows_is_found():
    before = json.loads(COUNTS.read_text())
    name, way = next(iter(PATHS)), "PyTorch"
    now = {way: {name: {key: round(1.2 * value) for key, value in before[way][name].items()}}}
    assert len(grown(now, before)) == 2
    assert not grown({way: {name: before[way][name]}}, before)
    assert grown({way: {"another path": {"operations": 1}}}, before)


def test_operations_and_flops_are_counted():
    a = torch.ones(2, 3)
    assert count(lambda: a @ a.t()) == {"operations": 2, "flops": 2 * 2 * 3 * 2}
    assert count(lambda: None) == {"operations": 0, "flops": 0}
