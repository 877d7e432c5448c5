"""`codelength audit`: table, JSON, exit codes, runs, new processes."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from codelength import Space
from codelength.audit import audit
from codelength.audit.fresh import fresh_scores
from codelength.audit.fresh import main as fresh_main
from codelength.cli.main import main
from codelength.errors import EvaluationError
from codelength.recipe import parse_recipe
from codelength.run import create_run, save_run_weights

BROKEN = Path(__file__).parent / "broken"
LEAK, CHAIN = f"{BROKEN / 'a2_target_in_its_own_key.py'}:broken", f"{BROKEN / 'a2_target_in_its_own_key.py'}:twin"

HASHED = """
import torch

class Hashed:
    shape, levels = (3,), 9
    def __init__(self):
        self.order = sorted(range(9), key=lambda v: hash(str(v) + "salt"))
    def log_prob(self, x):
        p = (torch.arange(1, 10, dtype=torch.float64) / 45)[self.order]
        return p.log()[x].sum(1)
"""

UNSEEDED = """
import torch
class Unseeded(torch.nn.Module):
    shape, levels = (4,), 3
    def __init__(self):
        super().__init__()
        self.logits = torch.nn.Parameter(torch.randn(3))
    def log_prob(self, x):
        return torch.log_softmax(self.logits, 0)[x].sum(1)

class Loose:
    shape, levels = (4,), 3
    def __init__(self):
        self.logits = torch.randn(3)
    def log_prob(self, x):
        return torch.log_softmax(self.logits, 0)[x].sum(1)
"""


@pytest.fixture(autouse=True)
def _here(monkeypatch: pytest.MonkeyPatch) -> None:
    """New processes are tested by themselves; the rest scores them here."""
    import codelength.audit.p4_determinism as p4

    monkeypatch.setattr(p4, "fresh_scores", scores_here)


def scores_here(spec: str, space: Space, x: Any, seed: int, state: dict[str, Any]) -> Any:
    from codelength.audit.p4_determinism import _module, score
    from codelength.audit.runner import open_subject
    from codelength.audit.subject import Probed

    model, spec_again, _ = open_subject(spec, space)
    subject = Probed.of(model, space, spec_again)
    if state:
        _module(subject).load_state_dict(state)
    return score(subject, subject.model, x, seed)


def test_pass_is_exit_0_and_a_table(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["audit", CHAIN, "--budget", "2"]) == 0
    out = capsys.readouterr().out
    assert "P1  normalization        pass" in out
    assert "P9  data                 not applicable" in out
    assert out.rstrip().endswith("no probe failed")


def test_failure_is_exit_1_with_evidence_and_cause(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["audit", LEAK, "--budget", "2"]) == 1
    out = capsys.readouterr().out
    assert "P2  causality            fail" in out
    assert "own_target_max_change" in out
    assert "usually:" in out
    assert out.rstrip().endswith("failed P2")


def test_json_is_written_when_a_probe_fails(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = tmp_path / "verdicts.json"
    assert main(["audit", LEAK, "--budget", "2", "--json", "-o", str(path)]) == 1
    printed = json.loads(capsys.readouterr().out)
    assert printed == json.loads(path.read_text())
    assert printed["passed"] is False
    assert [v["probe"] for v in printed["verdicts"]] == [f"P{i}" for i in range(1, 11)]
    assert set(printed["verdicts"][0]) == {"probe", "name", "status", "evidence", "message", "cause"}


def test_what_cannot_run_is_exit_3(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = tmp_path / "m.py"
    path.write_text(
        "class M:\n    shape, levels = (2,), 2\n    def log_prob(self, x): raise RuntimeError('no weights here')\n"
    )
    assert main(["audit", f"{path}:M"]) == 3
    assert "no weights here" in capsys.readouterr().err
    path.write_text(
        "import torch\nclass M:\n    shape, levels = (2,), 2\n    def log_prob(self, x): return torch.zeros(len(x))\n"
    )
    assert main(["audit", f"{path}:M", "--data", "digits"]) == 3
    assert "do not fit the model" in capsys.readouterr().err


def test_usage_is_exit_2(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["audit", str(tmp_path)]) == 2
    assert "is no run" in capsys.readouterr().err
    assert main(["audit", f"{tmp_path}/none.py:make"]) == 2
    assert main(["audit", CHAIN, "--budget", "0"]) == 2
    assert main(["audit", CHAIN, "--data", "digit"]) == 2
    assert "did you mean 'digits'" in capsys.readouterr().err


def test_a_run_is_audited_on_its_own_data_and_keeps_the_verdicts(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, tiny_system: Callable[..., Any]
) -> None:
    from codelength.data import load_data

    space = load_data("digits").space
    recipe = parse_recipe({"name": "h", "data": {"name": "digits"}, "model": {"system": "histogram"}})
    from codelength import build_model

    model: Any = build_model("histogram", space)
    model.fit(load_data("digits").split("train").batch(slice(None)))
    create_run(tmp_path / "run", recipe, space)
    save_run_weights(tmp_path / "run", model.state_dict(), "raw", 0)
    assert main(["audit", str(tmp_path / "run"), "--budget", "4", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["data"] == "digits"
    assert report == json.loads((tmp_path / "run" / "audit.json").read_text())
    status = {v["probe"]: v["status"] for v in report["verdicts"]}
    assert status["P9"] == status["P10"] == status["P7"] == "pass"
    assert status["P8"] == "warn"  # a context table does better


def test_a_new_process_gives_the_same_and_another_hash_seed_does_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import codelength.audit.p4_determinism as p4

    monkeypatch.setattr(p4, "fresh_scores", fresh_scores)
    monkeypatch.setenv("PYTHONHASHSEED", "random")
    path = tmp_path / "hashed.py"
    path.write_text(HASHED)
    verdict = audit(f"{path}:Hashed", budget=1)[3]
    assert verdict.status == "fail"
    assert "in a new process" in verdict.message


def test_weights_without_a_seed_warn(tmp_path: Path) -> None:
    path = tmp_path / "unseeded.py"
    path.write_text(UNSEEDED)
    for name in ("Unseeded", "Loose"):
        verdict = audit(f"{path}:{name}", budget=1, fresh_process=name == "Unseeded")[3]
        assert verdict.status == "warn", verdict
        assert "another" in verdict.message or "other weights" in verdict.message


@pytest.mark.slow
def test_a_process_that_fails_is_named(tmp_path: Path) -> None:
    import torch

    with pytest.raises(EvaluationError, match="new process ended with code"):
        fresh_scores(f"{tmp_path}/none.py:M", Space("sequence", (2,), 2), torch.zeros(1, 2, dtype=torch.long), 0, {})


def test_the_job_of_the_new_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the process runs, run here: with weights sent along."""
    import numpy as np
    import torch

    from codelength.run import save_tensors

    path = tmp_path / "unseeded.py"
    path.write_text(UNSEEDED)
    np.save(tmp_path / "x.npy", np.zeros((2, 4), dtype=np.int64))
    space = Space("sequence", (4,), 3)
    job = {"spec": f"{path}:Unseeded", "space": space.to_json(), "seed": 0, "state": True}
    (tmp_path / "job.json").write_text(json.dumps(job))
    save_tensors({"logits": torch.log(torch.tensor([0.5, 0.25, 0.25]))}, tmp_path / "state.safetensors")
    fresh_main(tmp_path)
    np.testing.assert_allclose(np.load(tmp_path / "scores.npy"), 4 * np.log(0.5), rtol=1e-5)


@pytest.mark.slow
def test_help_is_quick() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "codelength.cli.main", "audit", "--help"], capture_output=True, text=True, check=True
    )
    assert "Probe a run" in done.stdout
