"""Checkpoints of castlit 0.1 load, export and resume, although classes have moved since.

``files/castlit_0_1.ckpt.xz`` is ``last.ckpt`` of a run of ``castlit.train`` 0.1 with the overrides below and
``trainer.max_epochs=1``; its weights are replaced by a pattern that compresses well.
``files/hyper_parameters_0_1.json`` holds the hyper-parameters of every experiment, as 0.1 wrote them into checkpoints.
"""

import importlib
import json
import lzma
from pathlib import Path

import pytest
import torch

import castlit
import castlit.nn
from castlit.interop import load_backbone
from castlit.nn import build_backbone
from castlit.optim import OptimizerRecipe
from castlit.resume.find_run import LAST_CHECKPOINT
from castlit.utils.moved import MOVED, current_name, moved_attribute
from castlit.utils.serializable import TARGET, build, describe
from castlit.utils.validation import InputError

FILES = Path(__file__).parent / "files"
SPECS = json.loads((FILES / "hyper_parameters_0_1.json").read_text())
OVERRIDES = [
    "+experiment=cast_mocov2",
    "data.size=32",
    "data.scene_size=36",
    "data.train_count=8",
    "data.val_count=20",
    "data.batch_size=4",
    "method.queue_size=16",
    "method.dim=16",
    "data.workers=0",
    "backbone=tiny_resnet",
]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    path = tmp_path_factory.mktemp("old") / "castlit_0_1.ckpt"
    path.write_bytes(lzma.decompress((FILES / "castlit_0_1.ckpt.xz").read_bytes()))
    return path


def test_file_names_moved_classes(checkpoint):
    saved = torch.load(checkpoint, weights_only=True)["hyper_parameters"]
    assert saved["optimizer"][TARGET] == "castlit.nn.optim.OptimizerRecipe"
    assert current_name(saved["optimizer"][TARGET]) != saved["optimizer"][TARGET]


def test_module_loads(checkpoint):
    content = torch.load(checkpoint, weights_only=True)
    module = castlit.CASTModule.load_from_checkpoint(checkpoint)
    assert isinstance(module.method, castlit.methods.MoCo)
    assert isinstance(module.optimizer, OptimizerRecipe)
    assert (module.cam_layer, module.attention.weight) == ("layer4", 3.0)
    assert module.state_dict().keys() == content["state_dict"].keys()
    for name, tensor in module.state_dict().items():
        assert torch.equal(tensor, content["state_dict"][name]), name


def test_backbone_loads(checkpoint):
    content = torch.load(checkpoint, weights_only=True)["state_dict"]
    weights = load_backbone(str(checkpoint))
    build_backbone("tiny_resnet").load_state_dict(weights)
    for name, tensor in weights.items():
        assert torch.equal(tensor, content[f"method.encoder.backbone.{name}"]), name


def test_run_resumes(checkpoint, run_program, tmp_path):
    words = [*OVERRIDES, f"resume={checkpoint}", "hydra.run.dir=run"]
    result = run_program("train", *words, "trainer.max_epochs=2", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert f"continuing from {checkpoint}, at epoch 1, step 2, in run" in result.stdout
    saved = torch.load(tmp_path / "run" / LAST_CHECKPOINT, weights_only=True)
    assert saved["global_step"] == 4
    assert saved["hyper_parameters"]["optimizer"][TARGET] == "castlit.optim.recipe.OptimizerRecipe"
    assert json.loads((tmp_path / "run" / "summary.json").read_text())["epochs"] == 2


@pytest.mark.parametrize("experiment", list(SPECS))
def test_hyper_parameters_build(experiment):
    for part, spec in SPECS[experiment].items():
        if isinstance(spec, dict):
            described = describe(build(spec))
            assert described.pop(TARGET) == current_name(spec[TARGET])
            # Arguments that are new since then have their defaults.
            assert described == {**described, **{key: value for key, value in spec.items() if key != TARGET}}, part


@pytest.mark.parametrize(("old", "new"), list(MOVED.items()))
def test_moved_names(old, new):
    module, _, name = new.rpartition(".")
    target = getattr(importlib.import_module(module), name)
    assert current_name(old) == new
    assert current_name(new) == new, "one step leads to the current name"
    assert moved_attribute(*old.rpartition(".")[::2]) is target


def test_moved_names_are_attributes_of_nn():
    assert castlit.nn.OptimizerRecipe is OptimizerRecipe
    assert castlit.nn.InputError is InputError
    with pytest.raises(AttributeError, match=r"module 'castlit\.nn' has no attribute 'Optimizer'"):
        _ = castlit.nn.Optimizer
