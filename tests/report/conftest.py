"""Small runs with real records, and a page made of them."""

from __future__ import annotations

import json
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from codelength.data import load_data
from codelength.evaluation import Evaluation, evaluate_run
from codelength.recipe import parse_recipe
from codelength.run import Run, create_run, load_run, save_run_weights

VOID = {"meta", "link", "img", "input", "br", "hr"}


def write_run(
    folder: Path, system: str, options: dict[str, Any], data: str = "digits", samples: int = 1, measured: bool = True
) -> Run:
    """A run with random weights, a log, and unless not wanted a record on test data."""
    fields = {"name": folder.name, "data": {"name": data}, "model": {"system": system, "options": options}}
    recipe = parse_recipe({**fields, "evaluation": {"samples": samples}})
    torch.manual_seed(len(system))
    create_run(folder, recipe, load_data(data).space)
    model = load_run(folder).build()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    save_run_weights(folder, model.state_dict(), "raw", 10)
    lines = [
        {"step": s, "split": split, "bits_per_dim": 4 - 0.1 * s, "cpu_seconds": 0.5 * s, "examples": 32 * s}
        for s in (1, 2, 4, 8)
        for split in ("train", "validation")
    ]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    run = load_run(folder)
    if measured:
        evaluate_run(run, split="test", gap_examples=50)
    return run


@pytest.fixture(scope="session")
def new_run() -> Callable[..., Run]:
    """write_run."""
    return write_run


@pytest.fixture(scope="session")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[Run]:
    """Three families on `digits`: two exact, one bound."""
    folder = tmp_path_factory.mktemp("runs")
    return [
        write_run(folder / "mean_field", "mean_field", {"components": 2}),
        write_run(folder / "made", "made", {"hidden": [32], "components": 2}),
        write_run(folder / "vae", "vae", {"network": "dense", "filters": 16, "latents": 2, "components": 2}, samples=8),
    ]


@pytest.fixture(scope="session")
def colour_run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run on colour images of the user's own."""
    folder = tmp_path_factory.mktemp("colour")
    path = folder / "own.npz"
    x = np.random.default_rng(0).integers(0, 256, (60, 8, 8, 3), dtype=np.uint8)
    np.savez(path, train=x[:40], validation=x[40:50], test=x[50:])
    return write_run(folder / "colour", "mean_field", {"components": 2}, data=str(path))


@pytest.fixture(scope="session")
def evaluation() -> Callable[[Run], Evaluation]:
    """The one record of a run."""
    return lambda run: Evaluation.load(next((run.path / "evaluation").glob("*/record.json")).parent)


class Outline(HTMLParser):
    """Checks that tags close in order; collects tags, attributes and visible text."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.words: list[str] = []
        self.feed(html)
        self.close()
        assert not self.open, f"not closed: {self.open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag, f"</{tag}> out of order"

    def handle_data(self, data: str) -> None:
        if not self.open or self.open[-1] not in ("style", "script"):
            self.words.append(data)

    @property
    def text(self) -> str:
        """All visible words."""
        return " ".join(" ".join(self.words).split())

    def all(self, tag: str) -> list[dict[str, str]]:
        """Attributes of every such tag."""
        return [attributes for name, attributes in self.tags if name == tag]


@pytest.fixture(scope="session")
def outline() -> type[Outline]:
    """Parser that checks the form of a page."""
    return Outline
