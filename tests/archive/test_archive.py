"""Archives: any mix of files comes back, names are safe, models are found, damage is refused."""

from __future__ import annotations

import io
import json
import re
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from codelength.archive import models as archive_models
from codelength.archive import pack as packing
from codelength.archive.container import ArchiveWriter, Entry, read_directory
from codelength.archive.describe import describe
from codelength.archive.fuzz import damaged_copies, outcome
from codelength.archive.models import SHIPPED, find_model, open_model, pack_model, shipped_names, unpack_model
from codelength.archive.pack import pack
from codelength.archive.reading import read_pixels
from codelength.archive.unpack import OpenArchive, unpack
from codelength.cli.main import main
from codelength.coding.files import png_bytes
from codelength.errors import CodecError, UsageError


def same(original: Path, restored: Path) -> bool:
    """Whether a file came back: its bytes, or its pixels where it was an image."""
    if restored.read_bytes() == original.read_bytes():
        return True
    return bool(np.array_equal(read_pixels(original), read_pixels(restored)))


def test_every_kind_of_file_comes_back(mixed_files: Path, mixed_archive: Path, tmp_path: Path) -> None:
    unpack(mixed_archive, tmp_path)
    files = [path for path in mixed_files.rglob("*") if path.is_file()]
    assert len(files) == 20
    for path in files:
        assert same(path, tmp_path / "mix" / path.relative_to(mixed_files)), path.name


def test_every_codec_is_used(mixed_archive: Path) -> None:
    record = describe(mixed_archive)
    assert record["payload_bytes"].keys() >= {"bytes/1", "planes/1"}
    assert record["items"] == 20
    kinds = {entry["name"]: entry["kind"] for entry in record["entries"]}
    assert kinds["mix/broken.png"] == kinds["mix/reals.npy"] == "bytes"
    assert kinds["mix/alpha.png"] == "image"
    assert kinds["mix/signed.npy"] == "array"


def test_items_are_read_alone(mixed_archive: Path, mixed_files: Path, tmp_path: Path) -> None:
    names = [entry.name for entry in OpenArchive(mixed_archive).directory.entries]
    index = names.index("mix/sub/text.txt")
    (only,) = unpack(mixed_archive, tmp_path, slice(index, index + 1))
    assert only.read_bytes() == (mixed_files / "sub/text.txt").read_bytes()
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [only]


@pytest.mark.parametrize("name", shipped_names())
def test_shipped_models_code_and_travel(name: str) -> None:
    known = open_model(SHIPPED / name)
    assert find_model(known.sha256, name) is known
    content = pack_model(known)
    assert unpack_model(content, known.sha256).sha256 == known.sha256
    with pytest.raises(CodecError, match="hash"):
        unpack_model(content, "0" * 64)
    for broken in (content[:3], content[:50], b"\x00" * 40, content[:-9]):
        with pytest.raises(CodecError):
            unpack_model(broken, known.sha256)


@pytest.mark.parametrize("claim", ["width: 200000", "layers: 30000000", "rows: 50000000", "head_width: 900000"])
def test_a_model_that_claims_more_than_its_bytes_is_not_built(tmp_path: Path, claim: str) -> None:
    known = open_model(SHIPPED / "grey")
    for file in known.path.iterdir():
        shutil.copy(file, tmp_path)
    recipe = (tmp_path / "recipe.yaml").read_text()
    option = claim.partition(":")[0]
    (tmp_path / "recipe.yaml").write_text(re.sub(rf"\b{option}: \d+", claim, recipe))
    content = pack_model(replace(known, path=tmp_path))
    with pytest.raises(CodecError, match="larger network than its bytes can hold"):
        unpack_model(content, known.sha256)


def test_files_are_read_a_group_at_a_time(mixed_files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []
    original = packing.read_content
    monkeypatch.setattr(packing, "read_content", lambda name, path: read.append(name) or original(name, path))
    files = packing.list_files([mixed_files])
    groups = packing._groups(files)
    first = next(groups)
    # One more file than the group has been looked at: it begins the next one.
    assert len(read) == len(first) + 1 < len(files)
    assert [content.name for group in (first, *groups) for content in group] == [name for name, _ in files]


def test_photographs_go_through_the_shipped_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import imagecodecs
    from skimage.data import chelsea

    photo = np.ascontiguousarray(chelsea()[100:128, 100:148])
    (tmp_path / "a.png").write_bytes(imagecodecs.png_encode(photo))
    pack([tmp_path / "a.png"], tmp_path / "a.clen", embed=True)
    record = describe(tmp_path / "a.clen")
    assert record["models"][0]["embedded"]
    assert record["payload_bytes"]["window/2"] < 0.85 * (tmp_path / "a.png").stat().st_size
    # What is in the file needs no model outside.
    monkeypatch.setattr(archive_models, "candidates", lambda runs=(): iter(()))
    unpack(tmp_path / "a.clen", tmp_path / "out")
    np.testing.assert_array_equal(imagecodecs.png_decode((tmp_path / "out/a.png").read_bytes()), photo)
    pack([tmp_path / "a.png"], tmp_path / "b.clen")
    assert "window/2" not in describe(tmp_path / "b.clen")["payload_bytes"]


@pytest.mark.parametrize(
    ("axes", "shape"), [("nhwc", (3, 9, 8, 3)), ("nchw", (3, 3, 9, 8)), ("nhw", (3, 9, 8)), ("", (3, 9, 7))]
)
def test_arrays_of_images_are_images(tmp_path: Path, axes: str, shape: tuple[int, ...]) -> None:
    x = (np.indices(shape).sum(0) * 9 % 256).astype(np.uint8)
    np.save(tmp_path / "x.npy", x)
    pack([tmp_path / "x.npy"], tmp_path / "x.clen", fast=True)
    opened = OpenArchive(tmp_path / "x.clen")
    assert (opened.directory.entries[0].kind, opened.directory.entries[0].axes) == ("array", axes)
    assert opened.directory.chunks[0].shape[0] == (3 if axes else 1)
    assert opened.restored(0) == (tmp_path / "x.npy").read_bytes()


def test_large_arrays_are_cut_into_chunks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    x = (np.indices((5, 8, 8)).sum(0) * 7).astype(np.uint8)
    np.save(tmp_path / "x.npy", x)
    monkeypatch.setattr(packing, "CHUNK_SITES", 128)
    pack([tmp_path / "x.npy"], tmp_path / "x.clen", fast=True)
    opened = OpenArchive(tmp_path / "x.clen")
    assert [chunk.shape[0] for chunk in opened.directory.chunks] == [2, 2, 1]
    assert opened.restored(0) == (tmp_path / "x.npy").read_bytes()
    (tmp_path / "noise").mkdir()
    np.save(tmp_path / "noise/y.npy", np.random.default_rng(0).integers(0, 256, (5, 8, 8), dtype=np.uint8))
    pack([tmp_path / "noise/y.npy"], tmp_path / "y.clen", fast=True)
    assert OpenArchive(tmp_path / "y.clen").directory.entries[0].kind == "bytes"


def test_large_images_are_judged_by_a_sample() -> None:
    for shape in [(1, 3, 500, 700), (900, 1, 28, 28), (2, 1, 4, 70_000)]:
        sample = packing._sample(np.zeros(shape, np.uint8))
        assert 0.4 * packing.SAMPLE_SITES <= sample[:, 0].size <= 2 * packing.SAMPLE_SITES
    small = np.zeros((1, 3, 30, 30))
    assert packing._sample(small) is small


def test_killed_while_writing_leaves_no_half_file(tmp_path: Path) -> None:
    (tmp_path / "x.bin").write_bytes(b"x")
    program = f"""
import os, signal
from pathlib import Path
from codelength.archive import pack
def die(content):
    os.kill(os.getpid(), signal.SIGKILL)
pack.encode_bytes = die
pack.pack([Path({str(tmp_path)!r}) / "x.bin"], Path({str(tmp_path)!r}) / "x.clen")
"""
    done = subprocess.run([sys.executable, "-c", program], check=False)
    assert done.returncode == -signal.SIGKILL
    left = sorted(path.name for path in tmp_path.iterdir() if path.name != "x.bin")
    assert len(left) == 1
    assert left[0].startswith(".x.clen.")


@pytest.mark.parametrize("shape", [(1, 3000, 1), (3, 1000, 1), (4, 1, 900), (1, 1, 1), (3, 40, 40)])
def test_narrow_and_noisy_images_become_png_files(shape: tuple[int, ...], tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 2**16, shape, dtype=np.uint16)
    for values in (pixels, pixels.astype(np.uint8)):
        (tmp_path / "x.png").write_bytes(png_bytes(values))
        np.testing.assert_array_equal(read_pixels(tmp_path / "x.png"), values)


def test_files_of_bytes_pass_in_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = b"one fish two fish red fish blue fish " * 300
    (tmp_path / "x.txt").write_bytes(content)
    monkeypatch.setattr(packing, "MAX_BYTES", 2_000)
    monkeypatch.setattr("codelength.archive.unpack.KEPT_CHUNKS", 1)
    pack([tmp_path / "x.txt"], tmp_path / "x.clen")
    pieces = list(OpenArchive(tmp_path / "x.clen").pieces(0))
    assert max(map(len, pieces)) == 2_000
    assert b"".join(pieces) == content
    unpack(tmp_path / "x.clen", tmp_path / "out")
    assert (tmp_path / "out/x.txt").read_bytes() == content
    # What is verified is the whole file, to its last byte.
    monkeypatch.setattr(OpenArchive, "pieces", lambda self, index: iter(pieces[:-1]))
    with pytest.raises(CodecError, match="does not come back"):
        pack([tmp_path / "x.txt"], tmp_path / "y.clen")


def test_a_missing_model_is_named(tmp_path: Path) -> None:
    with pytest.raises(CodecError, match=r"not known here; give its run"):
        find_model("0" * 64, "lost")


@pytest.mark.parametrize("name", ["../x", "/x", "a/../../x", "a\\b", "c:x", "a//b", ".", "a\nb"])
def test_unsafe_names_are_refused(name: str, tmp_path: Path) -> None:
    path = tmp_path / "bad.clen"
    with path.open("wb") as file:
        writer = ArchiveWriter(file)
        writer.directory.entries.append(Entry(name, "bytes", ()))
        writer.finish()
    with pytest.raises(CodecError, match="refused"):
        unpack(path, tmp_path / "out")
    assert not (tmp_path / "x").exists()


def test_links_are_not_followed(mixed_archive: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "out").mkdir()
    (tmp_path / "out/mix").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(CodecError, match="link"):
        unpack(mixed_archive, tmp_path / "out")
    assert not list((tmp_path / "elsewhere").iterdir())
    (tmp_path / "a.link").symlink_to(mixed_archive)
    for name in ("a.link", "nothing"):
        with pytest.raises(UsageError, match="link"):
            pack([tmp_path / name], tmp_path / "x.clen")


def test_existing_files_are_kept(mixed_archive: Path, tmp_path: Path) -> None:
    (tmp_path / "mix").mkdir()
    (tmp_path / "mix/empty").write_bytes(b"mine")
    with pytest.raises(CodecError, match="exists"):
        unpack(mixed_archive, tmp_path)
    assert (tmp_path / "mix/empty").read_bytes() == b"mine"


def test_a_failure_while_writing_leaves_nothing(
    mixed_files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(content: bytes) -> bytes:
        raise KeyboardInterrupt

    monkeypatch.setattr(packing, "encode_bytes", fail)
    with pytest.raises(KeyboardInterrupt):
        pack([mixed_files / "empty", mixed_files / "one.byte"], tmp_path / "x.clen")
    assert not list(tmp_path.iterdir())


def test_verification_sees_a_wrong_code(mixed_files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packing, "encode_bytes", lambda content: b"\x00" + bytes(len(content)))
    with pytest.raises(CodecError, match="other integers"):
        pack([mixed_files / "one.byte"], tmp_path / "x.clen")
    assert not list(tmp_path.iterdir())
    pack([mixed_files / "one.byte"], tmp_path / "x.clen", verify=False)


def test_claims_beyond_the_file_are_refused() -> None:
    for shape in [(1, 1, 2**14, 2**15), (1, 1, 2**10, 2**10)]:
        file = io.BytesIO()
        writer = ArchiveWriter(file)
        writer.add_chunk("planes/1", None, np.zeros((1, 1, 1, 1)), 256, b"abcd")
        chunk = writer.directory.chunks[0]
        writer.directory.chunks[0] = type(chunk)(**{**chunk.__dict__, "shape": shape})
        writer.finish()
        with pytest.raises(CodecError, match="chunk of shape"):
            read_directory(file)


def test_damage_is_refused_or_harmless(mixed_archive: Path, mixed_files: Path, tmp_path: Path) -> None:
    small = tmp_path / "small.clen"
    (tmp_path / "short.txt").write_bytes(b"one fish two fish red fish blue fish " * 3)
    pack([mixed_files / "rgb2.png", tmp_path / "short.txt", mixed_files / "one.byte", mixed_files / "row.png"], small)
    content, other = small.read_bytes(), mixed_archive.read_bytes()
    original = [OpenArchive(small).restored(index) for index in range(4)]
    counts = {"refused": 0, "same": 0}
    for copy in damaged_copies(content, other, 500, seed=1):
        counts[outcome(copy, original, tmp_path / "copy.clen")] += 1
    assert counts["refused"] >= 490


def test_commands(mixed_files: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copy(mixed_files / "grey.png", tmp_path / "g.png")
    file = str(tmp_path / "g.clen")
    assert main(["compress", str(tmp_path / "g.png"), "-o", file, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["items"] == 1
    assert main(["info", file]) == 0
    assert "g.png" in capsys.readouterr().out
    assert main(["info", file, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["format"] == 2
    assert main(["decompress", file, "-o", str(tmp_path / "out"), "--items", "0"]) == 0
    assert same(tmp_path / "g.png", tmp_path / "out/g.png")
    assert main(["decompress", file, "-o", str(tmp_path / "out2"), "--items", "7"]) == 2
    assert main(["compress", str(tmp_path / "g.png"), "-o", file, "--condition", "label=3"]) == 2
    assert main(["compress", str(tmp_path / "gone.png"), "-o", file]) == 2
