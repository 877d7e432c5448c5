"""Where the bits go: digits and patches of photographs with the bits that trained models spend on every pixel."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from codelength.coding.baselines import codec_baselines
from codelength.data import load_data
from codelength.errors import UsageError
from codelength.models.base import can
from codelength.report.draw import draw_samples
from codelength.report.images import enlarge, heat, png_bytes, tile, to_pixels
from codelength.report.pictures import bits_of, choose_items
from codelength.run import Run, load_run, write_atomically
from codelength.tutorial.drawing import BLUE, GREY, save, sheet
from codelength.units import bits_per_dim

ITEMS = 4


def record_run(records: Path, name: str) -> Run:
    """A run of the folder of records.

    Raises:
        UsageError: It is not there.
    """
    if not (records / name / "recipe.yaml").is_file():
        raise UsageError(f"no run {name} in {records}; give --records, the folder records/ of a checkout of codelength")
    return load_run(records / name)


def where_the_bits_go(path: Path, records: Path) -> dict[str, Any]:
    """Random test digits and unseen patches of photographs, their bits per pixel, and what classical codecs need."""
    figure, axes = sheet(1, 3, 13, 3.6)
    numbers: dict[str, Any] = {}
    for panel, name, data in (
        (axes[0, 0], "mnist5k-pixelcnn_pp", "mnist5k"),
        (axes[0, 1], "cifar10-causal_window", "photos32"),
    ):
        picture, costs = _maps(record_run(records, name), data)
        panel.imshow(picture, interpolation="nearest")
        panel.set_axis_off()
        words = "handwritten digits" if data == "mnist5k" else "photographs"
        panel.set_title(f"{words}: test data above,\nbits spent on each pixel below", fontsize=10)
        numbers[f"{data}_items_bits_per_dim"] = [round(float(cost), 4) for cost in costs]
    bars = _sizes(record_run(records, "mnist5k-pixelcnn_pp"))
    names = list(bars)
    axes[0, 2].barh(
        names[::-1],
        [bars[n] for n in names[::-1]],
        color=[BLUE if n.startswith("PixelCNN") else GREY for n in names[::-1]],
    )
    for i, name in enumerate(names[::-1]):
        axes[0, 2].text(bars[name] + 0.03, i, f"{bars[name]:.3f}", va="center", fontsize=9)
    axes[0, 2].set(title="500 test digits, bits/dim", xlim=(0, max(bars.values()) * 1.2))
    save(figure, path)
    return {**numbers, "test_bits_per_dim": bars}


def _maps(run: Run, data: str) -> tuple[np.ndarray, np.ndarray]:
    dataset = load_data(data)
    split = dataset.split("test")
    chosen = choose_items(len(split), ITEMS, "figure", data)
    found = bits_of(run.load_model(), split.batch(chosen), split.condition_batch(chosen))
    assert found is not None  # both runs are autoregressive
    shown = to_pixels(split.x[chosen], dataset.space)
    shown = shown.repeat(3, axis=-1) if shown.shape[-1] == 1 else shown
    maps = heat(found.per_site, float(np.quantile(found.per_site, 0.995)))
    return tile(np.concatenate([shown, maps]), columns=ITEMS), found.per_dim.mean((1, 2, 3))


def _sizes(run: Run) -> dict[str, float]:
    """Bits/dim of the run's record and of classical codecs on mnist5k's test split, largest first."""
    from codelength.report.collect import read_evaluations

    x = load_data("mnist5k").split("test").x
    record = next(e.record for e in read_evaluations(run) if e.record.split == "test")
    sizes: dict[str, float] = {}
    for codec in codec_baselines(np.ascontiguousarray(x, dtype=np.uint8)):
        if codec.bits_per_dim is not None and codec.name.startswith(("PNG", "WebP", "JPEG XL", "xz")):
            sizes[f"{codec.name}, {codec.scope}"] = codec.bits_per_dim
    sizes["PixelCNN++"] = record.bits_per_dim
    return dict(sorted(sizes.items(), key=lambda item: -item[1]))


def samples(path: Path, records: Path, name: str) -> dict[str, Any]:
    """Samples of a recorded run beside its test data where these are at hand: 16 at random, seed 0, none chosen."""
    run = record_run(records, name)
    model: Any = run.load_model()
    drawn = draw_samples(model, 16, seed=0)
    sheet_ = enlarge(tile(to_pixels(drawn.numpy(), run.space), columns=8), 2)
    write_atomically(path, png_bytes(sheet_))
    nats = model.log_prob(drawn) if can(model, "log_prob") else None
    mean = None if nats is None else float(bits_per_dim(-nats.detach().double().mean(), run.space.num_dims))
    return {"count": len(drawn), "seed": 0, "bits_per_dim_of_the_samples": mean}
