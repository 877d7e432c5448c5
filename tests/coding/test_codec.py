"""Files of coded items: chunks, models by hash, machine classes."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from codelength.coding import codec, machine
from codelength.coding.codec import Archive, codec_of, compress, dtype_of, load_coder, model_hash
from codelength.coding.describe import coded_bits_per_dim, describe, lines
from codelength.errors import CodecError, SpaceMismatchError, UsageError
from codelength.models.registry import build_model
from codelength.space import Space


def test_the_whole_file_is_within_the_promise(tiny, images) -> None:
    model, x = tiny(side=8), images(500, side=8)
    content = compress(model, x, layout={"kind": "array", "name": "x.npy"}, name="tiny")
    with torch.no_grad():
        ideal = -float(model.log_prob(torch.from_numpy(x.astype(np.int64))).double().sum()) / math.log(2)
    assert len(content) <= 1.005 * ideal / 8 + 256
    decoded = Archive(content).decode(model)
    assert decoded.dtype == x.dtype
    np.testing.assert_array_equal(decoded, x)


@pytest.mark.parametrize("count", [0, 1, 7, 20])
def test_chunks_and_items(tiny, images, tmp_path: Path, count: int) -> None:
    model, x = tiny(side=4), images(20, side=4)[:count]
    seen: list[tuple[int, int]] = []
    path = tmp_path / "x.clen"
    path.write_bytes(compress(model, x, chunk=6, batch=4, progress=lambda done, total: seen.append((done, total))))
    archive = Archive(path)
    assert len(archive.container.chunks) == -(-count // 6)
    assert seen == [(min(i + 6, count), count) for i in range(0, count, 6)]
    for part in (slice(None), slice(0, 0), slice(5, 7), slice(13, 14), slice(6, 12), slice(3, None)):
        np.testing.assert_array_equal(archive.decode(model, part), x[part])


def test_only_the_chunks_that_are_wanted_are_read(tiny, images) -> None:
    model, x = tiny(side=4), images(20, side=4)
    content = bytearray(compress(model, x, chunk=6))
    first = Archive(bytes(content)).container.chunks[0]
    content[first.offset] ^= 1
    archive = Archive(bytes(content))
    np.testing.assert_array_equal(archive.decode(model, slice(6, 20)), x[6:])
    with pytest.raises(CodecError, match=r"items 0..5 fail their checksum"):
        archive.decode(model)


def test_another_model_is_refused_by_hash_and_caught_by_the_datas(tiny, images) -> None:
    model, other, x = tiny(side=4), tiny(side=4), images(20, side=4)
    with torch.no_grad():
        other.bias[0] += 1e-3
    archive = Archive(compress(model, x, name="the-run"))
    with pytest.raises(CodecError, match="the-run"):
        archive.decode(other)
    with pytest.raises(CodecError, match=r"decode to other integers|does not fit"):
        archive.decode(other, model_sha256=model_hash(model))
    np.testing.assert_array_equal(archive.decode(model, model_sha256=model_hash(model)), x)


def test_the_models_hash_knows_weights_space_and_options(tiny) -> None:
    hashes = {
        model_hash(tiny()),
        model_hash(tiny(), "options"),
        model_hash(tiny(seed=1)),
        model_hash(tiny(levels=255)),
        model_hash(tiny().double()),
        model_hash(build_model("uniform", Space.image(1, 6, 6))),
    }
    assert len(hashes) == 6
    assert model_hash(tiny()) == model_hash(tiny())


def test_the_hash_of_a_run_knows_its_weights(mean_field_run) -> None:
    one, two, same = mean_field_run("a"), mean_field_run("b", seed=1), mean_field_run("c")
    assert load_coder(one)[1] == load_coder(same)[1] != load_coder(two)[1]


@pytest.mark.parametrize(
    ("name", "value"),
    [("torch", "1.0"), ("isa", "NO AVX"), ("cpu", "sparc64 Sun"), ("settings", {"MKL_CBWR": "COMPATIBLE"}), ("new", 1)],
)
def test_another_machine_class_is_refused(tiny, images, monkeypatch, name: str, value) -> None:
    model, x = tiny(side=4), images(3, side=4)
    here = machine.machine_class(model)
    monkeypatch.setattr(codec, "machine_class", lambda model: {**here, name: value})
    archive = Archive(compress(model, x))
    with pytest.raises(CodecError, match=name):
        archive.decode(model)


def test_kernel_settings_are_part_of_the_machine_class(tiny, images, monkeypatch) -> None:
    model, x = tiny(side=4), images(3, side=4)
    content = compress(model, x)
    monkeypatch.setenv("ONEDNN_DEFAULT_FPMATH_MODE", "BF16")
    with pytest.raises(CodecError, match="BF16"):
        Archive(content).decode(model)
    monkeypatch.delenv("ONEDNN_DEFAULT_FPMATH_MODE")
    monkeypatch.setattr(torch, "get_float32_matmul_precision", lambda: "medium")
    with pytest.raises(CodecError, match="medium"):
        Archive(content).decode(model)
    monkeypatch.undo()
    convolution = torch.backends.mkldnn.conv
    before = convolution.fp32_precision
    convolution.fp32_precision = "bf16"
    try:
        with pytest.raises(CodecError, match="bf16"):
            Archive(content).decode(model)
    finally:
        convolution.fp32_precision = before
    monkeypatch.setattr(torch.backends.mkldnn, "enabled", False)
    with pytest.raises(CodecError, match="mkldnn"):
        Archive(content).decode(model)


def test_another_precision_is_another_machine_class(tiny, images) -> None:
    model, x = tiny(side=4), images(3, side=4)
    archive = Archive(compress(model, x))
    sha256 = model_hash(model)
    with pytest.raises(CodecError, match="float64"):
        archive.decode(model.double(), model_sha256=sha256)
    assert dtype_of(archive.header) == torch.float32


def test_machines_without_cpuinfo_have_a_processor_too(monkeypatch) -> None:
    machine._processor.cache_clear()
    monkeypatch.setattr(Path, "is_file", lambda self: False)
    assert machine._processor()
    machine._processor.cache_clear()


def test_what_cannot_be_coded_is_refused(tiny, images, monkeypatch) -> None:
    x = images(2, side=4)
    with pytest.raises(SpaceMismatchError):
        compress(tiny(side=5), x)
    with pytest.raises(UsageError, match="chunk"):
        compress(tiny(side=4), x, chunk=0)
    with pytest.raises(CodecError, match="float32"):
        compress(tiny(side=4), x.astype(np.float32))
    with pytest.raises(CodecError, match="bound or a density"):
        codec_of(build_model("maf", Space.image(1, 8, 8)))
    with pytest.raises(CodecError, match="cannot read"):
        Archive(Path("nowhere.clen"))
    monkeypatch.setattr(type(tiny()), "device", torch.device("meta"))
    with pytest.raises(CodecError, match="CPU"):
        compress(tiny(side=4), x)


def test_an_unknown_precision_is_refused(tiny, images) -> None:
    header = Archive(compress(tiny(side=4), images(1, side=4))).header
    header.machine["dtype"] = "load"
    with pytest.raises(CodecError, match="load"):
        dtype_of(header)


def test_description(tiny, images) -> None:
    content = compress(tiny(side=4), images(5, side=4), chunk=2, layout={"kind": "images", "names": list("abcde")})
    record = describe(Archive(content))
    assert record["bytes"] == len(content)
    assert record["raw_bytes"] == 80
    assert record["bits_per_dim"] == pytest.approx(8 * len(content) / 80)
    text = "\n".join(lines({"file": "f", **record}))
    assert "and 2 more" in text
    assert "1 x 4 x 4, 256 levels, uint8" in text
    empty = describe(Archive(compress(tiny(side=4), images(1, side=4)[:0])))
    assert empty["bits_per_dim"] is None
    assert lines({"file": "f", **empty})


def test_coded_bits_per_dim() -> None:
    assert coded_bits_per_dim(3072, 3072) == 8.0
