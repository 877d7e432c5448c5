"""Image files come back as the integers stored, or are refused by name."""

from __future__ import annotations

import imagecodecs
import numpy as np
import pytest
import tifffile
from PIL import Image

from codelength.data import load_images, read_image
from codelength.errors import DataError


@pytest.mark.parametrize("suffix", ["png", "tif", "webp"])
@pytest.mark.parametrize("channels", [1, 3])
def test_eight_bits_come_back(tmp_path, noise, suffix, channels):
    pixels = noise((9, 7, 3) if channels == 3 else (9, 7))
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(pixels).save(path, **({"lossless": True} if suffix == "webp" else {}))
    image = read_image(path)
    wanted = np.atleast_3d(pixels).transpose(2, 0, 1)
    if suffix == "webp" and channels == 1:
        wanted = wanted.repeat(3, axis=0)  # WebP knows colour only
    assert image.dtype == np.uint8
    assert (image == wanted).all()


def test_jpeg_is_what_pillow_decodes(tmp_path, noise):
    Image.fromarray(noise((16, 16, 3))).save(tmp_path / "a.jpg")
    assert (read_image(tmp_path / "a.jpg") == np.asarray(Image.open(tmp_path / "a.jpg")).transpose(2, 0, 1)).all()


@pytest.mark.parametrize("shape", [(9, 7), (9, 7, 3)])
def test_sixteen_bits_keep_their_lower_byte(tmp_path, noise, shape):
    pixels = noise(shape, 65_536)
    (tmp_path / "a.png").write_bytes(imagecodecs.png_encode(pixels))
    tifffile.imwrite(tmp_path / "a.tif", pixels)
    wanted = np.atleast_3d(pixels).transpose(2, 0, 1)
    for name in ("a.png", "a.tif"):
        image = read_image(tmp_path / name)
        assert image.dtype == np.uint16
        assert (image == wanted).all()


def test_planar_tiff_and_compressed_tiff(tmp_path, noise):
    pixels = noise((3, 9, 7))
    tifffile.imwrite(tmp_path / "a.tif", pixels, planarconfig="separate", photometric="rgb", compression="zlib")
    assert (read_image(tmp_path / "a.tif") == pixels).all()


def test_palettes_and_bits_are_spread(tmp_path, noise):
    Image.fromarray(noise((8, 8), 4)).convert("P").save(tmp_path / "palette.png")
    Image.fromarray(noise((8, 8), 2).astype(bool)).save(tmp_path / "bits.png")
    tifffile.imwrite(tmp_path / "bits.tif", noise((8, 8), 2).astype(bool), photometric="minisblack")
    assert read_image(tmp_path / "palette.png").shape == (3, 8, 8)
    for name in ("bits.png", "bits.tif"):
        assert (read_image(tmp_path / name) == 255 * noise((1, 8, 8), 2)).all()


def _refused(path, match):
    with pytest.raises(DataError, match=match) as caught:
        read_image(path)
    message = str(caught.value)
    assert path.name in message
    assert "\n" not in message
    assert " object at 0x" not in message


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "tif"])
def test_a_truncated_file_is_named(tmp_path, noise, suffix):
    path = tmp_path / f"cut.{suffix}"
    Image.fromarray(noise((64, 64, 3))).save(path)
    content = path.read_bytes()
    for share in (0.02, 0.6):
        path.write_bytes(content[: int(share * len(content))])
        _refused(path, "cannot be read as an image")


def test_a_truncated_sixteen_bit_png_is_named(tmp_path, noise):
    path = tmp_path / "cut.png"
    path.write_bytes(imagecodecs.png_encode(noise((64, 64, 3), 65_536))[:5000])
    _refused(path, "cannot be read as an image")


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
@pytest.mark.parametrize("suffix", ["png", "tif", "webp"])
def test_alpha_is_refused_with_advice(tmp_path, mode, suffix):
    if (mode, suffix) == ("LA", "webp"):
        mode = "RGBA"
    image = Image.new(mode, (8, 8))
    image.putpixel((0, 0), (10,) * (len(mode) - 1) + (128,))
    image.save(tmp_path / f"a.{suffix}")
    _refused(tmp_path / f"a.{suffix}", "alpha channel.*flatten it first")


def test_a_transparent_colour_is_refused(tmp_path, noise):
    Image.fromarray(noise((8, 8))).save(tmp_path / "a.png", transparency=3)
    _refused(tmp_path / "a.png", "alpha channel")
    (tmp_path / "b.png").write_bytes(imagecodecs.png_encode(noise((8, 8, 4), 65_536)))
    _refused(tmp_path / "b.png", "alpha channel")


def test_other_forms_are_refused(tmp_path, noise):
    tifffile.imwrite(tmp_path / "pages.tif", noise((4, 8, 8)), photometric="minisblack")
    _refused(tmp_path / "pages.tif", "4 pages")
    tifffile.imwrite(tmp_path / "float.tif", np.zeros((8, 8), np.float32))
    _refused(tmp_path / "float.tif", "float32; wanted integers")
    tifffile.imwrite(tmp_path / "white.tif", noise((8, 8)), photometric="miniswhite")
    _refused(tmp_path / "white.tif", "MINISWHITE")
    Image.new("CMYK", (8, 8)).save(tmp_path / "a.jpg")
    _refused(tmp_path / "a.jpg", "CMYK; wanted grey or RGB")
    frames = [Image.fromarray(noise((8, 8, 3), seed=i)) for i in range(2)]
    frames[0].save(tmp_path / "a.webp", save_all=True, append_images=frames[1:], lossless=True)
    _refused(tmp_path / "a.webp", "2 frames")
    _refused(tmp_path / "missing.png", "does not exist")
    (tmp_path / "text.png").write_text("no image")
    _refused(tmp_path / "text.png", "cannot be read as an image")


def test_a_bomb_is_refused(tmp_path, noise, monkeypatch):
    Image.fromarray(noise((64, 64))).save(tmp_path / "a.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    _refused(tmp_path / "a.png", "cut it into tiles")


def test_load_images_names_and_order(tmp_path, noise):
    (tmp_path / "b").mkdir()
    for i, name in enumerate(["b/2.png", "b/1.png", "a.png", ".hidden.png"]):
        Image.fromarray(noise((4, 5 + i))).save(tmp_path / name)
    (tmp_path / "notes.txt").write_text("not an image")
    images = load_images([tmp_path / "a.png", tmp_path])
    assert [(name, image.shape) for name, image in images] == [
        ("a.png", (1, 4, 7)),
        ("a.png", (1, 4, 7)),
        ("b/1.png", (1, 4, 6)),
        ("b/2.png", (1, 4, 5)),
    ]
