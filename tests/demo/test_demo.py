"""The demo: every part once, resumable, and results that are those of the records."""

from __future__ import annotations

import json
import shutil
import sys
import time
from pathlib import Path

import pytest
import yaml

from codelength.cli.main import main
from codelength.demo import pool, run, work
from codelength.demo.plan import FAST, SYSTEMS, Part, make_parts
from codelength.demo.pool import PartError, run_parts, where
from codelength.errors import UsageError
from codelength.evaluation import Evaluation, evaluate_run
from codelength.evaluation.sealed import count_test_evaluations
from codelength.run import load_run

MODELS = {
    "made": {"hidden": [16], "components": 2},
    "vae": {"network": "dense", "filters": 8, "latents": 2, "components": 2},
}


def small_parts(out: Path, *_: object, steps: int = 4) -> list[Part]:
    """Two small models on `digits`."""
    out.mkdir(exist_ok=True)
    parts = []
    for system, options in MODELS.items():
        recipe = out / f"small-{system}.yaml"
        fields = {
            "data": {"name": "digits"},
            "model": {"system": system, "options": options},
            "training": {"steps": steps, "validate_every": 2, "checkpoint_every": 2},
            "evaluation": {"samples": 3 if system == "vae" else 1},
        }
        recipe.write_text(yaml.safe_dump(fields))
        parts.append(Part("digits", system, str(recipe), {}, out / f"digits-{system}"))
    return parts


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    """A finished small demo: its folder, what it said, its tables."""
    out, said = tmp_path_factory.mktemp("demo"), []
    patch = pytest.MonkeyPatch()
    patch.setattr(run, "make_parts", small_parts)
    tables = run.run_demo(out, said.append, data=["digits"], systems=list(MODELS))
    patch.undo()
    return out, said, tables


def test_results_are_those_of_the_records(demo):
    out, _, _ = demo
    results = json.loads((out / "results.json").read_text())
    assert len(results["rows"]) == 2
    assert results["seconds"] > 0
    assert results["machine"]["cores"] >= 1
    for row in results["rows"]:
        record = Evaluation.load((out / row["record"]).parent).record
        for name in ("bits_per_dim", "standard_error_bits_per_dim", "kind", "data_sha256", "coded_total_bytes"):
            assert row[name] == getattr(record, name)
        assert record.split == "test"
        assert record.train_minus_test_bits_per_dim == row["train_minus_test_bits_per_dim"]
        assert row["pixel_likelihood"] == "logistic mixture"
    kinds = {row["model"]: (row["kind"], row["num_samples"], row["coding"] is None) for row in results["rows"]}
    assert kinds == {"made": ("exact", 1, False), "vae": ("bound", 3, True)}


def test_the_test_set_was_coded_and_decoded(demo):
    out, _, _ = demo
    row = next(r for r in json.loads((out / "results.json").read_text())["rows"] if r["model"] == "made")
    coding = json.loads((out / row["coding"]).read_text())
    file = out / row["run"] / "coding" / Path(coding["file"]).name
    assert coding["verified"]
    assert file.stat().st_size == row["coded_total_bytes"] == coding["coded_total_bytes"]
    assert row["coded_bits_per_dim"] == pytest.approx(8 * file.stat().st_size / (250 * 64))
    ideal = row["bits_per_dim"] * 250 * 64 / 8
    assert ideal < file.stat().st_size < 1.005 * ideal + 512
    codecs = json.loads((out / "results.json").read_text())["codecs"]["digits-test"]
    best = min(codec["total_bytes"] for codec in codecs if codec["total_bytes"])
    assert row["coded_against_best_codec"] == pytest.approx(row["coded_total_bytes"] / best)


def test_report_and_tables(demo):
    out, said, tables = demo
    page = (out / "report.html").read_text()
    assert "codelength demo" in page
    assert "equal, every byte" in page
    lines = tables.splitlines()
    made = next(line for line in lines if line.strip().startswith("made"))
    for words in ("autoregressive", "logistic mixture", "exact", "±"):
        assert words in made
    vae = next(line for line in lines if line.strip().startswith("vae"))
    assert "≤" in vae
    assert "bound, K = 3" in vae
    assert any(line.strip().startswith("PNG") for line in lines)
    assert any("A uniform model costs 4.087 bits/dim" in line for line in said)
    assert any("what models have to beat" in line for line in said)


def test_what_is_finished_is_not_done_again(demo, monkeypatch, capfd):
    out, _, tables = demo
    before = {path: path.read_bytes() for path in out.rglob("*") if path.suffix in (".safetensors", ".npy", ".clen")}
    assert len(before) >= 6
    monkeypatch.setattr(run, "make_parts", small_parts)
    again = run.run_demo(out, lambda line: None, data=["digits"], systems=list(MODELS))
    assert again == tables
    assert {path: path.read_bytes() for path in before} == before
    assert all(count_test_evaluations(out / f"digits-{system}") == 1 for system in MODELS)
    assert "trained before" in capfd.readouterr().err


def test_verified_by_the_script(demo, capsys):
    import importlib.util

    out, _, _ = demo
    file = Path(__file__).parents[2] / "scripts" / "verify_records.py"
    spec = importlib.util.spec_from_file_location("verify_records", file)
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    path = out / "results.json"
    assert script.main([str(path)]) == 0
    results = json.loads(path.read_text())
    results["rows"][0]["bits_per_dim"] += 1e-6
    (out / "wrong.json").write_text(json.dumps(results))
    assert script.main([str(out / "wrong.json")]) == 1
    assert script.main([str(out / "missing.json")]) == 2
    # The runs themselves, all examples and some; a record that is not its examples' mean is found.
    assert script.main([str(out)]) == 0
    assert script.main([str(out), "--examples", "5"]) == 0
    record = next(out.glob("digits-made/evaluation/*/record.json"))
    text = record.read_text()
    record.write_text(text.replace('"bits_per_dim": ', '"bits_per_dim": 1'))
    assert script.main([str(out), "--examples", "5"]) == 1
    record.write_text(text)
    # A record of a sample is checked on the data that it lists.
    sampled = evaluate_run(load_run(out / "digits-made"), split="validation", examples=7).record
    assert script.main([str(out)]) == 0
    shutil.rmtree(out / "digits-made" / "evaluation" / sampled.folder_name())


def test_part_in_this_process(tmp_path):
    part, said = small_parts(tmp_path)[0], []
    work.do_part(part, said.append)
    assert said[0].startswith("training 4 steps: ")
    assert said[1].startswith("trained")
    assert "bits/dim, exact" in said[2]
    assert "a fresh process decoded them, every byte equal" in said[3]
    coding = part.folder / "coding" / "digits-test.json"
    # A coded file that is gone is made again; other weights too.
    next(coding.parent.glob("*.clen")).unlink()
    work.do_part(part, said.append)
    assert next(coding.parent.glob("*.clen")).is_file()
    assert count_test_evaluations(part.folder) == 1


def test_part_is_a_line():
    part = Part("digits", "made", "x", {"training.steps": 2}, Path("a b"))
    assert Part.from_json(part.to_json()) == part


def test_main_of_a_part(tmp_path, capsys, monkeypatch):
    good, other = small_parts(tmp_path)
    monkeypatch.setattr(work, "end_with", lambda parent: None)
    assert work.main([good.to_json(), "1"]) == 0
    assert "digits made: " in capsys.readouterr().err
    wrong = Part("digits", "made", good.recipe, {"training.steps": 9}, good.folder)
    assert work.main([wrong.to_json(), "1"]) == 2
    assert "cannot resume" in capsys.readouterr().err.splitlines()[-1]

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(work, "do_part", interrupted)
    assert work.main([other.to_json(), "1"]) == 130


def test_a_part_ends_with_its_parent(monkeypatch):
    ended = []
    monkeypatch.setattr(work.os, "getppid", lambda: 1)
    monkeypatch.setattr(work.os, "_exit", ended.append)
    work.end_with(2)
    assert ended == [1]


def test_failed_part_stops_the_others(tmp_path, monkeypatch):
    started = []

    def start(part):
        code = "import sys; sys.exit(3)" if part.system == "made" else "import time; time.sleep(60)"
        started.append(pool.subprocess.Popen([sys.executable, "-c", code]))
        return started[-1]

    monkeypatch.setattr(pool, "start", start)
    begun = time.monotonic()
    with pytest.raises(PartError, match="digits made failed with exit code 3"):
        run_parts(small_parts(tmp_path), 2, lambda line: None)
    assert time.monotonic() - begun < 30
    assert all(process.poll() is not None for process in started)


def test_talk_while_parts_work(tmp_path, monkeypatch):
    monkeypatch.setattr(pool, "SECONDS_BETWEEN_LINES", 0.0)
    monkeypatch.setattr(
        pool, "start", lambda part: pool.subprocess.Popen([sys.executable, "-c", "import time; time.sleep(1)"])
    )
    said = []
    run_parts(small_parts(tmp_path), 1, said.append)
    assert said[0] == "digits made: starting | 1 parts wait"
    assert any(line.startswith("digits vae: starting | 0 parts") for line in said)


def test_where(tmp_path):
    part = small_parts(tmp_path)[0]
    assert where(part) == "digits made: starting"
    part.folder.mkdir()
    log = part.folder / "metrics.jsonl"
    line = {"step": 2, "split": "train", "bits_per_dim": 3.21}
    log.write_text(json.dumps(line) + '\n{"step": 3')
    assert where(part) == "digits made: step 2 of 4, train 3.210 bits/dim"
    log.write_text(json.dumps({**line, "split": "end"}) + "\n")
    assert where(part) == "digits made: measuring on test data"
    (part.folder / "evaluation" / "x").mkdir(parents=True)
    (part.folder / "evaluation" / "x" / "record.json").touch()
    assert where(part) == "digits made: coding and decoding"


def test_plan(tmp_path):
    parts = make_parts(tmp_path)
    assert {(part.data, part.system) for part in parts} == {(d, s) for d in ("mnist5k", "photos32") for s in SYSTEMS}
    assert [part.cost for part in parts] == sorted((part.cost for part in parts), reverse=True)
    for part in parts:
        recipe = part.load_recipe()
        assert recipe.model.system == part.system
        assert recipe.data.name == part.data
        if part.system in ("realnvp", "vae"):
            assert 16 <= recipe.evaluation.samples <= 64
    for part in make_parts(tmp_path, overrides=FAST):
        assert part.load_recipe().training.steps == 20


def test_unknown_names(tmp_path, capsys):
    with pytest.raises(UsageError, match="unknown data set of the demo 'mnist'; did you mean 'mnist5k'"):
        make_parts(tmp_path, data=["mnist"])
    with pytest.raises(UsageError, match="did you mean 'made'"):
        make_parts(tmp_path, systems=["mode"])
    assert main(["demo", "--out", str(tmp_path), "--set", "training.step=3"]) == 2
    assert "did you mean 'training.steps'" in capsys.readouterr().err


def test_command(tmp_path, monkeypatch, capsys):
    calls = []

    def fake(out, say, **options):
        calls.append(options)
        say("talk")
        return "table"

    monkeypatch.setattr(run, "run_demo", fake)
    assert main(["demo", "--out", str(tmp_path), "--fast", "--set", "training.steps=3"]) == 0
    assert capsys.readouterr() == ("table\n", "talk\n")
    assert calls[0]["data"] == ("mnist5k",)
    assert calls[0]["overrides"] == {"training.steps": 3}
    assert main(["demo", "--out", str(tmp_path), "--data", "photos32", "--model", "made", "--jobs", "3"]) == 0
    assert (calls[1]["data"], calls[1]["systems"], calls[1]["jobs"]) == (("photos32",), ("made",), 3)


@pytest.mark.slow
def test_shipped_recipes_in_the_fast_demo(tmp_path, capfd):
    assert main(["demo", "--fast", "--out", str(tmp_path)]) == 0
    rows = json.loads((tmp_path / "results.json").read_text())["rows"]
    assert {row["model"] for row in rows} == set(SYSTEMS)
    for name in SYSTEMS:
        load_run(tmp_path / f"mnist5k-{name}")
