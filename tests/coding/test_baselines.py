"""Sizes of established codecs: lossless or no number."""

from __future__ import annotations

import dataclasses
import io

import numpy as np
import pytest
from PIL import Image

from codelength.coding import baselines
from codelength.coding.baselines import codec_baselines, idat_bytes, image_codecs
from codelength.errors import CodecError, DataError


def by_name(x: np.ndarray) -> dict[str, baselines.CodecResult]:
    return {result.name: result for result in codec_baselines(x)}


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("levels", [256, 65536])
def test_all_codecs_on_all_kinds(images, channels: int, levels: int) -> None:
    x = images(6, channels, 16, levels)
    results = by_name(x)
    assert set(results) == {"PNG", "PNG IDAT", "WebP", "JPEG XL e7", "JPEG XL e9", "JPEG-LS", "xz", "bzip2"}
    skipped = {name for name, result in results.items() if result.not_applicable}
    assert skipped == ({"WebP"} if levels > 256 else set()) | ({"JPEG-LS"} if channels == 4 else set())
    for result in results.values():
        if result.total_bytes is None:
            assert result.bits_per_dim is None
        else:
            assert result.bits_per_dim == pytest.approx(8 * result.total_bytes / x.size)
        assert result.scope == ("whole set" if result.name in ("xz", "bzip2") else "per image")
        assert result.version.split()[1][0].isdigit()
        assert result.to_json()["name"] == result.name


def test_two_channels_fit_no_image_codec(images) -> None:
    results = by_name(images(2, 2, 8))
    assert results["PNG"].not_applicable == "holds no images of 2 channels"
    assert results["xz"].total_bytes


@pytest.mark.parametrize("fill", ["noise", "constant", "transparent"])
def test_hard_images_are_lossless(fill: str) -> None:
    rng = np.random.default_rng(0)
    x = rng.integers(0, 256, (3, 4, 16, 16)).astype(np.uint8)
    if fill == "constant":
        x[:] = 255
    elif fill == "transparent":
        x[:, 3] = 0  # colours under transparent pixels count too
    for channels in (1, 3, 4):
        assert all(r.total_bytes or r.not_applicable for r in codec_baselines(x[:, -channels:]))


def test_a_lossy_codec_gets_no_number(images, monkeypatch) -> None:
    """Control: a JPEG in the place of WebP."""

    def jpeg(image: np.ndarray) -> bytes:
        buffer = io.BytesIO()
        Image.fromarray(image).save(buffer, "JPEG", quality=90)
        return buffer.getvalue()

    webp = next(codec for codec in image_codecs() if codec.name == "WebP")
    lossy = dataclasses.replace(webp, encode=jpeg)
    monkeypatch.setattr(baselines, "image_codecs", lambda: [lossy])
    with pytest.raises(CodecError, match="did not give an image back"):
        codec_baselines(images(2, 3, 16))
    monkeypatch.setattr(baselines, "image_codecs", list)
    monkeypatch.setattr(
        baselines, "set_compressors", lambda: [("cut", "", "cut 1", lambda raw: raw[1:], lambda raw: raw)]
    )
    with pytest.raises(CodecError, match="did not give the data back"):
        codec_baselines(images(2, 3, 16))


def test_idat_is_what_is_left_without_the_frame(images) -> None:
    png = baselines._png(images(1, 1, 16)[0, 0])
    # signature 8, IHDR 25, IEND 12, and 12 around one IDAT
    assert idat_bytes(png) == len(png) - 57


@pytest.mark.parametrize("x", [np.zeros((1, 1, 2, 2)), np.zeros((2, 2), np.uint8), np.zeros((0, 1, 2, 2), np.uint8)])
def test_other_arrays_are_refused(x: np.ndarray) -> None:
    with pytest.raises(DataError, match="wanted uint8 or uint16"):
        codec_baselines(x)
