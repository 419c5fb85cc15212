"""Packages that import their names when they are first used."""

import importlib
import pickle
from importlib.util import find_spec

import pytest

import castlit


@pytest.mark.parametrize("name", ["castlit.data", "castlit.data.shards", "castlit.evaluation", "castlit.saliency"])
def test_every_name_is_there(name):
    package = importlib.import_module(name)
    assert dir(package) == sorted(package.__all__)
    for each in package.__all__:
        assert getattr(package, each).__class__.__name__ != "module"
    # A module of the same name would take the place of a function once it is imported.
    assert [each for each in package._HOMES if find_spec(f"{name}.{each}") is not None] == []
    with pytest.raises(AttributeError, match=f"module '{name}' has no attribute 'nothing'"):
        package.nothing  # noqa: B018


def test_modules_of_a_package_are_attributes():
    assert castlit.data.io.__name__ == "castlit.data.io"
    assert castlit.data.scenes is importlib.import_module("castlit.data.scenes")


def test_classes_can_be_pickled():
    for cls in (castlit.CASTModule, castlit.data.FileSource, castlit.data.ShardsDataModule):
        assert pickle.loads(pickle.dumps(cls)) is cls


def test_version():
    from castlit import __version__

    assert __version__ == castlit.__version__
    assert __version__[0].isdigit()
