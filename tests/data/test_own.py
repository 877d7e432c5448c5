"""The user's own folders and arrays, good and bad."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from codelength.data import load_data
from codelength.data.splitting import count_duplicates
from codelength.errors import DataError, UsageError


def _save(folder, images):
    for name, pixels in images.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path)


def _message(caught):
    message = str(caught.value)
    assert "\n" not in message
    return message


@pytest.fixture
def folder(tmp_path, noise):
    _save(tmp_path / "cats", {f"{i:02}.png": noise((6, 8, 3), seed=i) for i in range(20)})
    return tmp_path / "cats"


def test_a_folder_of_images(folder, noise):
    data = load_data(str(folder), validation=0.2, test=0.25)
    assert (data.name, data.space.sizes, data.space.levels) == ("cats@test=0.25,validation=0.2", (3, 6, 8), 256)
    assert [len(data.split(name)) for name in ("train", "validation", "test")] == [11, 4, 5]
    together = {row.tobytes() for split in data.splits.values() for row in split.x}
    assert together == {noise((6, 8, 3), seed=i).transpose(2, 0, 1).tobytes() for i in range(20)}


def test_crop_and_levels_and_sixteen_bits(tmp_path, noise):
    pixels = [noise((7 + i, 9), 4000, seed=i) for i in range(4)]
    _save(tmp_path / "ct", {f"{i}.png": p for i, p in enumerate(pixels)})
    data = load_data(str(tmp_path / "ct"), crop=4, levels=4096, validation=0.0, test=0.0)
    assert (data.space.sizes, data.space.levels) == ((1, 4, 4), 4096)
    assert data.split("train").x.dtype == np.uint16
    assert (data.split("train").x[0, 0] == pixels[0][1:5, 2:6]).all()
    with pytest.raises(UsageError, match=r"split 'test' of .* is empty"):
        data.split("test")
    with pytest.raises(DataError, match=r"too small for crop=8"):
        load_data(str(tmp_path / "ct"), crop=8)
    with pytest.raises(DataError, match=r"the train data reach \d+ but levels=100 allows 0..99"):
        load_data(str(tmp_path / "ct"), crop=4, levels=100)
    for bad in (0, "4", True):
        with pytest.raises(UsageError, match="wanted the side of a square"):
            load_data(str(tmp_path / "ct"), crop=bad)
    with pytest.raises(UsageError, match="levels=1; wanted 2 to 65536"):
        load_data(str(tmp_path / "ct"), crop=4, levels=1)


def test_named_sub_folders_are_splits(tmp_path, noise):
    images = {f"train/a/{i}.png": noise((4, 4), seed=i) for i in range(10)}
    images |= {f"test/{i}.png": noise((4, 4), seed=100 + i) for i in range(3)}
    _save(tmp_path / "set", images)
    data = load_data(str(tmp_path / "set"), validation=0.2)
    assert {name: len(split) for name, split in data.splits.items()} == {"train": 8, "validation": 2, "test": 3}
    assert (data.split("test").x[1, 0] == images["test/1.png"]).all()


def test_duplicates_do_not_straddle_splits(tmp_path, noise):
    _save(tmp_path / "set", {f"{i}.png": noise((4, 4), seed=i // 3) for i in range(60)})
    data = load_data(str(tmp_path / "set"), validation=0.2, test=0.2)
    counts = count_duplicates({name: split.x for name, split in data.splits.items()})
    assert [counts[pair] for pair in counts if " in " in pair] == [0, 0, 0]
    assert counts["train"] > 0, "duplicates are kept, each on its side"


def test_missing_and_empty_folders(tmp_path):
    with pytest.raises(DataError) as caught:
        load_data(str(tmp_path / "nowhere"))
    assert "does not exist" in _message(caught)
    with pytest.raises(DataError) as caught:
        load_data(str(tmp_path))
    assert "holds no images (.png" in _message(caught)
    (tmp_path / "a.dat").write_text("x")
    with pytest.raises(DataError, match="no folder of images"):
        load_data(str(tmp_path / "a.dat"))


def test_a_truncated_png_is_named(folder):
    content = (folder / "07.png").read_bytes()
    (folder / "07.png").write_bytes(content[: len(content) // 2])
    with pytest.raises(DataError) as caught:
        load_data(str(folder))
    assert "07.png cannot be read as an image" in _message(caught)


def test_mixed_sizes_name_two_files(folder, noise):
    _save(folder, {"07.png": noise((5, 9, 3))})
    with pytest.raises(DataError) as caught:
        load_data(str(folder))
    message = _message(caught)
    assert "00.png has 8 x 6" in message
    assert "07.png has 9 x 5" in message
    assert "crop=N" in message
    assert load_data(str(folder), crop=5).space.sizes == (3, 5, 5)


def test_mixed_bits_and_mixed_colours(folder, noise):
    _save(folder, {"07.png": noise((6, 8), 65_536)})
    with pytest.raises(DataError) as caught:
        load_data(str(folder))
    assert "07.png has 16 bits but" in _message(caught)
    _save(folder, {"07.png": noise((6, 8))})
    with pytest.raises(DataError) as caught:
        load_data(str(folder))
    assert "07.png is grey but" in _message(caught)


@pytest.mark.parametrize(
    ("shape", "layout", "wanted"),
    [
        ((10, 4, 5), None, (1, 4, 5)),
        ((10, 4, 5, 3), None, (3, 4, 5)),
        ((10, 3, 4, 5), None, (3, 4, 5)),
        ((10, 3, 4, 3), "nhwc", (3, 3, 4)),
        ((10, 3, 4, 3), "nchw", (3, 4, 3)),
        ((10, 4, 5, 2), "nhwc", (2, 4, 5)),
    ],
)
def test_arrays(tmp_path, noise, shape, layout, wanted):
    x = noise(shape)
    np.save(tmp_path / "a.npy", x)
    options = {} if layout is None else {"layout": layout}
    data = load_data(str(tmp_path / "a.npy"), validation=0, test=0, **options)
    assert data.space.sizes == wanted
    nhwc = layout == "nhwc" or (layout is None and len(shape) == 4 and shape[3] == 3)
    assert (data.split("train").x == (x.transpose(0, 3, 1, 2) if nhwc else x.reshape(10, *wanted))).all()


def test_archives(tmp_path, noise):
    x = noise((20, 4, 5), 65_536)
    np.savez(tmp_path / "one.npz", images=x)
    assert load_data(str(tmp_path / "one.npz")).space.levels == 65_536
    assert len(load_data(str(tmp_path / "one.npz")).split("train")) == 16
    np.savez(tmp_path / "two.npz", train=x, test=x[:4])
    data = load_data(str(tmp_path / "two.npz"), validation=0.1)
    assert {name: len(split) for name, split in data.splits.items()} == {"train": 18, "validation": 2, "test": 4}
    np.savez(tmp_path / "test.npz", test=x)
    assert list(load_data(str(tmp_path / "test.npz")).splits) == ["test"]
    np.savez(tmp_path / "names.npz", a=x, b=x)
    with pytest.raises(DataError, match=r"holds arrays \['a', 'b'\]"):
        load_data(str(tmp_path / "names.npz"))
    np.savez(tmp_path / "shapes.npz", train=x, test=x[:, :2])
    with pytest.raises(DataError, match="the splits differ in shape or type"):
        load_data(str(tmp_path / "shapes.npz"))


def test_bad_arrays(tmp_path, noise):
    path = tmp_path / "a.npy"

    def refused(x, match, **options):
        np.save(path, x, allow_pickle=True)
        with pytest.raises((DataError, UsageError), match=match) as caught:
            load_data(str(path), **options)
        _message(caught)

    refused(np.zeros((4, 5, 5), np.float32), "holds float32; wanted uint8 or uint16.*quantize first")
    refused(np.zeros((4, 5), np.uint8), r"has shape \(4, 5\)")
    refused(np.zeros((0, 5, 5), np.uint8), r"has shape \(0, 5, 5\)")
    refused(noise((4, 5, 5)), "levels=16 allows 0..15", levels=16)
    refused(noise((4, 3, 5, 3)), "whose layout is not clear")
    refused(noise((4, 5, 5)), "known layouts", layout="hwc")
    refused(noise((4, 5, 5)), "unknown option", crop=3)
    refused(np.array([{"a": 1}]), "pickled objects")
    path.write_bytes(path.read_bytes()[:50])
    with pytest.raises(DataError, match="cannot be read as numbers"):
        load_data(str(path))
    (tmp_path / "a.npz").write_bytes(b"PK\x03\x04 no archive")
    with pytest.raises(DataError, match="cannot be read as numbers"):
        load_data(str(tmp_path / "a.npz"))
