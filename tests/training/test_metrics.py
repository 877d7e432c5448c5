import errno
import json
import math

import numpy as np
import pytest
import torch

from codelength.errors import CheckpointError
from codelength.space import Space
from codelength.training.metrics import Records, image_grid, peak_memory_mib
from codelength.training.progress import Talk


@pytest.fixture
def records(tmp_path):
    records = Records(tmp_path, num_dims=4, batch_size=8)
    yield records
    records.close()


def lines(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_a_train_line_is_the_mean_since_the_last(tmp_path, records):
    for nats in (2.0, 4.0):
        records.add(nats, 2 * nats, 0.5)
    records.train_line(2, 0.1)
    records.add(9.0, 1.0, 0.25)
    records.train_line(3, 0.2)
    first, second = lines(tmp_path)
    assert (first["nats"], first["grad_norm"], first["learning_rate"], first["examples"]) == (3, 6, 0.1, 16)
    assert first["bits_per_dim"] == 3 / (4 * math.log(2))
    assert first["images_per_second"] == 16
    assert (second["nats"], second["images_per_second"], second["step"], second["split"]) == (9, 32, 3, "train")
    assert 0 <= first["seconds"] <= second["seconds"]
    assert set(first) == {
        "step", "split", "bits_per_dim", "nats", "learning_rate", "grad_norm", "examples", "seconds", "cpu_seconds",
        "images_per_second",
    }  # fmt: skip


def test_real_data_have_no_bits_per_dim(tmp_path):
    records = Records(tmp_path, num_dims=None, batch_size=8)
    assert records.line(1, "validation", -3.0)["bits_per_dim"] is None
    records.close()


def test_resuming_cuts_later_lines_and_goes_on_with_sums_and_clock(tmp_path, records):
    records.line(4, "validation", 1.0)
    records.add(5.0, 1.0, 0.5)
    state = json.loads(json.dumps(records.state()))
    records.line(6, "validation", 1.0)
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 7, "sp')
    state["clock"] = {"seconds": 100.0, "cpu_seconds": 200.0}
    again = Records(tmp_path, 4, 8, step=5, state=state)
    again.add(7.0, 1.0, 0.5)
    line = again.train_line(6, 0.1)
    again.close()
    assert [entry["step"] for entry in lines(tmp_path)] == [4, 6]
    assert line["nats"] == 6.0
    assert 100 <= line["seconds"] < 110
    assert 200 <= line["cpu_seconds"] < 210


def test_a_full_disk_is_one_line(records, monkeypatch):
    class Full:
        name = "metrics.jsonl"

        def write(self, text):
            raise OSError(errno.ENOSPC, "No space left on device")

        def close(self):
            pass

    monkeypatch.setattr(records, "_file", Full())
    with pytest.raises(CheckpointError, match=r"cannot write metrics\.jsonl: No space left on device"):
        records.line(1, "validation", 1.0)


def test_grid_places_images_and_scales_levels():
    x = torch.zeros(3, 1, 2, 2, dtype=torch.long)
    x[2] = torch.tensor([[16, 0], [0, 8]])
    grid = image_grid(x, Space.image(1, 2, 2, levels=17))
    assert grid.shape == (1, 6, 6)
    assert grid[0, 3:5, 0:2].tolist() == [[255, 0], [0, 128]]
    assert (grid[0, 3:, 3:] == 127).all()
    colour = image_grid(torch.full((4, 3, 2, 2), 255), Space.image(3, 2, 2))
    assert colour.shape == (3, 6, 6)
    assert image_grid(torch.zeros(4, 4, 2, 2), Space.image(4, 2, 2)).shape == (1, 6, 6)
    assert grid.dtype == np.uint8


def test_peak_memory_is_plausible():
    peak = peak_memory_mib()
    assert peak is None or 50 < peak < 1e6


LINE = {"step": 50, "split": "validation", "nats": 3.0, "bits_per_dim": 1.5, "images_per_second": 20.0, "seconds": 10.0}


def test_lines_without_a_terminal(capsys):
    talk = Talk(100, True)
    talk.start("toy", 0)
    talk.step(1, "2 bits/dim", 10)
    talk.logged({**LINE, "split": "train"})  # too soon after the last
    talk.logged(LINE)
    talk._last = -1e9
    talk.logged({**LINE, "split": "train"})
    talk.close()
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines() == [
        "toy: step 0 of 100",
        "step 50 of 100: validation 1.5000 bits/dim, 20/s",
        "step 50 of 100: train 1.5000 bits/dim, 20/s, about 10 s left",
    ]


def test_quiet_says_notes_only(capsys):
    talk = Talk(100, False)
    talk.start("toy", 0)
    talk.logged(LINE)
    talk.note("something")
    assert capsys.readouterr().err == "note: something\n"


def test_a_bar_on_a_terminal(capsys, monkeypatch):
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm")
    talk = Talk(100, True)
    talk.start("toy", 10)
    talk.step(60, "1.2345 bits/dim", 321.0)
    talk.logged({**LINE, "split": "train"})
    talk.logged(LINE)
    talk.close()
    out, err = capsys.readouterr()
    assert out == ""
    assert "60/100" in err
    assert "1.2345 bits/dim  321/s" in err
    assert "validation 1.5000 bits/dim" in err
    assert "train 1.5" not in err
