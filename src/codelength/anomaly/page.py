"""The page of the most surprising items: pictures, where their bits go, p-values."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from codelength import __version__
from codelength.anomaly.scoring import Scored
from codelength.data.dataset import Split
from codelength.models.base import LikelihoodModel
from codelength.report.images import data_uri, heat, tile, to_pixels
from codelength.report.page import Block, Cell, Column, Gallery, Note, Page, Picture, Section, Table, write_page
from codelength.report.pictures import bits_of, colour_bar, drawable

SHOWN = 112  # pixels an item is drawn wide

MEANINGS = {
    "joint": "distance of the code lengths of model and codecs, taken together, from those of clean data",
    "likelihood": "code length under the model, nats",
    "typicality": "distance of the code length from the clean mean, nats",
    "complexity": "code length beyond that of the best image codec, nats",
    "ratio": "code length beyond the background model's, nats",
    "regret": "what the model gains when its latents are fitted to this item alone, nats",
}


def write_surprises(scored: Scored, model: LikelihoodModel, data: Split, path: Path, run: str, top: int = 20) -> Path:
    """Write one self-contained HTML file on the `top` most surprising items; returns its path."""
    order = scored.order[:top]
    sections = [
        Section("items", "Most surprising items", [*_pictures(scored, model, data, order), _table(scored, order)])
    ]
    flagged = int(scored.flagged.sum())
    lead = (
        f"{len(scored.items):,} items scored by {run}. {flagged:,} are flagged by the score {scored.by}: their p-value, the share of "
        f"{scored.calibration:,} clean items that score as high, is at most {scored.rate:g}. Of clean items about that share is "
        "flagged too."
    )
    return write_page(Page(f"What surprises {run}", lead, sections, (f"codelength {__version__}",)), path)


def _pictures(scored: Scored, model: LikelihoodModel, data: Split, order: np.ndarray) -> list[Block]:
    if not drawable(model.space):
        return [Note(f"Data of kind {model.space.kind} are not drawn.")]
    pixels = to_pixels(data.x[order], model.space)
    conditions = data.condition_batch(order)
    bits = bits_of(model, data.batch(order), conditions) if set(model.conditioning) <= set(conditions) else None
    high = 1.0 if bits is None else max(float(np.quantile(bits.per_site, 0.995)), 1e-6)
    pictures = []
    for rank, i in enumerate(order):
        sheet = pixels[rank]
        if bits is not None:
            both = np.stack([np.broadcast_to(sheet, (*sheet.shape[:2], 3)), heat(bits.per_site[rank], high)])
            sheet = tile(both, columns=2, gap=1)
        label = (
            f"{rank + 1}. {scored.items[i]}: p = {scored.p_values[scored.by][i]:.4f}, {scored.bits_per_dim[i]:.2f} bits/dim"
            f"{', flagged' if scored.flagged[i] else ''}"
        )
        pictures.append(Picture(data_uri(sheet), label, label, SHOWN * (2 if bits is not None else 1)))
    if bits is None:
        caption = "The most surprising items. The model does not tell the bits of single pixels, so there are no maps."
        return [Gallery(caption, pictures)]
    caption = (
        "The most surprising items, each beside its map of −log2 P of each pixel given those before: bright pixels cost many bits. An "
        "item can be odd because it costs too little as well."
    )
    return [Gallery(caption, pictures, colour_bar(high))]


def _table(scored: Scored, order: np.ndarray) -> Table:
    columns = [
        Column("rank", numeric=True),
        Column("item"),
        Column("p-value", f"of the score {scored.by}", True),
        Column("flagged"),
        Column("bits/dim", numeric=True),
        *(Column(name, MEANINGS.get(name, "code length beyond one codec's, nats"), True) for name in scored.scores),
    ]
    rows = []
    for rank, i in enumerate(order, 1):
        p = float(scored.p_values[scored.by][i])
        row = [
            Cell(str(rank), rank),
            Cell(scored.items[i]),
            Cell(f"{p:.4f}", p),
            Cell("yes" if scored.flagged[i] else ""),
        ]
        row.append(Cell(f"{scored.bits_per_dim[i]:.3f}", float(scored.bits_per_dim[i])))
        row += [Cell(f"{values[i]:.1f}", float(values[i])) for values in scored.scores.values()]
        rows.append(row)
    return Table("Scores of the most surprising items; higher is odder", columns, rows)
