"""FILE.py:NAME: what it may be, and what is said when it is not."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from codelength import LikelihoodModel, Space
from codelength.adapters import ForeignModel, is_file_spec, load_subject
from codelength.adapters.file import load_callable
from codelength.errors import UsageError

GOOD = """
import torch

class Coin:
    shape, levels = (1, 2, 2), 2
    def log_prob(self, x):
        return torch.full((len(x),), -4 * 0.6931471805599453)

def make():
    return Coin()

def bare():
    coin = Coin()
    del Coin.shape, Coin.levels
    return coin

def fails():
    raise RuntimeError("no weights")

number = 3
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "mine.py"
    path.write_text(GOOD)
    return path


def test_object_behind_the_interface(file: Path) -> None:
    model = load_subject(f"{file}:make")
    assert isinstance(model, ForeignModel)
    assert isinstance(model, LikelihoodModel)
    assert model.space == Space.image(1, 2, 2, 2)
    assert model.spec == f"{file}:make"
    assert float(model.log_prob(torch.zeros(3, 1, 2, 2, dtype=torch.long)).exp().sum()) == pytest.approx(3 / 16)  # type: ignore[operator]


def test_space_of_the_data_completes_it(file: Path) -> None:
    assert load_subject(f"{file}:bare", Space.image(1, 2, 2, 2)).space == Space.image(1, 2, 2, 2)
    with pytest.raises(UsageError, match="declares no shape"):
        load_subject(f"{file}:bare")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("mke", "did you mean 'make'"),
        ("number", "is a int; wanted a callable"),
        ("fails", "raised RuntimeError: no weights"),
    ],
)
def test_names_that_cannot_be_used(file: Path, name: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        load_subject(f"{file}:{name}")


def test_files_that_cannot_be_used(file: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="does not exist"):
        load_subject(f"{tmp_path}/other.py:make")
    with pytest.raises(UsageError, match="not of the form FILE"):
        load_callable("mine.py")
    file.write_text("1 / 0")
    with pytest.raises(UsageError, match="ZeroDivisionError"):
        load_subject(f"{file}:make")


def test_each_load_executes_the_file_anew(file: Path) -> None:
    assert type(load_subject(f"{file}:make").subject) is not type(load_subject(f"{file}:make").subject)


def test_sibling_modules_can_be_imported(tmp_path: Path) -> None:
    (tmp_path / "sibling_of_subject.py").write_text("LEVELS = 5\n")
    (tmp_path / "main.py").write_text(
        "import torch\nfrom sibling_of_subject import LEVELS\n"
        "class M:\n    shape, levels = (3,), LEVELS\n    def log_prob(self, x): return torch.zeros(len(x))\n"
    )
    assert load_subject(f"{tmp_path}/main.py:M").space.levels == 5


@pytest.mark.parametrize("spec", ["a.py:b", "a/b.py:c_1"])
def test_specs(spec: str) -> None:
    assert is_file_spec(spec)


@pytest.mark.parametrize("spec", ["runs/a", "a.py", "a.py:", "a.py:1b", "a.txt:b"])
def test_no_specs(spec: str) -> None:
    assert not is_file_spec(spec)
