"""Names of data sets."""

from __future__ import annotations

import pytest

import codelength.data
from codelength.data import data_names, load_data
from codelength.data.registry import parse_options
from codelength.errors import DataError, UsageError


def test_every_grey_set_has_its_three_binarizations():
    names = data_names()
    for name in ("mnist5k", "digits", "mnist", "fashion_mnist"):
        assert {name, f"{name}-static", f"{name}-dynamic", f"{name}-threshold"} <= set(names)
    assert {"photos32", "cifar10"} <= set(names)
    assert "photos32-static" not in names


def test_unknown_names_get_the_nearest():
    with pytest.raises(
        UsageError, match=r"unknown data set 'mnist5'; did you mean 'mnist5k'\? Known: addition, celeba64-centre140, "
    ):
        load_data("mnist5")
    with pytest.raises(UsageError, match=r"unknown option of data set 'digits-dynamic': 'sed'; did you mean 'seed'"):
        load_data("digits-dynamic", sed=1)
    with pytest.raises(UsageError, match=r"unknown option of data set 'digits': 'seed'. Known: \(none\)"):
        load_data("digits@seed=1")
    with pytest.raises(DataError, match="does not exist"):
        load_data("some/where")
    with pytest.raises(DataError, match="does not exist"):
        load_data("array.npy")


def test_default_options_leave_the_name():
    assert load_data("digits-dynamic", seed=0).name == "digits-dynamic"
    assert load_data("digits-dynamic@seed=2", seed=3).name == "digits-dynamic@seed=3"


@pytest.mark.parametrize("written", ["", "seed", "=3", "seed=1,"])
def test_malformed_options_are_refused(written):
    with pytest.raises(UsageError, match="wanted NAME@key=value"):
        parse_options(written)


def test_public_names():
    for name in codelength.data.__all__:
        assert getattr(codelength.data, name) is not None
    with pytest.raises(AttributeError, match="nothing"):
        codelength.data.nothing
