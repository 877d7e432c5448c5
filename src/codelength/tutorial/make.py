"""All figures by name, and the record of what they show."""

from __future__ import annotations

import json
import platform
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from codelength import __version__
from codelength.errors import unknown_name
from codelength.run import write_atomically
from codelength.tutorial import binarization, bits, dequantization, logistic, modes

RECORD = "figures.json"

# file -> function of its path that draws it and returns the numbers it shows.
FIGURES: dict[str, Callable[[Path], dict[str, Any]]] = {
    "binarized.png": binarization.binarized,
    "speckle.png": binarization.speckle,
    "spikes.svg": dequantization.spikes,
    "preprocessing.svg": dequantization.preprocessing,
    "logistic-edges.svg": logistic.edges,
    "gradients.svg": logistic.gradients,
    "components.svg": logistic.components,
    "modes.png": modes.modes,
}


def all_figures(records: Path | None) -> dict[str, Callable[[Path], dict[str, Any]]]:
    """The figures above, and those of trained runs where the folder of records is given."""
    if records is None:
        return dict(FIGURES)
    of_runs: dict[str, Callable[[Path], dict[str, Any]]] = {
        "where-the-bits-go.png": partial(bits.where_the_bits_go, records=records)
    }
    for recipe in sorted(records.glob("*/recipe.yaml")):
        name = recipe.parent.name
        of_runs[f"samples-{name}.png"] = partial(bits.samples, records=records, name=name)
    return {**FIGURES, **of_runs}


def make_figures(folder: Path, names: Sequence[str] = (), records: Path | None = None) -> dict[str, dict[str, Any]]:
    """Draw figures into a folder, and note in its `figures.json` what each shows.

    Args:
        folder: Where to.
        names: Which; all without it.
        records: Folder of trained runs for the figures that need one.

    Returns:
        File name -> the numbers in it.

    Raises:
        UsageError: A figure is unknown, or a run missing.
    """
    known = all_figures(records)
    for name in names:
        if name not in known:
            raise unknown_name("figure", name, known)
    path = folder / RECORD
    kept = json.loads(path.read_text())["figures"] if path.is_file() else {}
    made = {name: known[name](folder / name) for name in names or known}
    record = {
        "command": "codelength figures -o docs/figures --records records",
        "versions": {
            "codelength": __version__,
            "numpy": np.__version__,
            "torch": torch.__version__,
            "python": platform.python_version(),
        },
        "figures": dict(sorted({**kept, **made}.items())),
    }
    write_atomically(path, (json.dumps(record, indent=1, ensure_ascii=False) + "\n").encode())
    return made
