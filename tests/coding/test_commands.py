"""compress, decompress and info from end to end."""

from __future__ import annotations

import json
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
from PIL import Image

from codelength.cli.decompress import parse_items
from codelength.cli.main import main
from codelength.coding import codec, files
from codelength.coding.files import png_bytes, read_items
from codelength.errors import CodecError, DataError, SpaceMismatchError, UsageError
from codelength.space import Space

SPACE = Space.image(1, 6, 6)


@pytest.fixture
def folder(tmp_path: Path, images) -> Path:
    """Seven grey images, one of them below a sub-folder."""
    names = ["b.png", "a.png", "sub/c.png", "10.png", "9.webp", "d.tif", "é.png"]
    (tmp_path / "in" / "sub").mkdir(parents=True)
    for name, pixels in zip(names, images(7), strict=True):
        image = Image.fromarray(pixels[0])
        image.save(tmp_path / "in" / name, **({"lossless": True} if name.endswith("webp") else {}))
    (tmp_path / "in" / "9.webp").unlink()  # WebP has no grey images
    return tmp_path / "in"


def run_cli(capsys, *arguments: object) -> tuple[int, str, str]:
    code = main([str(argument) for argument in arguments])
    out, err = capsys.readouterr()
    return code, out, err


def test_a_folder_comes_back(folder: Path, tmp_path: Path, mean_field_run, capsys) -> None:
    run = mean_field_run("my-run")
    file, out = tmp_path / "x.clen", tmp_path / "out"
    code, text, talk = run_cli(capsys, "compress", run.path, folder, "-o", file, "--json")
    assert (code, json.loads(text)["verified"]) == (0, True)
    assert "verified" in talk
    code, text, _ = run_cli(capsys, "decompress", file, "-o", out, "--run", run.path)
    assert code == 0
    written = [Path(line).relative_to(out).as_posix() for line in text.splitlines()]
    assert written == ["10.png", "a.png", "b.png", "d.tif.png", "sub/c.png", "é.png"]
    for name in written:
        original = np.asarray(Image.open(folder / name.replace(".tif.png", ".tif")))
        np.testing.assert_array_equal(imagecodecs.png_decode((out / name).read_bytes()), original)
    code, text, _ = run_cli(capsys, "info", file)
    assert "6 items" in text
    assert "my-run" in text
    assert json.loads(run_cli(capsys, "info", file, "--json")[1])["layout"]["names"][0] == "10.png"


def test_some_items_of_single_files(folder: Path, tmp_path: Path, mean_field_run, capsys) -> None:
    run, file, out = mean_field_run(), tmp_path / "x.clen", tmp_path / "out"
    paths = [folder / "b.png", folder / "10.png", folder / "a.png"]
    code, text, talk = run_cli(capsys, "compress", run.path, *paths, "-o", file, "--no-verify", "--chunk", 1)
    assert code == 0
    assert "3 items" in text
    assert "verified" not in talk
    code, text, _ = run_cli(capsys, "decompress", file, "-o", out, "--run", run.path, "--items", "1")
    assert code == 0
    assert [path.name for path in out.iterdir()] == ["10.png"]
    code, _, err = run_cli(capsys, "decompress", file, "-o", out, "--run", run.path)
    assert code == 1
    assert "--overwrite" in err
    assert run_cli(capsys, "decompress", file, "-o", out, "--run", run.path, "--overwrite")[0] == 0
    assert {path.name for path in out.iterdir()} == {"b.png", "10.png", "a.png"}


@pytest.mark.parametrize("shape", [(5, 6, 6), (5, 6, 6, 1), (5, 1, 6, 6)])
@pytest.mark.parametrize("dtype", ["uint8", "int64"])
def test_arrays_come_back(tmp_path: Path, mean_field_run, images, capsys, shape: tuple, dtype: str) -> None:
    run, file, out = mean_field_run(), tmp_path / "x.clen", tmp_path / "out"
    x = images(5).reshape(shape).astype(dtype)
    np.save(tmp_path / "x.npy", x)
    assert run_cli(capsys, "compress", run.path, tmp_path / "x.npy", "-o", file)[0] == 0
    assert run_cli(capsys, "decompress", file, "-o", out, "--run", run.path)[0] == 0
    assert (out / "x.npy").read_bytes() == (tmp_path / "x.npy").read_bytes()
    assert run_cli(capsys, "decompress", file, "-o", out, "--run", run.path, "--items", "2:4", "--overwrite")[0] == 0
    np.testing.assert_array_equal(np.load(out / "x.npy"), x[2:4])


def test_data_sets_by_name(tmp_path: Path, mean_field_run, capsys) -> None:
    run, file, out = mean_field_run(space=Space.image(1, 8, 8, 17)), tmp_path / "x.clen", tmp_path / "out"
    assert run_cli(capsys, "compress", run.path, "data:digits:test", "-o", file)[0] == 0
    assert run_cli(capsys, "decompress", file, "-o", out, "--run", run.path)[0] == 0
    x = read_items(["data:digits:test"], Space.image(1, 8, 8, 17)).x
    np.testing.assert_array_equal(np.load(out / "digits-test.npy"), x)


def test_sixteen_bits_of_colour_come_back(tmp_path: Path, mean_field_run, images, capsys) -> None:
    run, file, out = mean_field_run(space=Space.image(3, 6, 6, 65536)), tmp_path / "x.clen", tmp_path / "out"
    pixels = images(1, channels=3, levels=65536)[0]
    (tmp_path / "deep.png").write_bytes(png_bytes(pixels))
    assert run_cli(capsys, "compress", run.path, tmp_path / "deep.png", "-o", file)[0] == 0
    assert run_cli(capsys, "decompress", file, "-o", out, "--run", run.path)[0] == 0
    np.testing.assert_array_equal(imagecodecs.png_decode((out / "deep.png").read_bytes()).transpose(2, 0, 1), pixels)


def test_errors_are_one_line(folder: Path, tmp_path: Path, mean_field_run, capsys) -> None:
    run, other, file = mean_field_run("one"), mean_field_run("two", seed=1), tmp_path / "x.clen"
    Image.fromarray(np.zeros((6, 7), np.uint8)).save(tmp_path / "wide.png")
    (tmp_path / "deep.png").write_bytes(png_bytes(np.zeros((1, 6, 6), np.uint16)))
    (tmp_path / "empty").mkdir()
    compress = ("compress", run.path)
    cases = [
        (1, "wide.png", (*compress, tmp_path / "wide.png", "-o", file)),
        (1, "16 bits", (*compress, tmp_path / "deep.png", "-o", file)),
        (1, "holds no images", (*compress, tmp_path / "empty", "-o", file)),
        (2, "--output", (*compress, folder)),
        (1, "cannot write", (*compress, folder, "-o", tmp_path / "empty")),
    ]
    for code, part, arguments in cases:
        found, out, err = run_cli(capsys, *arguments)
        assert (found, out, part in err) == (code, "", True), (arguments, err)
        assert err.splitlines()[-1].startswith("error: ")
        assert not file.exists()
    run_cli(capsys, *compress, folder, "-o", file)
    cases = [
        (2, "--run RUN", ("decompress", file, "-o", tmp_path / "out")),
        (1, "not with", ("decompress", file, "-o", tmp_path / "out", "--run", other.path)),
        (2, "--items", ("decompress", file, "-o", tmp_path / "out", "--run", run.path, "--items", "3:99")),
        (1, "no .clen file", ("info", folder / "a.png")),
        (1, "cannot read", ("info", tmp_path / "nowhere.clen")),
    ]
    for code, part, arguments in cases:
        found, out, err = run_cli(capsys, *arguments)
        assert (found, out, part in err, len(err.splitlines())) == (code, "", True, 1), (arguments, err)
        assert not (tmp_path / "out").exists()


def test_a_file_that_does_not_decode_is_not_written(
    folder: Path, tmp_path: Path, mean_field_run, capsys, monkeypatch
) -> None:
    """Control of --verify."""
    run, file = mean_field_run(), tmp_path / "x.clen"
    decode = codec.Archive.decode
    monkeypatch.setattr(codec.Archive, "decode", lambda self, *a, **k: decode(self, *a, **k)[::-1])
    code, _, err = run_cli(capsys, "compress", run.path, folder, "-o", file)
    assert code == 1
    assert "nothing was written" in err
    assert not file.exists()


def test_unsafe_names_are_refused_on_decoding(tmp_path: Path, mean_field_run, images, capsys) -> None:
    run, file = mean_field_run(), tmp_path / "x.clen"
    model, sha256 = codec.load_coder(run)
    for name in ("../evil.png", "/evil.png", "a/../../evil.png"):
        layout = {"kind": "images", "names": [name]}
        file.write_bytes(codec.compress(model, images(1), model_sha256=sha256, layout=layout))
        code, _, err = run_cli(capsys, "decompress", file, "-o", tmp_path / "out", "--run", run.path)
        assert code == 1
        assert "refused" in err
    assert not list(tmp_path.rglob("evil*"))


def test_progress_is_shown_on_a_terminal(folder: Path, tmp_path: Path, mean_field_run, capsys, monkeypatch) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    _, _, err = run_cli(capsys, "compress", mean_field_run().path, folder, "-o", tmp_path / "x.clen", "--chunk", 4)
    assert "4/6 items" in err


@pytest.mark.parametrize(
    ("text", "expected"),
    [(":", (0, 9)), ("3", (3, 4)), ("2:5", (2, 5)), (":4", (0, 4)), ("4:", (4, 9)), ("9:9", (9, 9))],
)
def test_items(text: str, expected: tuple[int, int]) -> None:
    assert parse_items(text, 9) == slice(*expected)


@pytest.mark.parametrize("text", ["", "9", "-1", "5:3", "1:10", "a", "1:b", "1:2:3", "-3:"])
def test_items_that_are_not_there(text: str) -> None:
    with pytest.raises(UsageError, match="--items"):
        parse_items(text, 9)


def test_what_cannot_be_read_is_refused(tmp_path: Path, images) -> None:
    np.save(tmp_path / "float.npy", np.zeros((2, 6, 6)))
    np.save(tmp_path / "big.npy", np.full((2, 6, 6), 999))
    (tmp_path / "no.npy").write_bytes(b"nothing")
    with pytest.raises(DataError, match="float64"):
        read_items([str(tmp_path / "float.npy")], SPACE)
    with pytest.raises(SpaceMismatchError, match=r"big\.npy.*999"):
        read_items([str(tmp_path / "big.npy")], SPACE)
    for name in ("no.npy", "missing.npy"):
        with pytest.raises(DataError, match="cannot be read"):
            read_items([str(tmp_path / name)], SPACE)
    with pytest.raises(UsageError, match="beside"):
        read_items([str(tmp_path / "big.npy"), "a.png"], SPACE)
    with pytest.raises(UsageError, match="data:NAME:SPLIT"):
        read_items(["data:digits"], SPACE)
    with pytest.raises(SpaceMismatchError, match="data:digits:test"):
        read_items(["data:digits:test"], SPACE)


def test_depths_are_not_mixed(tmp_path: Path) -> None:
    for name, dtype in (("a.png", np.uint8), ("b.png", np.uint16)):
        (tmp_path / name).write_bytes(png_bytes(np.zeros((1, 6, 6), dtype)))
    with pytest.raises(DataError, match="compress them apart"):
        read_items([str(tmp_path)], Space.image(1, 6, 6, 65536))


def test_png_holds_no_other_integers() -> None:
    with pytest.raises(CodecError, match="int64"):
        files.png_bytes(np.zeros((1, 2, 2), np.int64))
