"""What the explorer computes: the record's numbers, honest ranks, uploads as they are or refused by name."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tests.report.conftest import write_run

from codelength.cli.main import main
from codelength.errors import UsageError
from codelength.evaluation import Evaluation
from codelength.explore.session import MOST_BYTES, Explorer, map_pixels
from codelength.run import Run
from codelength.units import bits_per_dim


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[Run]:
    folder = tmp_path_factory.mktemp("runs")
    vae = {"network": "dense", "filters": 16, "latents": 2, "components": 2}
    return [
        write_run(folder / "made", "made", {"hidden": [32], "components": 2}),
        write_run(folder / "vae", "vae", vae, samples=16),
    ]


@pytest.fixture(scope="module")
def explorer(runs: list[Run]) -> Explorer:
    return Explorer(runs)


def png(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def test_the_records_number_and_rank(explorer, runs):
    evaluation = Evaluation.load(next((runs[0].path / "evaluation").glob("*/record.json")).parent)
    nats = evaluation.per_example
    hardest = int(np.argmax(nats))
    measured = {m.run: m for m in explorer.measure(explorer.test_item(hardest))}
    made = measured["made"]
    assert made.mark == ""
    assert made.bits_per_dim == pytest.approx(bits_per_dim(nats[hardest], 64), rel=1e-5)
    assert made.map is not None
    assert made.map.sum() / 64 == pytest.approx(made.bits_per_dim, rel=1e-5)
    share = 100 * float((nats < nats[hardest] - 1e-6).mean())
    assert made.rank == f"longer than {share:.1f} % of 250 test items of digits"
    easiest = {m.run: m for m in explorer.measure(explorer.test_item(int(np.argmin(nats))))}
    assert easiest["made"].rank.startswith("longer than 0.")
    assert measured["vae"].mark == "≤"
    assert measured["vae"].map is None
    assert set(map_pixels(list(measured.values()))) == {"made"}


def test_samples_and_completions(explorer):
    first = explorer.samples("made", 3, temperature=1.0, seed=1, conditions={})
    assert first.shape == (3, 8, 8, 1)
    np.testing.assert_array_equal(first, explorer.samples("made", 3, temperature=1.0, seed=1, conditions={}))
    assert (first != explorer.samples("made", 3, temperature=1.0, seed=2, conditions={})).any()
    x = explorer.test_item(0)
    pixels = explorer.completions("made", x, 2, seed=0, conditions={})
    assert (pixels[1:, :4] == pixels[:1, :4]).all()
    assert (pixels[1:, 4:] != pixels[:1, 4:]).any()
    with pytest.raises(UsageError, match="given"):
        explorer.completions("vae", x, 2, seed=0, conditions={})


def test_uploads(explorer):
    pixels = np.random.default_rng(0).integers(0, 17, (8, 8), dtype=np.uint8)
    np.testing.assert_array_equal(explorer.read_upload(png(pixels), "a.png")[0], pixels)
    wanted = r"wanted 8 x 8 \(width x height\), grey, 17 levels"
    for content in (png(pixels[:4]), png(np.stack([pixels] * 3, -1)), png(pixels * 15)):
        with pytest.raises(UsageError, match=wanted):
            explorer.read_upload(content, "a.png")
    large = np.full((30, 50, 3), 255, dtype=np.uint8)
    assert (explorer.read_upload(png(large), "a.png", fit=True) == 16).all()
    with pytest.raises(UsageError, match=r"a\.png cannot be read"):
        explorer.read_upload(b"no image", "a.png")
    with pytest.raises(UsageError, match="at most"):
        explorer.read_upload(bytes(MOST_BYTES + 1), "a.png")


def test_refuses(explorer, runs, tmp_path):
    with pytest.raises(UsageError, match="items 0 to 249"):
        explorer.test_item(250)
    colour = write_run(tmp_path / "photos", "mean_field", {"components": 1}, data="photos32", measured=False)
    with pytest.raises(UsageError, match="one kind of image"):
        Explorer([runs[0], colour])


def test_a_port_in_use_is_refused(runs, capsys):
    pytest.importorskip("nicegui")
    import socket

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert main(["explore", str(runs[0].path), "--port", str(port), "--no-browser"]) == 2
    assert f"port {port}" in capsys.readouterr().err


def test_run_without_data(runs, tmp_path):
    folder = tmp_path / "gone"
    folder.mkdir()
    for path in runs[0].path.iterdir():
        if path.is_file():
            (folder / path.name).write_bytes(path.read_bytes())
    recipe = folder / "recipe.yaml"
    recipe.write_text(recipe.read_text().replace("digits", str(tmp_path / "nowhere")))
    from codelength.run import load_run

    explorer = Explorer([load_run(folder)])
    assert "nowhere" in explorer.trouble
    with pytest.raises(UsageError, match="not here"):
        explorer.test_item(0)
    assert json.loads((Path(folder) / "space.json").read_text())
    assert explorer.measure(np.zeros((1, 8, 8), dtype=np.int64))[0].rank == ""
