"""Names that come from a file are checked before they touch a disk."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from codelength.coding.layout import Layout, array_layout, safe_name
from codelength.errors import CodecError
from codelength.space import Space


@pytest.mark.parametrize("name", ["a.png", "sub/a b.png", "…/ä.png", "..a/b..png", ".hidden.png", "a" * 255])
def test_plain_names_pass(name: str) -> None:
    assert safe_name(name) == name


@pytest.mark.parametrize(
    "name",
    [
        *["/etc/passwd", "../a.png", "a/../../b.png", "a//b.png", "./a.png", "C:\\a.png", "C:a.png", "a\\..\\b"],
        *["a\nb.png", "a\x00.png", "a\x7f.png", "a" * 256, "\udcff.png"],
    ],
)
def test_names_that_lead_elsewhere_are_refused(name: str) -> None:
    with pytest.raises(CodecError, match="refused"):
        safe_name(name)
    with pytest.raises(CodecError):
        Layout("images", (name,)).targets(Path("out"))


@pytest.mark.parametrize("name", ["", "a/", "."])
def test_empty_names_are_refused(name: str) -> None:
    with pytest.raises(CodecError, match="refused"):
        safe_name(name)


def test_links_are_not_followed(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "sub").symlink_to(tmp_path)
    (tmp_path / "out" / "a.png").symlink_to(tmp_path / "elsewhere.png")
    for name in ("sub/b.png", "a.png"):
        with pytest.raises(CodecError, match="is a link"):
            Layout("images", (name,)).targets(tmp_path / "out")
    assert Layout("images", ("b.png",)).targets(tmp_path / "out") == [tmp_path / "out" / "b.png"]


def test_images_are_restored_as_png_and_never_to_one_file() -> None:
    layout = Layout("images", ("a.jpg", "a.PNG", "b/a.png"))
    assert [path.as_posix() for path in layout.targets(Path("o"))] == ["o/a.jpg.png", "o/a.PNG", "o/b/a.png"]
    assert Layout.from_json(layout.to_json(), 3) == layout
    with pytest.raises(CodecError, match=r"two images would be restored as a.jpg.png"):
        Layout("images", ("a.jpg", "b.png", "a.jpg.png")).to_json()


@pytest.mark.parametrize(
    "fields",
    [
        {"kind": "images"},
        {"kind": "images", "names": ["a.png"]},
        {"kind": "images", "names": "ab"},
        {"kind": "images", "names": [1, 2]},
        {"kind": "array", "name": 3},
        {"kind": "array", "name": "a.npy", "axes": "whcn"},
    ],
)
def test_malformed_layouts_are_refused(fields: dict) -> None:
    with pytest.raises(CodecError, match="damaged"):
        Layout.from_json(fields, 2)


@pytest.mark.parametrize(
    ("shape", "space", "axes"),
    [
        ((5, 4, 6), Space.image(1, 4, 6), "nhw"),
        ((5, 1, 4, 6), Space.image(1, 4, 6), "nchw"),
        ((5, 4, 6, 1), Space.image(1, 4, 6), "nhwc"),
        ((5, 4, 6, 3), Space.image(3, 4, 6), "nhwc"),
        ((5, 3, 3, 3), Space.image(3, 3, 3), "nchw"),
        ((5, 7, 7), Space.image(3, 4, 6), "nchw"),
    ],
)
def test_axes_of_arrays(shape: tuple, space: Space, axes: str) -> None:
    x = np.arange(np.prod(shape)).reshape(shape)
    layout = array_layout("x.npy", x, space)
    assert layout.axes == axes
    assert Layout.from_json(layout.to_json(), 5) == layout
    if x[0].size == space.num_dims:
        assert layout.to_nchw(x).shape[1:] == space.sizes
    np.testing.assert_array_equal(layout.from_nchw(layout.to_nchw(x)), x)
