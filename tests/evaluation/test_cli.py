"""`codelength evaluate` and `codelength compare`: data on stdout, one line on failure."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch

from codelength.cli.main import main
from codelength.evaluation import Evaluation
from codelength.recipe import parse_recipe
from codelength.run import create_run, load_run, save_run_weights


@pytest.fixture
def runs(tmp_path, small_data, monkeypatch):
    """Folders a and b: two runs on the small data, which `load_data` finds by any name."""
    monkeypatch.setattr("codelength.data.load_data", lambda name, **options: replace(small_data, name=name))
    recipe = parse_recipe({"name": "r", "data": {"name": "small"}, "model": {"system": "mean_field"}})
    for i, name in enumerate("ab"):
        create_run(tmp_path / name, recipe, small_data.space)
        tensors = load_run(tmp_path / name).build().state_dict()
        save_run_weights(tmp_path / name, {key: value + 0.1 * i for key, value in tensors.items()}, "raw", 1)
    return str(tmp_path / "a"), str(tmp_path / "b")


def test_evaluate_prints_the_record(runs, capsys):
    assert main(["evaluate", runs[0], "--json", "--batch-size", "9"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert (record["split"], record["num_examples"], record["kind"]) == ("validation", 30, "exact")
    assert main(["evaluate", runs[0]]) == 0
    table = capsys.readouterr().out
    assert f"a on small validation: {record['bits_per_dim']:.4f} ± " in table
    assert "train - validation" in table


def test_evaluate_on_other_data_and_a_folder(runs, capsys, tmp_path):
    assert (
        main(["evaluate", runs[0], "--data", "other", "--split", "test", "--out", str(tmp_path / "r"), "--json"]) == 0
    )
    record = json.loads(capsys.readouterr().out)
    assert (record["data"], record["test_evaluations"]) == ("other", 1)
    assert Evaluation.load(tmp_path / "r").record.data == "other"


def test_evaluate_a_foreign_model(runs, known, small_data, capsys, monkeypatch, tmp_path):
    model = known(small_data.space)
    monkeypatch.setattr("codelength.adapters.load_subject", lambda spec, *a, **k: model, raising=False)
    monkeypatch.chdir(tmp_path)
    assert main(["evaluate", "mine.py:model"]) == 2
    assert "name the data with --data" in capsys.readouterr().err
    assert main(["evaluate", "mine.py:model", "--data", "small", "--out", "out", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["model"] == "mine.py:model"
    assert Evaluation.load("out").record.family == "foreign"


def test_evaluate_what_is_no_model(capsys):
    assert main(["evaluate", "nowhere"]) == 2
    assert "nowhere is neither a run nor a model" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [["--samples", "0"], ["--split", "all"], ["--batch-size", "-1"]])
def test_evaluate_impossible_options(runs, arguments, capsys):
    assert main(["evaluate", runs[0], *arguments]) == 2
    assert capsys.readouterr().err.startswith("error: ")


def test_compare_needs_records_then_compares(runs, capsys):
    assert main(["compare", *runs]) == 1
    error = capsys.readouterr().err
    assert f"run `codelength evaluate {runs[0]} --split test` first" in error
    for run in runs:
        assert main(["evaluate", run]) == 0
    capsys.readouterr()
    assert main(["compare", *runs, "--json"]) == 0
    streams = capsys.readouterr()
    assert "small validation" in streams.err
    comparison = json.loads(streams.out)
    assert [entry["name"] for entry in comparison["entries"]] in (["a", "b"], ["b", "a"])
    for format in ("terminal", "markdown", "latex"):
        assert main(["compare", *runs, "--format", format]) == 0
        assert "saves" in capsys.readouterr().out
    assert main(["compare", *runs, "--split", "test"]) == 1
    assert "no record of any data test" in capsys.readouterr().err


def test_compare_prefers_test_and_wants_a_choice_of_data(runs, capsys):
    for run in runs:
        for extra in ([], ["--split", "test"]):
            assert main(["evaluate", run, *extra]) == 0
    capsys.readouterr()
    assert main(["compare", *runs, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["split"] == "test"
    for run in runs:
        assert main(["evaluate", run, "--data", "other", "--split", "test"]) == 0
    assert main(["compare", *runs]) == 2
    assert "choose one with --data" in capsys.readouterr().err
    assert main(["compare", *runs, "--data", "other"]) == 0


def test_compare_without_common_data(runs, capsys):
    assert main(["evaluate", runs[0]]) == 0
    assert main(["evaluate", runs[1], "--split", "test"]) == 0
    assert main(["compare", *runs]) == 1
    assert "no record of the same data and split" in capsys.readouterr().err


def test_compare_leaves_out_records_of_older_weights(runs, capsys, tmp_path):
    assert main(["evaluate", runs[0]]) == 0
    save_run_weights(tmp_path / "a", {k: v + 1 for k, v in load_run(runs[0]).build().state_dict().items()}, "raw", 2)
    assert main(["compare", runs[0]]) == 1
    assert "other weights" in capsys.readouterr().err


def test_compare_takes_the_tightest_record_and_record_folders(tmp_path, make_evaluation, capsys):
    x = torch.arange(20.0).double().numpy()
    loose = make_evaluation("A", x + 1, kind="bound", num_samples=1).save(tmp_path / "loose")
    exact = make_evaluation("B", x).save(tmp_path / "exact")
    assert main(["compare", str(loose), str(exact), "--json"]) == 0
    names = [entry["name"] for entry in json.loads(capsys.readouterr().out)["entries"]]
    assert names == ["B", "A"]
    assert main(["compare", str(tmp_path)]) == 2
    assert "neither a run nor a record" in capsys.readouterr().err


def test_compare_of_different_data_of_one_name_is_refused(tmp_path, make_evaluation, capsys):
    x = torch.arange(20.0).double().numpy()
    folders = [make_evaluation("A", x, data_sha256=c * 64).save(tmp_path / c) for c in "12"]
    assert main(["compare", *map(str, folders)]) == 1
    assert "data_sha256" in capsys.readouterr().err
