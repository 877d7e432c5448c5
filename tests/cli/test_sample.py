"""`codelength sample`."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from codelength.cli.main import main
from codelength.cli.sample import parse_conditions
from codelength.data import load_data
from codelength.errors import UsageError


def test_grid(run, tmp_path, capsys):
    path = tmp_path / "grid.png"
    assert main(["sample", str(run.path), "-n", "6", "--columns", "3", "--scale", "2", "-o", str(path)]) == 0
    out, err = capsys.readouterr()
    assert out == f"{path}\n"
    assert "6 samples of made (seed 0, temperature 1)" in err
    with Image.open(path) as image:
        assert image.size == (2 * (3 * 10 + 2), 2 * (2 * 10 + 2))
        assert image.mode == "L"


def test_seed_and_temperature_count(run, tmp_path):
    def grid(name: str, *options: str) -> bytes:
        path = tmp_path / name
        assert main(["sample", str(run.path), "-n", "4", "-o", str(path), *options]) == 0
        return path.read_bytes()

    first = grid("a.png")
    assert grid("b.png") == first
    assert grid("c.png", "--seed", "1") != first
    assert grid("d.png", "--temperature", "0.5") != first


def test_given_rows_are_those_of_the_test_data(run, tmp_path):
    path = tmp_path / "grid.png"
    assert main(["sample", str(run.path), "-n", "1", "--given", "3", "-o", str(path)]) == 0
    with Image.open(path) as image:
        pixels = np.asarray(image)[2:-2, 2:-2]
    wanted = load_data("digits").split("test").x[0, 0].astype(float) * 255 / 16
    assert np.array_equal(pixels[:3], wanted[:3].round())
    assert not np.array_equal(pixels[3:], wanted[3:].round())


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["-o", "grid.jpg"], "wanted a file name that ends in .png"),
        (["-o", "grid.png", "-n", "0"], "0 is not in the range"),
        (["-o", "grid.png", "--condition", "label"], "--condition 'label'; wanted key=value"),
        (["-o", "grid.png", "--condition", "label=3"], "unknown condition of MADE: 'label'"),
        (["-o", "grid.png", "--given", "2", "-n", "300"], "there are 250 test data"),
    ],
)
def test_bad_calls(run, tmp_path, capsys, monkeypatch, options, words):
    monkeypatch.chdir(tmp_path)
    assert main(["sample", str(run.path), *options]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert words in err
    assert not list(tmp_path.iterdir())


def test_parse_conditions():
    assert parse_conditions(("label=3", "size=-1")) == {"label": [3], "size": [-1]}
    assert parse_conditions(("label=0,1,2",)) == {"label": [0, 1, 2]}
    for bad in ("label=x", "label=", "label=1,", "=3"):
        with pytest.raises(UsageError, match="integer"):
            parse_conditions((bad,))


def _cells(path, columns):
    """The cells of a grid of 8 x 8 images in reading order."""
    with Image.open(path) as image:
        pixels = np.asarray(image)
    rows = (pixels.shape[0] - 2) // 10
    return [pixels[2 + 10 * r : 10 + 10 * r, 2 + 10 * c : 10 + 10 * c] for r in range(rows) for c in range(columns)]


def test_completions_stand_beside_their_originals(run, tmp_path, capsys):
    path = tmp_path / "grid.png"
    assert main(["sample", str(run.path), "-n", "4", "--complete", "--columns", "2", "-o", str(path)]) == 0
    assert "4 completions below row 4 of made" in capsys.readouterr().err
    cells, x = _cells(path, 4), load_data("digits").split("test").x[:4, 0].astype(float) * 255 / 16
    for original, completion, wanted in zip(cells[::2], cells[1::2], x, strict=True):
        assert np.array_equal(original, wanted.round())
        assert np.array_equal(completion[:4], original[:4])
        assert not np.array_equal(completion[4:], original[4:])
    assert main(["sample", str(run.path), "-n", "3", "--complete", "--given", "6", "-o", str(path)]) == 0
    assert "below row 6" in capsys.readouterr().err
    with Image.open(path) as image:
        assert image.size[0] == 4 * 10 + 2  # two pairs a row: an even number of columns
    assert main(["sample", str(run.path), "-n", "1", "--given", "9", "-o", str(path)]) == 2
    assert "give --given 1..8" in capsys.readouterr().err


def test_a_conditional_model_is_told_its_class(conditional_run, tmp_path, capsys):
    def grid(*options: str) -> bytes:
        path = tmp_path / "grid.png"
        assert main(["sample", str(conditional_run.path), "-n", "4", "-o", str(path), *options]) == 0
        return path.read_bytes()

    assert grid("--condition", "label=3") == grid("--condition", "label=3,3")
    assert grid("--condition", "label=3") != grid("--condition", "label=4")
    # A completion is told the class of its original, unless another is given.
    labels = ",".join(map(str, load_data("digits").split("test").conditions["label"][:4]))
    assert grid("--complete") == grid("--complete", "--condition", f"label={labels}")
    assert grid("--complete") != grid("--complete", "--condition", "label=9")
    capsys.readouterr()
    assert main(["sample", str(conditional_run.path), "-o", str(tmp_path / "x.png")]) == 2
    assert "give --condition label=VALUE" in capsys.readouterr().err
