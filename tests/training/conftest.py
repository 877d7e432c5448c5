import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest

from codelength.data.dataset import DataSet, Split
from codelength.models import registry
from codelength.recipe import parse_recipe
from codelength.space import Space


@pytest.fixture(scope="session")
def toys():
    """The module of tiny models, importable by the registry."""
    spec = importlib.util.spec_from_file_location("codelength_toys", Path(__file__).parent / "toys.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules["codelength_toys"] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def toy_systems(toys, monkeypatch):
    """The toys as model systems."""
    monkeypatch.setattr(registry, "SYSTEMS", dict(registry.SYSTEMS))
    toys.register(registry.SYSTEMS, "codelength_toys")


@pytest.fixture
def two_levels():
    """2 x 2 images of two levels with a label, and no test split: training may not ask for one."""
    generator = np.random.default_rng(0)

    def split(count):
        x = (generator.random((count, 1, 2, 2)) < [[0.9, 0.1], [0.5, 0.7]]).astype(np.uint8)
        return Split(x, conditions={"label": generator.integers(0, 3, count)})

    space = Space.image(1, 2, 2, levels=2, conditions={"label": 3})
    return DataSet("toy", space, {"train": split(90), "validation": split(40)})


@pytest.fixture
def make_recipe():
    def make(system, options=None, **training):
        defaults = {"steps": 20, "batch_size": 16, "validate_every": 10, "checkpoint_every": 10}
        fields = {"name": "toy", "data": {"name": "toy"}, "model": {"system": system, "options": options or {}}}
        return parse_recipe({**fields, "training": {**defaults, **training}})

    return make
