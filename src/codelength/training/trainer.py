"""The trainer: a recipe in, a run out."""

from __future__ import annotations

from pathlib import Path

from codelength.data.dataset import DataSet
from codelength.recipe import Recipe
from codelength.run import Run


def train(
    recipe: Recipe,
    out: Path,
    *,
    resume: bool = False,
    overfit: int | None = None,
    progress: bool = True,
    device: str | None = None,
    data: DataSet | None = None,
) -> Run:
    """Train the recipe's model and return the run in the folder `out`."""
    raise NotImplementedError
