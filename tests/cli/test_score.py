"""`codelength score` and `codelength teach` from the command line."""

import json

import numpy as np
import pytest
from PIL import Image

from codelength.cli.main import main
from codelength.data import load_data
from codelength.recipe import parse_recipe
from codelength.training import train


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A histogram run of digits: fitted, not trained."""
    path = tmp_path_factory.mktemp("runs") / "digits"
    recipe = parse_recipe(
        {
            "name": "digits",
            "data": {"name": "digits"},
            "model": {"system": "made", "options": {"hidden": [16]}},
            "training": {"steps": 20, "batch_size": 32, "optimizer": "adamw", "learning_rate": 0.01},
        },
        "test",
    )
    train(recipe, path)
    return path


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setattr("codelength.anomaly.calibration.cache_folder", lambda: tmp_path / "cache")


def images(folder, count=6):
    x = load_data("digits").split("test").x[:count]
    folder.mkdir()
    for i, image in enumerate(x):
        Image.fromarray(image[0].astype(np.uint8)).save(folder / f"{i}.png")
    Image.fromarray(np.random.default_rng(0).integers(0, 17, (8, 8)).astype(np.uint8)).save(folder / "noise.png")
    return folder


def test_folder_is_ranked_with_page_and_json(run, tmp_path, capsys):
    folder, page = images(tmp_path / "images"), tmp_path / "page.html"
    arguments = ["score", str(run), str(folder), "--false-positive-rate", "0.05", "--calibration", "200"]
    assert main([*arguments, "-o", str(page)]) == 0
    out, err = capsys.readouterr()
    lines = out.splitlines()
    assert lines[0].startswith("rank\titem\tp-value\tflagged\tbits/dim\tjoint\tlikelihood\ttypicality\tcomplexity")
    assert "noise.png" in lines[1]
    assert "yes" in lines[1]
    assert len(lines) == 8
    assert "against 100 clean items" in err
    text = page.read_text()
    assert text.count("data:image/png") == 7
    assert "1. noise.png: p = 0.0" in text
    assert main([*arguments, "--by", "typicality", "--background", "none", "--json"]) == 0
    written = json.loads(capsys.readouterr().out)
    assert written["score"] == "typicality"
    assert written["num_items"] == 7
    assert "ratio" not in written["items"][0]["scores"]
    assert set(written["items"][0]["scores"]) == set(written["items"][0]["p_values"])


def test_arrays_data_sets_and_background_runs(run, tmp_path, capsys):
    x = load_data("digits").split("test").x[:5, 0].astype(np.uint8)
    np.save(tmp_path / "x.npy", x)
    tail = ["--calibration", "200", "--false-positive-rate", "0.1", "--background", str(run), "--json"]
    assert main(["score", str(run), str(tmp_path / "x.npy"), *tail]) == 0
    by_item = {item["item"]: item for item in json.loads(capsys.readouterr().out)["items"]}
    assert len(by_item) == 5
    assert all(abs(item["scores"]["ratio"]) < 1e-6 for item in by_item.values())  # the run against itself
    log = run / "evaluation" / "test_evaluations.jsonl"
    before = len(log.read_text().splitlines()) if log.is_file() else 0
    assert main(["score", str(run), "digits", *tail]) == 0
    data = json.loads(capsys.readouterr().out)["items"]
    assert len(data) == 250
    assert len(log.read_text().splitlines()) == before + 1  # test data are counted
    same = next(item for item in data if item["item"] == "digits test 3")
    assert same["scores"]["joint"] == pytest.approx(by_item["3"]["scores"]["joint"], rel=1e-4)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--by", "nothing"], "unknown score 'nothing'"),
        (["--by", "regret"], "regret wants a latent model"),
        (["--false-positive-rate", "0.001"], "nothing would be flagged"),
        (["-o", "page.png"], "ends in .html"),
    ],
)
def test_wrong_calls_are_one_line(run, tmp_path, capsys, arguments, message):
    folder = images(tmp_path / "images", 2)
    code = main(["score", str(run), str(folder), "--calibration", "200", *arguments])
    assert code == 2
    assert message in capsys.readouterr().err


def test_images_of_other_shapes_are_refused(run, tmp_path, capsys):
    folder = images(tmp_path / "images", 2)
    Image.fromarray(np.zeros((9, 9), dtype=np.uint8)).save(folder / "large.png")
    assert main(["score", str(run), str(folder), "--calibration", "200"]) == 1
    assert "one shape" in capsys.readouterr().err


def test_teach_modes_draws_and_judges_every_fit(tmp_path, capsys):
    figure = tmp_path / "modes.png"
    assert main(["teach", "modes", "--steps", "2", "-o", str(figure), "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert {"forward_kl", "reverse_kl", "operator", "implicit_mmd", "unnormalized_ksd"} <= {
        r["fitted_by"] for r in rows
    }
    assert all(np.isfinite(row["mmd_squared"]) for row in rows)
    with Image.open(figure) as image:
        assert image.size[0] > 1000
    assert main(["teach", "modes", "-o", "modes.txt"]) == 2
