"""Files of conditional models: what the model is told is in the file, and charged."""

from __future__ import annotations

import json
import math
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from codelength import Space, build_model
from codelength.cli.main import main
from codelength.coding import autoregressive, verify_worker
from codelength.coding.codec import Archive, compress
from codelength.coding.conditions import checked_conditions, condition_nats, decode_conditions, encode_conditions
from codelength.coding.describe import describe, lines
from codelength.coding.measure import measure_coding, verify_in_fresh_process
from codelength.data.dataset import DataSet, Split
from codelength.errors import CodecError, UsageError
from codelength.recipe import parse_recipe
from codelength.run import Run, create_run, load_run, save_run_weights

SPACE = Space.image(1, 4, 4, 17, conditions={"label": 5})
OPTIONS = {"hidden": [20], "components": 2, "class_conditional": True}


@pytest.fixture
def model(randomize):
    return randomize(build_model("made", SPACE, **OPTIONS).eval(), scale=0.5)


@pytest.fixture
def run(tmp_path: Path, model) -> Run:
    recipe = {"name": "told", "data": {"name": "none"}, "model": {"system": "made", "options": OPTIONS}}
    create_run(tmp_path / "told", parse_recipe(recipe), SPACE)
    save_run_weights(tmp_path / "told", model.state_dict(), "raw", 1)
    return load_run(tmp_path / "told")


def samples(model, n: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Data of the model itself, and their labels."""
    generator = torch.Generator().manual_seed(seed)
    label = torch.randint(5, (n,), generator=generator)
    return model.sample(n, generator, label=label).numpy().astype(np.uint8), label.numpy()


def model_bits(model, x: np.ndarray, label: np.ndarray) -> float:
    with torch.no_grad():
        log_prob = model.log_prob(torch.from_numpy(x.astype(np.int64)), label=torch.from_numpy(label))
    return -float(log_prob.sum()) / math.log(2)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(0, 6), max_size=30), st.integers(0, 3))
def test_conditions_come_back_with_the_rest(labels: list[int], extra: int) -> None:
    classes = {"label": 7, "size": 4}
    told = {"label": np.array(labels, dtype=np.int64), "size": np.array([v % 4 for v in labels], dtype=np.int64)}
    payload = encode_conditions(told, classes) + bytes(extra)
    decoded, rest = decode_conditions(payload, ("label", "size"), classes, len(labels))
    assert rest == bytes(extra)
    assert all(np.array_equal(decoded[name], values) for name, values in told.items())
    # Two words end a stream, and its length takes a byte or two.
    assert 8 * len(payload) <= condition_nats(told, classes) / math.log(2) + 8 * (10 + extra)


def test_labels_cost_their_entropy(model) -> None:
    rng, classes = np.random.default_rng(0), {"label": 10}
    even, skewed = rng.integers(10, size=2000), np.minimum(rng.geometric(0.7, size=2000) - 1, 9)
    for labels in (even, skewed):
        shares = np.bincount(labels, minlength=10) / 2000
        entropy = -(shares[shares > 0] * np.log2(shares[shares > 0])).sum() * 2000
        ideal = condition_nats({"label": labels}, classes) / math.log(2)
        assert entropy < ideal < entropy + 9 * math.log2(2000)
        assert abs(8 * len(encode_conditions({"label": labels}, classes)) - ideal) < 96
    assert condition_nats({"label": skewed}, classes) < 0.5 * condition_nats({"label": even}, classes)
    assert encode_conditions({}, classes) == b""


def test_long_streams_of_conditions_have_longer_lengths() -> None:
    labels = np.random.default_rng(0).integers(256, size=300)
    payload = encode_conditions({"label": labels}, {"label": 256})
    assert payload[0] >= 0x80
    decoded, rest = decode_conditions(payload, ("label",), {"label": 256}, 300)
    assert np.array_equal(decoded["label"], labels)
    assert rest == b""


def test_the_file_holds_the_labels_and_charges_them(model) -> None:
    x, label = samples(model, 300)
    content = compress(model, x, conditions={"label": label, "unused": label}, chunk=128)
    archive = Archive(content)
    assert np.array_equal(archive.decode(model), x)
    assert np.array_equal(archive.conditions()["label"], label)
    for items in (slice(0, 0), slice(5, 7), slice(120, 260), slice(299, None)):
        assert np.array_equal(archive.conditions(items)["label"], label[items])
        assert np.array_equal(archive.decode(model, items), x[items])
    told = sum(condition_nats({"label": label[i : i + 128]}, {"label": 5}) for i in range(0, 300, 128)) / math.log(2)
    payload = 8 * describe(archive)["payload_bytes"]
    assert told > 600
    assert model_bits(model, x, label) + told <= payload <= 1.002 * (model_bits(model, x, label) + told) + 3 * 144
    assert "label of each item" in lines({"file": "x", **describe(archive)})[-1]


def test_another_label_costs_bits_and_decodes_to_other_data(model) -> None:
    """Control: the labels matter to the code, so a decoder could not do without them."""
    x, label = samples(model, 200)
    wrong = (label + 1) % 5
    assert model_bits(model, x, wrong) > 1.05 * model_bits(model, x, label)
    right, other = (
        len(autoregressive.encode(model, torch.from_numpy(x).long(), label=torch.from_numpy(v))) for v in (label, wrong)
    )
    assert other > 1.05 * right
    stream = autoregressive.encode(model, torch.from_numpy(x).long(), label=torch.from_numpy(label))
    try:
        decoded = autoregressive.decode(model, stream, 200, label=torch.from_numpy(wrong))
    except CodecError:
        return
    assert not np.array_equal(decoded.numpy(), x)


def test_items_without_their_labels_are_refused(model) -> None:
    x, label = samples(model, 4)
    with pytest.raises(UsageError, match="--condition label="):
        compress(model, x)
    with pytest.raises(UsageError, match=r"\(4,\)"):
        compress(model, x, conditions={"label": label[:3]})
    with pytest.raises(UsageError, match=r"0\.\.4"):
        compress(model, x, conditions={"label": label + 5})
    with pytest.raises(UsageError, match="at most 4096"):
        checked_conditions({"label": label}, ("label",), {"label": 5000}, 4)


def test_damage_is_named(model) -> None:
    x, label = samples(model, 4)
    with pytest.raises(CodecError, match="inside its conditions"):
        decode_conditions(b"\x40\x00", ("label",), {"label": 5}, 4)
    with pytest.raises(CodecError, match="nothing of its conditions"):
        decode_conditions(b"\xff" * 6, ("label",), {"label": 5}, 4)
    archive = Archive(compress(model, x, conditions={"label": label}))
    plain = build_model("made", SPACE, hidden=[20], components=2)
    with pytest.raises(CodecError, match="holds the conditions label"):
        archive.require_model(plain, archive.header.model_sha256)


def test_a_split_with_labels_is_measured_and_verified_elsewhere(
    run: Run, model, tmp_path: Path, monkeypatch, capsys
) -> None:
    x, label = samples(model, 60)
    data = DataSet("own", SPACE, {"test": Split(x, conditions={"label": label})})
    result = measure_coding(run, data, "test", folder=tmp_path, chunk=40)
    told = sum(condition_nats({"label": part}, {"label": 5}) for part in (label[:40], label[40:])) / math.log(2) / 8
    assert result.conditions == ("label",)
    assert result.condition_bytes == pytest.approx(told)
    assert result.model_total_bytes == pytest.approx(told + model_bits(model, x, label) / 8)
    assert 0 < result.coded_total_bytes - result.model_total_bytes < 300

    def here(command: list[str], **options) -> subprocess.CompletedProcess:
        code = verify_worker.main(command[-3:])
        return subprocess.CompletedProcess(command, code, capsys.readouterr().out, "")

    monkeypatch.setattr(subprocess, "run", here)
    assert verify_in_fresh_process(Path(result.file), run.path, x, {"label": label}) > 0
    with pytest.raises(CodecError, match="another label"):
        verify_in_fresh_process(Path(result.file), run.path, x, {"label": (label + 1) % 5})


def test_the_worker_writes_the_labels(run: Run, model, tmp_path: Path) -> None:
    x, label = samples(model, 9)
    loaded, sha256 = verify_worker.load_coder(run)
    (tmp_path / "x.clen").write_bytes(compress(loaded, x, conditions={"label": label}, model_sha256=sha256))
    assert verify_worker.main([str(tmp_path / "x.clen"), str(run.path), str(tmp_path / "out.npy")]) == 0
    assert np.array_equal(np.load(tmp_path / "out.label.npy"), label)


def test_commands_keep_the_labels(run: Run, model, tmp_path: Path, capsys) -> None:
    x, label = samples(model, 7)
    np.save(tmp_path / "x.npy", x)
    np.save(tmp_path / "y.npy", label)
    file, out = tmp_path / "x.clen", tmp_path / "out"
    compress_x = ["compress", str(run.path), str(tmp_path / "x.npy"), "-o", str(file)]
    assert main(compress_x) == 2
    assert "give --condition label=VALUE" in capsys.readouterr().err
    assert main([*compress_x, "--condition", f"label={tmp_path / 'y.npy'}", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["conditions"] == ["label"]
    assert main(["decompress", str(file), "-o", str(out), "--run", str(run.path), "--items", "2:6"]) == 0
    assert np.array_equal(np.load(out / "x.npy"), x[2:6])
    assert np.array_equal(np.load(out / "x.label.npy"), label[2:6])
    assert main([*compress_x, "--condition", "label=3"]) == 0
    assert (Archive(file).conditions()["label"] == 3).all()
    for pair, words in (("label=x", "wanted label=3"), ("size=1", "unknown condition"), ("label=no.npy", "cannot be")):
        assert main([*compress_x, "--condition", pair]) in (1, 2)
        assert words in capsys.readouterr().err


def test_images_bring_their_labels_back(run: Run, model, tmp_path: Path, capsys) -> None:
    from codelength.coding.files import png_bytes

    x, _ = samples(model, 3)
    (tmp_path / "in").mkdir()
    for i, pixels in enumerate(x):
        (tmp_path / "in" / f"{i}.png").write_bytes(png_bytes(pixels))
    file, out = tmp_path / "x.clen", tmp_path / "out"
    compress_folder = ["compress", str(run.path), str(tmp_path / "in"), "-o", str(file), "--condition", "label=2"]
    assert main(compress_folder) == 0
    assert main(["decompress", str(file), "-o", str(out), "--run", str(run.path)]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == str(out / "items.label.npy")
    assert np.load(out / "items.label.npy").tolist() == [2, 2, 2]
