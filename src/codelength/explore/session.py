"""What the page can do, without the page: measure an image with each run, draw samples, complete an image."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from codelength.data.dataset import Split
from codelength.data.images import read_image
from codelength.errors import CodelengthError, UsageError
from codelength.evaluation import per_example_nats
from codelength.models.base import LikelihoodModel
from codelength.report.collect import MARKS, load_run_data, read_evaluations, unique_names
from codelength.report.draw import draw_samples
from codelength.report.images import heat, to_pixels
from codelength.report.pictures import bits_of
from codelength.run import Run
from codelength.space import Space
from codelength.units import bits_per_dim

MOST_BYTES = 32 * 2**20  # of an upload
BOUND_SAMPLES = 16
KINDS = {1: "grey", 3: "RGB"}


@dataclass(frozen=True, eq=False)
class Measurement:
    """One image under one run.

    Args:
        run: Name of the run.
        bits_per_dim: Code length; of a bound with K = BOUND_SAMPLES.
        mark: "" exact, "≤" bound, "≈" estimate.
        rank: In words, where it stands among the data that the run was measured on; empty without a record.
        map: Bits of each pixel, (H, W); None where the model has no conditionals.
    """

    run: str
    bits_per_dim: float
    mark: str
    rank: str
    map: np.ndarray | None


class Explorer:
    """Runs on images of one space.

    Args:
        runs: One run or more, all of one space.

    Raises:
        UsageError: Their spaces differ, or are no images of fixed size with one or three channels.
    """

    def __init__(self, runs: Sequence[Run]) -> None:
        self.runs = dict(zip(unique_names(runs), runs, strict=True))
        self.space: Space = runs[0].space
        for name, run in self.runs.items():
            if run.space != self.space:
                raise UsageError(
                    f"{name} speaks of {run.space.shape} with {run.space.levels} levels, {next(iter(self.runs))} of "
                    f"{self.space.shape} with {self.space.levels}; explore runs on one kind of image together"
                )
        if self.space.kind != "image" or self.space.shape[0] not in KINDS or None in self.space.shape:
            raise UsageError(
                f"data of kind {self.space.kind!r}, shape {self.space.shape} cannot be explored; wanted images"
            )
        self.models: dict[str, LikelihoodModel] = {name: run.load_model() for name, run in self.runs.items()}
        self.trouble = ""
        self.test: Split | None = None
        try:
            self.test = load_run_data(runs[0]).split("test")
        except CodelengthError as error:
            self.trouble = str(error)

    @property
    def wanted(self) -> str:
        """What an image must be, in words: "28 x 28 (width x height), grey, 256 levels"."""
        channels, height, width = self.space.shape
        return f"{width} x {height} (width x height), {KINDS[int(channels or 0)]}, {self.space.levels} levels"

    @property
    def classes(self) -> dict[str, int]:
        """Conditions that some run takes -> their number of values."""
        names = {name for model in self.models.values() for name in model.conditioning}
        return {name: self.space.conditions.get(name, 1) for name in sorted(names)}

    def test_item(self, index: int) -> np.ndarray:
        """A test datum, (C, H, W).

        Raises:
            UsageError: There are no test data here, or not so many.
        """
        if self.test is None:
            raise UsageError(f"the test data are not here: {self.trouble}")
        if not 0 <= index < len(self.test):
            raise UsageError(f"item {index}; the test split has items 0 to {len(self.test) - 1}")
        return np.asarray(self.test.x[index], dtype=np.int64)

    def read_upload(self, content: bytes, name: str, *, fit: bool = False) -> np.ndarray:
        """An uploaded file as a datum, (C, H, W).

        Args:
            content: The file.
            name: Its name, for messages.
            fit: Cut the centre square, scale it, convert grey and RGB and levels to what the runs want; that is another image than the file's.

        Raises:
            UsageError: It is too large, no image, or, unless fitted, of another size, colour or depth.
        """
        if len(content) > MOST_BYTES:
            raise UsageError(f"{name} has {len(content):,} bytes; at most {MOST_BYTES:,} are read")
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "upload"
            path.write_bytes(content)
            try:
                pixels = read_image(path)
            except CodelengthError as error:
                raise UsageError(str(error).replace(str(path), name)) from error
        levels = 2 ** (8 * pixels.itemsize)
        channels, height, width = pixels.shape
        found = f"{width} x {height}, {KINDS[channels]}, {levels} levels"
        if fit:
            return _fit(pixels, levels, self.space)
        if pixels.shape != self.space.shape or (levels != self.space.levels and int(pixels.max()) >= self.space.levels):
            raise UsageError(f"{name} is {found}; wanted {self.wanted}. Switch on fitting, or convert it first")
        return pixels.astype(np.int64)

    def measure(self, x: np.ndarray, conditions: dict[str, int] | None = None) -> list[Measurement]:
        """The image under every run, shortest code first.

        Args:
            x: (C, H, W) integers.
            conditions: What conditional runs are told.
        """
        told = {name: np.array([value]) for name, value in (conditions or {}).items()}
        split = Split(x[None], conditions=told)
        measured = [self._measure(name, split) for name in self.runs]
        return sorted(measured, key=lambda m: m.bits_per_dim)

    def _measure(self, name: str, split: Split) -> Measurement:
        model = self.models[name]
        found = per_example_nats(model, split, samples=BOUND_SAMPLES)
        nats = float(found.code_length[0])
        where = bits_of(model, split.batch(slice(None)), split.condition_batch(slice(None)))
        mark = MARKS[{"exact": "", "bound": "<=", "estimate": "~"}[found.kind]]
        map_ = None if where is None else where.per_site[0]
        return Measurement(name, bits_per_dim(nats, self.space.num_dims), mark, self._rank(name, nats), map_)

    def _rank(self, name: str, nats: float) -> str:
        records = [e for e in read_evaluations(self.runs[name]) if len(e.per_example)]
        if not records:
            return ""
        evaluation = min(records, key=lambda e: (e.record.split != "test", -len(e.per_example)))
        shorter = evaluation.per_example < nats - 1e-5 * abs(nats)  # one part in 1e5 is round-off, not another length
        share = float(shorter.mean())
        place = f"{len(evaluation.per_example):,} {evaluation.record.split} items of {evaluation.record.data}"
        return f"longer than {100 * share:.1f} % of {place}"

    def samples(self, name: str, n: int, *, temperature: float, seed: int, conditions: dict[str, int]) -> np.ndarray:
        """n samples of a run as pixels, (n, H, W, C) uint8.

        Raises:
            UsageError: The run cannot be sampled, or not at this temperature.
        """
        taken = {key: conditions[key] for key in self.models[name].conditioning}
        drawn = draw_samples(self.models[name], n, seed=seed, temperature=temperature, conditions=taken)
        return to_pixels(drawn.numpy(), self.space)

    def completions(self, name: str, x: np.ndarray, n: int, *, seed: int, conditions: dict[str, int]) -> np.ndarray:
        """The image and n completions of its upper half, (n + 1, H, W, C) uint8.

        Raises:
            UsageError: The run cannot complete images.
        """
        rows = x.shape[1] // 2
        taken = {key: conditions[key] for key in self.models[name].conditioning}
        given = torch.from_numpy(x).expand(n, *x.shape).contiguous()
        drawn = draw_samples(self.models[name], n, seed=seed, given=given, rows=rows, conditions=taken)
        return to_pixels(np.concatenate([x[None], drawn.numpy()]), self.space)


def _fit(pixels: np.ndarray, levels: int, space: Space) -> np.ndarray:
    channels, height, width = pixels.shape
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    square = pixels[:, top : top + side, left : left + side].astype(np.float64) / (levels - 1)
    wanted, high, wide = (int(size or 0) for size in space.shape)
    if channels == 3 and wanted == 1:
        square = np.tensordot([0.299, 0.587, 0.114], square, axes=1)[None]
    planes = [Image.fromarray(plane.astype(np.float32)).resize((wide, high), Image.Resampling.BOX) for plane in square]
    scaled = np.stack([np.asarray(plane) for plane in planes]) * (space.levels - 1)
    fitted = scaled.round().clip(0, space.levels - 1).astype(np.int64) + space.offset
    return np.repeat(fitted, 3, axis=0) if wanted == 3 and channels == 1 else fitted


def map_pixels(measured: Sequence[Measurement]) -> dict[str, np.ndarray]:
    """Run -> its map as (H, W, 3) uint8, all on one scale."""
    maps = {m.run: m.map for m in measured if m.map is not None}
    if not maps:
        return {}
    high = max(float(np.quantile(np.stack(list(maps.values())), 0.995)), 1e-9)
    return {name: heat(values, high) for name, values in maps.items()}
