"""Every broken model fails by the right probe, and its correct twin passes all."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from codelength.audit import Verdict, audit

FOLDER = Path(__file__).parent / "broken"
FILES = sorted(FOLDER.glob("*.py"))


def verdicts(path: Path, name: str, budget: float, *, fresh_process: bool = False) -> dict[str, Verdict]:
    found = audit(f"{path}:{name}", budget=budget, fresh_process=fresh_process)
    assert [v.probe for v in found] == [f"P{i}" for i in range(1, 11)]
    return {v.probe: v for v in found}


def right_probe(path: Path) -> str:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return str(module.PROBE)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_broken_fails_by_the_right_probe(path: Path) -> None:
    found = verdicts(path, "broken", 10)
    verdict = found[right_probe(path)]
    assert verdict.status == "fail", verdict
    assert verdict.message
    assert verdict.cause
    assert verdict.evidence or "raised" in verdict.message


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_twin_passes(path: Path) -> None:
    found = verdicts(path, "twin", 3)
    assert not [v for v in found.values() if v.status in ("fail", "warn")]
    assert found[right_probe(path)].status == "pass"


def test_every_row_is_there() -> None:
    rows = {path.stem.split("_")[0] for path in FILES}
    wanted = [f"a{i}" for i in (1, 2, 3, 4, 5, 6, 7, 9)] + [f"b{i}" for i in range(1, 7)]
    wanted += ["c2", "c3", "c4"] + [f"d{i}" for i in range(2, 8)] + [f"e{i}" for i in range(1, 6)]
    assert rows == set(wanted)


@pytest.mark.slow
@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_in_a_new_process(path: Path) -> None:
    """With the new process, as on the command line: the same verdicts."""
    assert verdicts(path, "broken", 10, fresh_process=True)[right_probe(path)].status == "fail"
    assert not [v for v in verdicts(path, "twin", 10, fresh_process=True).values() if v.status == "fail"]
