"""The flat public API: every name is there, and stays what it is after modules of like names are imported."""

import importlib
import pkgutil

import pytest

import codelength


def test_every_public_name_is_what_it_was_after_importing_all_modules():
    before = {name: getattr(codelength, name) for name in codelength.__all__}
    for module in pkgutil.iter_modules(codelength.__path__):
        importlib.import_module(f"codelength.{module.name}")
    after = {name: getattr(codelength, name) for name in codelength.__all__}
    assert before == after
    assert sorted(codelength.__all__) == dir(codelength)


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'no_such_thing'"):
        codelength.no_such_thing
