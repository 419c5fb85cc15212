"""What importing castlit's packages loads, and what only their use does."""

import json
import os
import subprocess
import sys

import pytest

# One fresh interpreter for all of it: each start costs seconds. Lightning's own imports (torchmetrics uses scipy) are
# not castlit's.
CODE = """
import json, os, sys
import pytorch_lightning
before = set(sys.modules)
found = {}

def note(name):
    found[name] = sorted(set(sys.modules) - before)

import castlit.crops
note("crops")
import castlit.data
castlit.data.AlbumentationsView
note("data")
import castlit.callbacks
import castlit.training.build, castlit.training.fit, castlit.training.closing_table
[getattr(castlit.data, name) for name in castlit.data.__all__]
note("training")
found["no update"] = os.environ["NO_ALBUMENTATIONS_UPDATE"]
crop = castlit.crops.SaliencyCrop(32)
note("a crop")
from castlit.crops import SaliencyCrop
assert type(crop) is SaliencyCrop
assert not hasattr(castlit.crops, "Saliency")
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def loaded():
    """The modules that are loaded after each step."""
    environment = {name: value for name, value in os.environ.items() if name != "NO_ALBUMENTATIONS_UPDATE"}
    done = subprocess.run(
        [sys.executable, "-c", CODE], env=environment, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_albumentations_is_loaded_when_needed(loaded):
    assert "castlit.data.transforms" in loaded["data"]
    assert not {"albumentations"} & {*loaded["crops"], *loaded["data"], *loaded["training"]}
    assert loaded["no update"] == "1", "before users import albumentations"
    assert "albumentations" in loaded["a crop"]


def test_training_loads_no_evaluation_and_no_scientific_libraries(loaded):
    """They would slow down the start of every run."""
    assert "castlit.callbacks.self_masks" in loaded["training"]
    unwanted = ("castlit.evaluation", "castlit.saliency", "sklearn", "scipy", "skimage")
    found = [
        name
        for name in loaded["training"]
        if name.startswith(tuple(f"{each}." for each in unwanted)) or name in unwanted
    ]
    assert found == []
