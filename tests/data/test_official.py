"""Official files: found, checked once, read; missing and damaged ones named."""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import struct
import tarfile

import numpy as np
import pytest

from codelength.data import checksums, load_data, official, published
from codelength.data.fingerprints import FINGERPRINTS
from codelength.data.official import OfficialFile, read_amat, read_idx
from codelength.data.registry import ENTRIES
from codelength.errors import ChecksumError, DataError


def _md5(content):
    return "md5:" + hashlib.md5(content).hexdigest()


def _idx(x):
    return b"\x00\x00\x08" + bytes([x.ndim]) + struct.pack(f">{x.ndim}I", *x.shape) + x.tobytes()


@pytest.fixture
def mnist(tmp_path, monkeypatch, noise, cache):
    """A small MNIST: 7 training and 3 test images in official files under $CODELENGTH_DATA."""
    arrays = {
        "train-images-idx3-ubyte": noise((7, 28, 28)),
        "train-labels-idx1-ubyte": noise((7,), 10),
        "t10k-images-idx3-ubyte": noise((3, 28, 28), seed=1),
        "t10k-labels-idx1-ubyte": noise((3,), 10, seed=1),
    }
    folder = tmp_path / "data" / "mnist"
    folder.mkdir(parents=True)
    files = {}
    for name, x in arrays.items():
        raw = _idx(x)
        packed = gzip.compress(raw, mtime=0)
        files[name] = OfficialFile({name: _md5(raw), f"{name}.gz": _md5(packed)}, "http://nowhere/")
        if "train" in name:
            (folder / name).write_bytes(raw)
        else:
            (folder / f"{name}.gz").write_bytes(packed)
    monkeypatch.setitem(official.OFFICIAL, "mnist", files)
    monkeypatch.setattr(published, "HELD_OUT", 2)
    monkeypatch.setenv("CODELENGTH_DATA", str(tmp_path / "data"))
    return folder, arrays


def test_idx_files_raw_and_gz(mnist):
    _, arrays = mnist
    data = load_data("mnist")
    assert (data.split("train").x[:, 0] == arrays["train-images-idx3-ubyte"][:5]).all()
    assert (data.split("validation").x[:, 0] == arrays["train-images-idx3-ubyte"][5:]).all()
    assert (data.split("test").x[:, 0] == arrays["t10k-images-idx3-ubyte"]).all()
    assert data.split("test").conditions["label"].tolist() == arrays["t10k-labels-idx1-ubyte"].tolist()
    assert data.space.conditions == {"label": 10}
    assert load_data("mnist-dynamic").split("test").intensity.max() <= 1


def test_a_changed_file_is_refused(mnist):
    folder, _ = mnist
    path = folder / "train-images-idx3-ubyte"
    load_data("mnist")
    content = bytearray(path.read_bytes())
    content[100] ^= 1
    path.write_bytes(content)
    with pytest.raises(ChecksumError, match=r"train-images-idx3-ubyte has md5 .* but the published file has"):
        load_data("mnist")


def test_a_checked_file_is_not_hashed_again(mnist, cache, monkeypatch):
    hashed = []
    digest = checksums.file_digest
    monkeypatch.setattr(checksums, "file_digest", lambda path, how: hashed.append(path.name) or digest(path, how))
    load_data("mnist")
    assert len(hashed) == 4
    load_data("mnist")
    assert len(hashed) == 4
    os.utime(mnist[0] / "train-images-idx3-ubyte", ns=(0, 0))
    load_data("mnist")
    assert len(hashed) == 5
    (cache / "checked.json").write_text("[damaged")
    load_data("mnist")
    assert len(hashed) == 9


def test_a_cache_that_cannot_be_written_costs_only_time(mnist, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(checksums, "cache_folder", lambda: tmp_path / "file" / "cache")
    assert len(load_data("mnist").split("test")) == 3


def test_a_missing_file_is_named_with_where_and_how(mnist, cache):
    folder, _ = mnist
    (folder / "train-images-idx3-ubyte").unlink()
    with pytest.raises(DataError) as caught:
        load_data("mnist-threshold")
    message = str(caught.value)
    assert "train-images-idx3-ubyte or train-images-idx3-ubyte.gz" in message
    assert str(folder) in message
    assert str(cache / "mnist") in message
    assert "codelength data fetch mnist" in message
    assert not official.is_here("mnist")


def test_damaged_idx_files(tmp_path, noise):
    path = tmp_path / "a"
    for content, match in (
        (b"", "no IDX file"),
        (b"\x00\x00\x0d\x01" + bytes(8), "no IDX file"),
        (_idx(noise((3, 2)))[:-1], "holds 5 values but its header says"),
    ):
        path.write_bytes(content)
        with pytest.raises(DataError, match=match):
            read_idx(path)
    (tmp_path / "a.gz").write_bytes(gzip.compress(_idx(noise((300, 20))))[:-200])
    with pytest.raises(DataError, match="no whole gzip file"):
        read_idx(tmp_path / "a.gz")


def test_amat_files(tmp_path, noise, monkeypatch, cache):
    parts = {part: noise((3, 784), 2, seed=i) for i, part in enumerate(("train", "valid", "test"))}
    files = {}
    for part, bits in parts.items():
        name = f"binarized_mnist_{part}.amat"
        content = "".join(" ".join(map(str, row)) + "\n" for row in bits).encode()
        (cache / "binarized_mnist").mkdir(parents=True, exist_ok=True)
        (cache / "binarized_mnist" / name).write_bytes(content)
        files[name] = OfficialFile({name: _md5(content)}, "http://nowhere/")
    monkeypatch.setitem(official.OFFICIAL, "binarized_mnist", files)
    data = load_data("mnist-static")
    assert (data.split("validation").x.reshape(3, 784) == parts["valid"]).all()
    assert data.space.binarization == "static"
    path = tmp_path / "a.amat"
    for content, match in ((b"0 1\n", "no whole number of lines"), (b"2 " * 784, "is not of lines of 784 digits")):
        path.write_bytes(content)
        with pytest.raises(DataError, match=match):
            read_amat(path)


@pytest.fixture
def cifar(monkeypatch, noise, cache):
    """Six small batches as the official archive in the cache."""
    batches = {name: noise((4, 3073), 10, seed=i).tobytes() for i, name in enumerate(official.CIFAR10_BATCHES)}
    archive = cache / "cifar10" / official.CIFAR10_ARCHIVE
    archive.parent.mkdir(parents=True)
    with tarfile.open(archive, "w:gz") as tar:
        for name, content in {"readme.html": b"hello", **batches}.items():
            member = tarfile.TarInfo(f"cifar-10-batches-bin/{name}")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    _publish(monkeypatch, archive, batches)
    return archive, batches


def _publish(monkeypatch, archive, batches):
    forms = {official.CIFAR10_ARCHIVE: _md5(archive.read_bytes())}
    monkeypatch.setitem(
        official.OFFICIAL, "cifar10", {official.CIFAR10_ARCHIVE: OfficialFile(forms, "http://nowhere/")}
    )
    monkeypatch.setattr(official, "CIFAR10_BATCHES", {name: _md5(content) for name, content in batches.items()})


def test_cifar_batches_from_the_archive_then_from_the_files(cifar):
    archive, batches = cifar
    read = dict(official.cifar10_batches("cifar10"))
    assert {name: records.tobytes() for name, records in read.items()} == batches
    archive.unlink()
    assert official.is_here("cifar10")
    assert list(dict(official.cifar10_batches("cifar10"))) == list(batches)
    (archive.parent / "data_batch_2.bin").unlink()
    with pytest.raises(DataError, match=r"data_batch_2.bin or cifar-10-binary.tar.gz is not in"):
        list(official.cifar10_batches("cifar10"))


def test_a_damaged_archive_is_refused(cifar, monkeypatch):
    archive, batches = cifar
    whole = archive.read_bytes()
    archive.write_bytes(whole[:-300])
    with pytest.raises(ChecksumError, match="has md5"):
        list(official.cifar10_batches("cifar10"))
    _publish(monkeypatch, archive, batches)
    with pytest.raises(DataError, match="no whole archive"):
        list(official.cifar10_batches("cifar10"))
    archive.write_bytes(whole)
    _publish(monkeypatch, archive, {**batches, "another.bin": b"x"})
    with pytest.raises(ChecksumError, match=r"lacks another.bin"):
        list(official.cifar10_batches("cifar10"))


def test_cifar_images_are_planes_of_red_green_blue(monkeypatch):
    record = np.concatenate([[7], np.repeat([1, 2, 3], 1024)]).astype(np.uint8)
    batch = np.broadcast_to(record, (10_000, 3073))
    monkeypatch.setattr(published, "cifar10_batches", lambda name: ((str(i), batch) for i in range(6)))
    data = load_data("cifar10")
    assert [len(split) for split in data.splits.values()] == [45_000, 5_000, 10_000]
    assert data.split("test").x[:, :, 5, 5].tolist() == [[1, 2, 3]] * 10_000
    assert data.split("validation").conditions["label"].tolist() == [7] * 5_000
    assert data.split("train").x.dtype == np.uint8
    assert data.space.channels == ("red", "green", "blue")


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name, entry in ENTRIES.items() if entry.folder and name in FINGERPRINTS])
def test_fingerprints_of_the_official_files(name):
    if not official.is_here(ENTRIES[name].folder):
        pytest.skip("the official files are not here")
    data = load_data(name)
    assert {n: split.fingerprint() for n, split in data.splits.items()} == FINGERPRINTS[name]
