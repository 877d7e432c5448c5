"""What the figures share: a sheet of panels, colours, and files that are the same whenever they are made."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np

from codelength.run import write_atomically

INK, BLUE, ORANGE, GREEN, GREY = "#1b1f24", "#0b5fa5", "#b34700", "#1a7f37", "#6e7781"
_STYLE = {
    "svg.hashsalt": "codelength",
    "font.size": 11,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": GREY,
    "legend.frameon": False,
    "figure.constrained_layout.use": True,
}


def sheet(rows: int, columns: int, width: float, height: float) -> tuple[Any, Any]:
    """A figure of `rows` x `columns` panels, `width` x `height` inches: (figure, array of axes)."""
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(width, height), facecolor="white")
        axes = figure.subplots(rows, columns, squeeze=False)
    return figure, axes


def show(axes: Any, picture: np.ndarray, title: str) -> None:
    """An image (H, W) or (H, W, 3) in [0, 1] or uint8, pixels sharp, without axes."""
    high = 255 if picture.dtype == np.uint8 else 1
    axes.imshow(picture, cmap="gray", vmin=0, vmax=high, interpolation="nearest")
    axes.set_title(title, fontsize=11)
    axes.set_axis_off()


def save(figure: Any, path: Path) -> None:
    """Write the figure as SVG or PNG by its name, without a date, atomically."""
    import matplotlib

    buffer = io.BytesIO()
    kind = path.suffix.lstrip(".")
    metadata = {"Date": None, "Creator": "codelength figures"} if kind == "svg" else {"Software": "codelength figures"}
    with matplotlib.rc_context(_STYLE):
        figure.savefig(buffer, format=kind, dpi=110, metadata=metadata)
    write_atomically(path, buffer.getvalue())
