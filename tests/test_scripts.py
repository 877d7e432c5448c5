"""The scripts of `make check` find what they look for."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[1]


def load(name: str):
    """A script as a module."""
    spec = importlib.util.spec_from_file_location(name, ROOT / "scripts" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def tree(tmp_path):
    """A small repository in order."""
    (tmp_path / "src" / "codelength").mkdir(parents=True)
    (tmp_path / "src/codelength/__init__.py").write_text('__version__ = "1.2.3"\n')
    (tmp_path / "pyproject.toml").write_text('[project]\nversion = "1.2.3"\n')
    (tmp_path / "CHANGELOG.md").write_text("# Changelog\n\n## [1.2.3]\n\n## [1.2.2]\n")
    (tmp_path / "Makefile").write_text("demo:\n\ttrue\n")
    (tmp_path / "docs").mkdir()
    return tmp_path


def test_versions(tree, capsys):
    script = load("check_version")
    assert script.main(tree) == 0
    (tree / "CHANGELOG.md").write_text("# Changelog\n\n## [1.3.0]\n\n## [1.2.3]\n")
    assert script.main(tree) == 1
    assert "1.3.0" in capsys.readouterr().err
    (tree / "CHANGELOG.md").write_text("# Changelog\n")
    with pytest.raises(ValueError, match="no version found"):
        script.main(tree)


def test_own_versions_agree():
    assert load("check_version").main(ROOT) == 0


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("[a](docs/gone.md)", "no such file"),
        ("[a](#nowhere)", "no such heading"),
        ("```sh\ncodelength trian x\n```", "no command trian"),
        ("```sh\ncodelength sample run --colour\n```", "sample has no option --colour"),
        ("```sh\ncodelength train demo-mnist5k-mode\n```", "no recipe demo-mnist5k-mode ships"),
        ("```sh\nmake dmeo\n```", "no make target dmeo"),
    ],
)
def test_documents_with_a_fault(tree, capsys, text, problem):
    script = load("check_documents")
    (tree / "README.md").write_text(f"# Title\n\n{text}\n")
    assert script.main([], tree) == 1
    assert problem in capsys.readouterr().err


def test_documents_in_order(tree, capsys):
    text = "# The title\n[a](#the-title) [b](docs/x.md#part-2) [web](https://example.org)\n```sh\nmake demo\n"
    text += "codelength data info mnist5k\ncodelength sample run -n 3 \\\n  -o x.png  # a grid\n```\n"
    (tree / "README.md").write_text(text + "```python\nassert 1 + 1 == 2\n```\n")
    (tree / "docs" / "x.md").write_text("## Part 2\n[here](#part-2) [again](../docs/x.md)\n")
    script = load("check_documents")
    assert script.main(["--run"], tree) == 0
    (tree / "README.md").write_text("```python\nassert 1 + 1 == 3\n```\n")
    assert script.main(["--run"], tree) == 1
    assert "AssertionError" in capsys.readouterr().err
    (tree / "docs" / "x.md").write_text("## Part 2\n[up](../README.md)\n")  # the site has no such page
    assert script.main([], tree) == 1
    assert "leaves docs/" in capsys.readouterr().err


def test_nightly_runs_every_command_that_pages_show():
    script = load("run_commands")
    shown = [
        line for page in script.pages() for line in page.read_text().splitlines() if line.startswith("codelength ")
    ]
    run = [words for page in script.pages() for words in script.commands(page)]
    assert len(shown) > 80
    assert sum(words[0] == "codelength" for words in run) == len(shown)


def test_nightly_cuts_trainings_short_and_changes_nothing_else():
    script = load("run_commands")
    cut = script.cut_short(
        ["codelength", "train", "mnist5k-made", "--set", "training.steps=2000", "--out", "runs/made"]
    )
    assert cut == ["codelength", "train", "mnist5k-made", "--out", "runs/made", "--set", "training.steps=4"]
    for words in (["codelength", "train", "--resume", "--out", "runs/made"], ["codelength", "audit", "runs/made"]):
        assert script.cut_short(words) == words
    assert script.cut_short(["codelength", "sweep", "mnist5k-made", "--trials", "20"])[3:5] == ["--trials", "2"]


@pytest.fixture
def published(tmp_path):
    """A small run with a record, and the script."""
    from codelength.evaluation import evaluate_run
    from codelength.recipe import load_recipe
    from codelength.training import train

    settings = {"training.steps": 3, "training.validate_every": 3, "training.checkpoint_every": 3}
    recipe = load_recipe(
        "demo-mnist5k-made", {**settings, "training.validation_examples": 20, "model.options.hidden": [100, 100]}
    )
    run = train(recipe, tmp_path / "trained", progress=False)
    evaluate_run(run, split="validation", examples=20)
    return run.path, tmp_path / "records" / "small", load("publish_run")


def test_a_published_run_has_its_records_under_its_new_name(published, capsys):
    source, out, script = published
    assert script.main([str(source), str(out)]) == 0
    (record,) = out.glob("evaluation/*/record.json")
    assert '"model": "small"' in record.read_text()
    assert (out / "model.safetensors").read_bytes() == (source / "model.safetensors").read_bytes()
    assert not (out / "state").exists()
    verify = load("verify_records")
    for path in (out.parent, out):
        assert verify.main([str(path)]) == 0
        assert "agrees" in capsys.readouterr().out
    assert verify.main([str(out / "evaluation")]) == 2  # nothing to check is no success
    (out / "model.safetensors").unlink()
    assert verify.main([str(out.parent)]) == 0
    assert "its weights are not here" in capsys.readouterr().out
    record.write_text(record.read_text().replace('"bits_per_dim": ', '"bits_per_dim": 1'))
    assert verify.main([str(out.parent)]) == 1


def test_records_of_texts_are_scored_again(tmp_path, capsys):
    from codelength.evaluation import evaluate_run
    from codelength.recipe import parse_recipe
    from codelength.training import train

    (tmp_path / "note.txt").write_text("a text of some length, again and again; " * 40)
    recipe = parse_recipe(
        {
            "name": "note",
            "data": {"name": str(tmp_path / "note.txt"), "options": {"context": 16}},
            "model": {"system": "gpt2", "options": {"layers": 1, "width": 16, "heads": 2}},
            "training": {"steps": 2, "batch_size": 4},
        }
    )
    run = train(recipe, tmp_path / "runs" / "note", progress=False)
    evaluate_run(run, split="test")
    verify = load("verify_records")
    for options in ([], ["--examples", "20"]):
        assert verify.main([str(run.path), *options]) == 0
        assert "agrees" in capsys.readouterr().out
    (file,) = run.path.glob("evaluation/*/per_example.npy")
    nats = np.load(file)
    np.save(file, np.roll(nats, 1))  # the same mean, and not these tokens' code lengths
    assert verify.main([str(run.path), "--examples", "20"]) == 1


def test_weights_in_half_precision_want_new_records(published):
    from codelength.run import load_run, load_tensors

    source, out, script = published
    script.publish(source, out, half=True)
    wanted = load_tensors(source / "model.safetensors")
    found = load_run(out).load_model().state_dict()
    assert all(bool((found[name] == t.half().float()).all()) for name, t in wanted.items())
    assert not (out / "evaluation").exists()


def test_weights_must_fit_into_the_repository(published, monkeypatch):
    source, out, script = published
    monkeypatch.setattr(script, "LIMIT", 1000)
    with pytest.raises(ValueError, match="wanted 1,000 at most"):
        script.publish(source, out)
    assert script.main([str(source), str(out)]) == 1
    assert script.main([str(source / "no run"), str(out)]) == 1
    script.publish(source, out, weights=False)
    assert not (out / "model.safetensors").exists()
