"""Sweeps: settings are parsed, every combination is trained once, a stopped sweep goes on, the best comes first."""

import json
from pathlib import Path

import pytest

from codelength.cli.main import main
from codelength.errors import UsageError
from codelength.sweep import parse_axis, sweep

RECIPE = """
name: tiny
data: {name: digits}
model: {system: made, options: {hidden: [16]}}
training: {steps: 30, batch_size: 32, validate_every: 30, checkpoint_every: 30}
"""


@pytest.mark.parametrize("text", ["training.steps", "a=", "=3", "a=3..1", "a=log:0..1", "a=log:1,2", "a=x..y"])
def test_malformed_axes_are_refused(text):
    with pytest.raises(UsageError, match="--over"):
        parse_axis(text)


def test_axes():
    assert parse_axis("a=1,2.5,relu").choices == (1, 2.5, "relu")
    assert (parse_axis("a=2..9").low, parse_axis("a=2..9").high) == (2, 9)


def test_a_wrong_key_or_a_range_without_trials_fails_before_anything_is_trained(tmp_path):
    pytest.importorskip("optuna")
    (tmp_path / "tiny.yaml").write_text(RECIPE)
    recipe = str(tmp_path / "tiny.yaml")
    with pytest.raises(UsageError, match="learning_rte"):
        sweep([recipe], [parse_axis("training.learning_rte=1,2")], tmp_path / "out")
    with pytest.raises(UsageError, match="--trials"):
        sweep([recipe], [parse_axis("training.learning_rate=log:1e-4..1e-2")], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def code_length(entry):
    """What a row says of a model, without how long it took to say it."""
    return entry["rank"], entry["name"], entry["record"]["nats_per_example"]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # optuna's, of what is experimental in it
def test_a_sweep_is_one_table_and_goes_on(tmp_path, capsys):
    pytest.importorskip("optuna")
    (tmp_path / "tiny.yaml").write_text(RECIPE)
    command = ["sweep", str(tmp_path / "tiny.yaml"), "--out", str(tmp_path / "out"), "--device", "cpu", "--json"]
    assert main([*command, "--over", "training.learning_rate=1e-6,1e-2"]) == 0
    first = capsys.readouterr()
    table = json.loads(first.out)
    assert "best of 2" in first.err
    runs = sorted(path.name for path in (tmp_path / "out").glob("trial-*") if path.is_dir())
    assert runs == ["trial-0000", "trial-0001"]
    assert all(run in json.dumps(table) for run in runs)
    best = first.err.strip().splitlines()[-1].rpartition(" ")[2]
    assert "learning_rate: 0.01" in (Path(best) / "recipe.yaml").read_text()
    times = {run: (tmp_path / "out" / run / "model.safetensors").stat().st_mtime_ns for run in runs}
    assert main([*command, "--over", "training.learning_rate=1e-6,1e-2"]) == 0
    again = json.loads(capsys.readouterr().out)
    assert [code_length(entry) for entry in again["entries"]] == [code_length(entry) for entry in table["entries"]]
    assert times == {run: (tmp_path / "out" / run / "model.safetensors").stat().st_mtime_ns for run in runs}
