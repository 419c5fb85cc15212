"""describe and build: which objects have a spec, and what a spec may build."""

import copy
import io
import pickle
import sys
import types

import numpy as np
import pytest
import torch
from torch import nn

from castlit.methods import MoCo
from castlit.optim import OptimizerRecipe
from castlit.utils.serializable import Described, build, describe
from castlit.utils.validation import InputError


class Part(Described):
    def __init__(self, size, name="x", *, options=None, scale=1.0):
        self.size, self.name, self.options, self.scale = size, name, options, scale


class Subclass(Part):
    """A user's subclass: one more argument, the others are passed on."""

    def __init__(self, extra, **rest):
        super().__init__(**rest)
        self.extra = extra


class Plural(Described):
    def __init__(self, *sizes):
        self.sizes = sizes


class NotDescribed:
    def __init__(self, size=1):
        raise AssertionError("a checkpoint must not be able to build this")


@pytest.fixture(autouse=True)
def _importable(monkeypatch):
    # In importlib mode pytest's test modules cannot be imported; users' modules can.
    module = types.ModuleType("a_users_package")
    for cls in (Part, Subclass, Plural, NotDescribed):
        monkeypatch.setattr(cls, "__module__", "a_users_package")
        setattr(module, cls.__name__, cls)
    monkeypatch.setitem(sys.modules, "a_users_package", module)


def test_defaults_and_positional_arguments():
    assert describe(Part(3, scale=0.5)) == {
        "_target_": "a_users_package.Part",
        "size": 3,
        "name": "x",
        "options": None,
        "scale": 0.5,
    }


@pytest.mark.parametrize(
    "original",
    [
        Part(3),
        Part(3, "y", options={"a": [1, 2], "b": {"c": None}}, scale=True),
        Subclass("more", size=4, scale=0.25),
        Subclass(extra=[1, "a"], size=(4, 5)),
    ],
)
def test_round_trip(original):
    spec = describe(original)
    again = build(spec)
    assert type(again) is type(original)
    assert describe(again) == spec
    assert again.scale == original.scale
    assert getattr(again, "extra", None) == getattr(original, "extra", None)


def test_nested_objects():
    spec = describe(Part(size=Part(1, name="inner"), options=[OptimizerRecipe(lr=0.5)]))
    again = build(spec)
    assert isinstance(again.size, Part)
    assert again.size.name == "inner"
    assert isinstance(again.options[0], OptimizerRecipe)
    assert again.options[0].lr == 0.5


def test_numpy_scalars_become_plain():
    spec = describe(Part(np.float64(0.5), name=np.str_("n"), options=[np.int64(3), np.float32(0.5)]))
    file = io.BytesIO()
    torch.save(spec, file)
    file.seek(0)
    loaded = torch.load(file, weights_only=True)
    assert loaded == spec
    assert (type(spec["size"]), type(spec["name"])) == (float, str)
    assert [*map(type, spec["options"])] == [int, float]


def test_spec_is_a_copy():
    options = {"a": [1]}
    spec = describe(Part(1, options=options))
    options["a"].append(2)
    assert spec["options"] == {"a": [1]}


@pytest.mark.parametrize(
    "unplain", [nn.Linear(2, 2), torch.zeros(2), np.zeros(2), len, object(), {"a": [object()]}, b"bytes"]
)
def test_no_spec_for_other_values(unplain):
    assert describe(Part(unplain)) is None
    assert describe(Part(Part(unplain))) is None


def test_no_spec_for_varargs():
    assert describe(Plural(1, 2)) is None


def test_no_spec_for_other_classes():
    assert describe(nn.Linear(2, 2)) is None
    assert describe(None) is None
    assert describe({"_target_": "x"}) is None


@pytest.mark.parametrize(
    "target",
    [
        "a_users_package.NotDescribed",
        "os.system",
        "subprocess.Popen",
        "torch.nn.Linear",
        "castlit.utils.serializable.describe",
    ],
)
def test_builds_only_described_classes(target):
    with pytest.raises(InputError, match="must inherit castlit"):
        build({"_target_": target})
    with pytest.raises(InputError, match="must inherit castlit"):
        build({"_target_": "a_users_package.Part", "size": {"_target_": target}})


@pytest.mark.parametrize(
    "target", ["no_such_package.Thing", "castlit.nn.NoSuchClass", "Thing", "", ".x", "a.<locals>.b"]
)
def test_missing_class(target):
    with pytest.raises(InputError, match="cannot find the class"):
        build({"_target_": target})
    with pytest.raises(InputError, match="cannot find the class"):
        build({})


def test_copy_and_pickle():
    part = Part(3, scale=0.5)
    assert describe(copy.deepcopy(part)) == describe(part)
    assert describe(pickle.loads(pickle.dumps(part))) == describe(part)


def test_method_round_trip():
    method = MoCo("tiny_resnet", 16, queue_size=15, temperature=0.07, mlp=False)
    again = build(describe(method))
    assert (again.temperature, again.queue.keys.shape) == (0.07, (15, 16))
    assert list(again.state_dict()) == list(method.state_dict())
    again.load_state_dict(method.state_dict())
    assert describe(MoCo(nn.Conv2d(3, 4, 1), 16, queue_size=4)) is None
