"""Models of archives: those that ship with the package, those in a folder, those inside files; found by their hash."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from codelength.archive.window_codec import fits
from codelength.coding.codec import load_coder
from codelength.errors import CodecError, CodelengthError
from codelength.run import Run, load_run

SHIPPED = Path(__file__).resolve().parent.parent / "pretrained"
MODELS_VARIABLE = "CODELENGTH_MODELS"
QUICK = ("fast", "grey")
"""Names of the models that `--fast` codes with."""
FILES = ("recipe.yaml", "space.json", "weights.json", "model.safetensors")
MAX_EMBEDDED = 2**26
MAX_LEVELS = 2**16
MAX_CHANNELS = 4


@dataclass(frozen=True)
class ImageModel:
    """A model that codes images of any size."""

    name: str
    sha256: str
    model: Any
    path: Path


def shipped_names() -> list[str]:
    """Names of the models inside the package."""
    return sorted(path.parent.name for path in SHIPPED.glob("*/recipe.yaml"))


@lru_cache(maxsize=32)
def open_model(path: Path) -> ImageModel:
    """The model of a run.

    Raises:
        CodecError: It is no integer causal window network, which is what archives code images of any size with.
    """
    run = load_run(path)
    if run.recipe.model.system != "quantized":
        raise _unfit(path)
    model, sha256 = load_coder(run)
    if not fits(model, model.space.sizes[0], model.space.levels):
        raise _unfit(path)
    return ImageModel(path.name, sha256, model, path)


def _unfit(path: Path) -> CodecError:
    return CodecError(
        f"{path} is no integer causal window network, which archives code images of any size with; quantize a causal_window run "
        "with `codelength quantize`, or compress images of the run's own size with `codelength compress RUN PATH...`"
    )


def candidates(runs: Iterable[Path] = ()) -> Iterator[ImageModel]:
    """Models known here: runs that are given, those in the folder CODELENGTH_MODELS, those that ship."""
    for path in runs:
        yield open_model(path)
    folder = os.environ.get(MODELS_VARIABLE)
    if folder:
        for recipe in sorted(Path(folder).glob("*/recipe.yaml")):
            try:
                yield open_model(recipe.parent)
            except CodelengthError:
                continue  # a run of another kind: not for archives
    for name in shipped_names():
        yield open_model(SHIPPED / name)


def models_for(channels: int, levels: int, runs: Iterable[Path] = ()) -> list[ImageModel]:
    """The known models for images of that many channels and levels."""
    return [known for known in candidates(runs) if fits(known.model, channels, levels)]


def find_model(sha256: str, name: str, runs: Iterable[Path] = ()) -> ImageModel:
    """The known model with that hash.

    Raises:
        CodecError: There is none.
    """
    for known in candidates(runs):
        if known.sha256 == sha256:
            return known
    raise CodecError(
        f"the file was coded with the model {sha256[:16]} ({name or 'unnamed'}), which is not known here; give its run with --run, or "
        f"put it into the folder that {MODELS_VARIABLE} names"
    )


def pack_model(known: ImageModel) -> bytes:
    """The files of a model's run in one piece."""
    contents = {name: (known.path / name).read_bytes() for name in FILES}
    head = json.dumps({name: len(content) for name, content in contents.items()}).encode()
    return len(head).to_bytes(4, "little") + head + b"".join(contents.values())


def unpack_model(content: bytes, sha256: str) -> ImageModel:
    """The model of `pack_model`.

    Raises:
        CodecError: It is none, or not the one with that hash.
    """
    end = 4 + int.from_bytes(content[:4], "little")
    try:
        sizes = json.loads(content[4:end])
        if list(sizes) != list(FILES) or any(type(size) is not int or size < 0 for size in sizes.values()):
            raise ValueError(f"files {list(sizes)[:8]}")
    except (ValueError, TypeError, RecursionError) as error:
        raise CodecError(f"the file is damaged: its model cannot be read ({error}). Restore it from a copy") from error
    with tempfile.TemporaryDirectory(prefix="codelength-") as scratch:
        folder = Path(scratch) / "embedded"
        folder.mkdir()
        for name, size in sizes.items():
            (folder / name).write_bytes(content[end : end + size])
            end += size
        try:
            _refuse_giants(load_run(folder), len(content))
            known = open_model.__wrapped__(folder)
        except (CodelengthError, OSError, ValueError, TypeError, KeyError) as error:
            raise CodecError(f"the model inside the file cannot be used ({error}); restore the file") from error
    if known.sha256 != sha256:
        raise CodecError(
            f"the model inside the file has the hash {known.sha256[:16]}; wanted {sha256[:16]}. Restore the file"
        )
    return known


def _refuse_giants(run: Run, size: int) -> None:
    """Raise CodecError where a recipe claims a network that `size` bytes cannot hold: it would be built before its weights are missed."""
    options = run.recipe.model.options.get("options") or {}
    counts = {name: value for name, value in options.items() if type(value) is int}
    width, layers = counts.get("width", 1), counts.get("layers", 1)
    claims = [*counts.values(), *run.space.sizes, run.space.levels - MAX_LEVELS, width * width * (layers - 1)]
    claims += [width * counts.get("head_width", 1), counts.get("rows", 1) * counts.get("reach", 1) * width]
    if max(claims) > size or run.space.sizes[0] > MAX_CHANNELS:
        raise CodecError("its recipe describes a larger network than its bytes can hold")
