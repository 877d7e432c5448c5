"""A small run to call commands on."""

from __future__ import annotations

import pytest
import torch

from codelength.data import load_data
from codelength.evaluation import evaluate_run
from codelength.recipe import parse_recipe
from codelength.run import Run, create_run, load_run, save_run_weights


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """An untrained MADE on `digits`, measured on test data."""
    folder = tmp_path_factory.mktemp("runs") / "made"
    model = {"system": "made", "options": {"hidden": [16], "components": 2}}
    recipe = parse_recipe({"name": "made", "data": {"name": "digits"}, "model": model})
    torch.manual_seed(0)
    create_run(folder, recipe, load_data("digits").space)
    save_run_weights(folder, load_run(folder).build().state_dict(), "raw", 0)
    evaluate_run(load_run(folder), split="test", gap_examples=20)
    return load_run(folder)


@pytest.fixture(scope="session")
def conditional_run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A class-conditional MADE on `digits` with random weights."""
    folder = tmp_path_factory.mktemp("runs") / "told"
    model = {"system": "made", "options": {"hidden": [16], "components": 2, "class_conditional": True}}
    recipe = parse_recipe({"name": "told", "data": {"name": "digits"}, "model": model})
    create_run(folder, recipe, load_data("digits").space)
    generator = torch.Generator().manual_seed(0)
    weights = load_run(folder).build().state_dict()
    weights = {name: value + 0.5 * torch.randn(value.shape, generator=generator) for name, value in weights.items()}
    save_run_weights(folder, weights, "raw", 0)
    return load_run(folder)
