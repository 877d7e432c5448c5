import json
from pathlib import Path

import pytest
import torch
from torch import nn

from codelength.errors import CheckpointError, UsageError
from codelength.models import registry
from codelength.models.base import LikelihoodModel
from codelength.recipe import parse_recipe
from codelength.run import (
    create_run,
    load_run,
    load_tensors,
    load_weights,
    save_run_weights,
    save_tensors,
    write_atomically,
)
from codelength.space import Space

SPACE = Space.image(1, 2, 2, levels=3)
RECIPE = parse_recipe({"name": "r", "data": {"name": "digits"}, "model": {"system": "toy"}})


class Toy(LikelihoodModel):
    def __init__(self, space):
        super().__init__(space)
        self.layer = nn.Linear(2, 3)


@pytest.fixture
def run_folder(tmp_path, monkeypatch):
    monkeypatch.setitem(registry.SYSTEMS, "toy", ("baselines", "test_run_toy:Toy"))
    monkeypatch.setitem(__import__("sys").modules, "test_run_toy", type("module", (), {"Toy": Toy}))
    create_run(tmp_path / "run", RECIPE, SPACE)
    return tmp_path / "run"


def test_a_run_is_read_back(run_folder):
    model = Toy(SPACE)
    save_run_weights(run_folder, model.state_dict(), "ema", 7)
    run = load_run(run_folder)
    assert (run.recipe, run.space, run.weights, run.step, run.name, run.family) == (
        RECIPE, SPACE, "ema", 7, "run", "baselines",
    )  # fmt: skip
    loaded = run.load_model(dtype=torch.float64)
    assert not loaded.training
    assert loaded.layer.weight.dtype == torch.float64
    assert torch.equal(loaded.layer.weight, model.layer.weight.double())


def test_weights_that_are_not_those_recorded_are_refused(run_folder):
    save_run_weights(run_folder, Toy(SPACE).state_dict(), "raw", 1)
    save_tensors(Toy(SPACE).state_dict(), run_folder / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"not the file that weights\.json describes"):
        load_run(run_folder).load_model()


def test_a_run_without_weights_says_so(run_folder):
    with pytest.raises(CheckpointError, match=r"model\.safetensors is missing"):
        load_run(run_folder).load_model()


def test_a_folder_that_is_no_run_is_refused(tmp_path):
    with pytest.raises(UsageError, match="is no run"):
        load_run(tmp_path)


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("space.json", None, "space.json is missing"),
        ("space.json", "{", "space.json is damaged"),
        ("weights.json", "", "weights.json is damaged"),
        ("recipe.yaml", "[", "recipe.yaml is damaged"),
    ],
)
def test_damaged_files_are_named(run_folder, file, content, message):
    if content is None:
        (run_folder / file).unlink()
    else:
        (run_folder / file).write_text(content)
    with pytest.raises(CheckpointError, match=message):
        load_run(run_folder)


def test_metrics_leave_out_a_line_being_written_and_refuse_damage(run_folder):
    run = load_run(run_folder)
    assert run.metrics() == []
    (run_folder / "metrics.jsonl").write_text('{"step": 1}\n{"step": 2}\n{"st')
    assert run.metrics() == [{"step": 1}, {"step": 2}]
    (run_folder / "metrics.jsonl").write_text('{"step": 1}\n{"st\n{"step": 3}\n')
    with pytest.raises(CheckpointError, match=r"metrics\.jsonl is damaged"):
        run.metrics()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.pop("layer.bias"), "no weights for layer.bias; 1 missing"),
        (lambda t: t.update(extra=torch.zeros(1)), "unexpected weights extra"),
        (lambda t: t.update({"layer.bias": torch.zeros(4)}), r"layer.bias is \(4,\), wanted \(3,\)"),
    ],
)
def test_weights_of_another_architecture_are_refused(change, message):
    model = Toy(SPACE)
    tensors = dict(model.state_dict())
    change(tensors)
    with pytest.raises(CheckpointError, match=message):
        load_weights(model, tensors, "file")


def test_a_full_disk_leaves_the_file_as_it_was(tmp_path, monkeypatch):
    path = tmp_path / "model.safetensors"
    save_tensors({"a": torch.arange(3)}, path)

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(CheckpointError, match="No space left on device; the previous file is untouched"):
        save_tensors({"a": torch.zeros(3)}, path)
    monkeypatch.undo()
    assert torch.equal(load_tensors(path)["a"], torch.arange(3))
    assert [p.name for p in tmp_path.iterdir()] == ["model.safetensors"]


def test_an_interrupted_write_leaves_no_rubbish(tmp_path, monkeypatch):
    def interrupt(source, target):
        raise KeyboardInterrupt

    monkeypatch.setattr("os.replace", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_atomically(tmp_path / "a", b"x")
    assert list(tmp_path.iterdir()) == []


def test_damaged_tensors_are_refused(tmp_path):
    save_tensors({"a": torch.arange(300)}, tmp_path / "a")
    content = (tmp_path / "a").read_bytes()
    (tmp_path / "a").write_bytes(content[:-7])
    with pytest.raises(CheckpointError, match="is damaged"):
        load_tensors(tmp_path / "a")


def test_space_round_trip_through_the_folder(run_folder):
    fields = json.loads((Path(run_folder) / "space.json").read_text())
    assert Space.from_json(fields) == SPACE
