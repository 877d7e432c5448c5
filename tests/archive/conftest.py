"""A small integer network in memory, and files of many kinds."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
import torch

from codelength.archive.pack import pack
from codelength.models.quantized.builder import quantized
from codelength.models.quantized.causal_window import IntegerCausalWindow
from codelength.space import Space


@pytest.fixture(scope="session")
def window_model() -> Callable[..., IntegerCausalWindow]:
    """Random integer networks: (channels, seed) -> model."""

    def build(channels: int, seed: int = 0) -> IntegerCausalWindow:
        options = {"rows": 2, "reach": 2, "width": 16, "layers": 2, "head_width": 16, "components": 2}
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            model = quantized(Space.image(channels, 12, 10), base="causal_window", options=options, activations=10)
            # Entries of a fresh network's tables are zeros: give rows and columns something to say.
            for table in (model.inputs.row, model.inputs.column, model.inputs.difference):
                table.set(torch.randint(-100, 100, table.values.shape))
        return model.eval()

    return build


def png(pixels: np.ndarray) -> bytes:
    """A PNG file."""
    return bytes(imagecodecs.png_encode(np.array(pixels, order="C")))


@pytest.fixture(scope="session")
def mixed_files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of files of every kind that archives treat in their own way."""
    folder = tmp_path_factory.mktemp("mixed") / "mix"
    (folder / "sub").mkdir(parents=True)
    rng = np.random.default_rng(0)
    ramp = (np.indices((14, 18)).sum(0) * 5 + rng.integers(0, 4, (14, 18))).astype(np.uint8)
    colour = np.stack([ramp, ramp // 2, ramp // 3 + 9], -1)
    files = {
        "grey.png": png(ramp),
        "rgb.png": png(colour),
        "rgb2.png": png(colour[::-1]),
        "alpha.png": png(np.concatenate([colour, ramp[..., None]], -1)),
        "grey_alpha.png": png(np.stack([ramp, ramp // 128 * 255], -1)),
        "grey16.png": png(ramp.astype(np.uint16) * 200 + 7),
        "one.png": png(colour[:1, :1]),
        "row.png": png(colour[:1]),
        "column.png": png(colour[:, :1]),
        "constant.png": png(np.full((20, 30), 77, np.uint8)),
        "checks.png": png((np.indices((15, 17)).sum(0) % 2 * 255).astype(np.uint8)),
        "noise.png": png(rng.integers(0, 256, (9, 9, 3), dtype=np.uint8)),
        "broken.png": png(colour)[:60],
        "empty": b"",
        "one.byte": b"x",
        "sub/text.txt": b"the quick brown fox jumps over the lazy dog, " * 30,
        "sub/random": rng.bytes(700),
    }
    for name, content in files.items():
        (folder / name).write_bytes(content)
    np.save(folder / "signed.npy", rng.normal(0, 20, (10, 12)).astype(np.int16))
    np.save(folder / "stack.npy", np.stack([ramp, ramp[::-1]]))
    np.save(folder / "reals.npy", rng.normal(size=(3, 3)))
    return folder


@pytest.fixture(scope="session")
def mixed_archive(mixed_files: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Those files in an archive, verified."""
    out = tmp_path_factory.mktemp("archive") / "mix.clen"
    pack([mixed_files], out)
    return out
