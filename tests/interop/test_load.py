"""Every public format loads completely, and the log names what is left out."""

import argparse
import logging
import os
import pickle

import numpy as np
import pytest
import timm
import torch
import torchvision
from torch import nn

import castlit
from castlit.interop import load_backbone, load_into, open_backbone, read_weights
from castlit.nn import build_backbone, lacks_statistics
from castlit.utils.validation import InputError

from .conftest import IMAGES, features, trained


def under(prefix, state):
    return {f"{prefix}{name}": value for name, value in state.items()}


def without(head, state):
    return {name: value for name, value in state.items() if not name.startswith(f"{head}.")}


def moco(network, version):
    """An official checkpoint's names: the head instead of the classifier, and everything twice."""
    head = {1: ["fc"], 2: ["fc.0", "fc.2"], 3: ["fc.0", "fc.1", "fc.3"]}[version]
    own = without("fc", network.state_dict())
    own.update({f"{part}.weight": torch.randn(4, 4) for part in head})
    if version == 3:
        state = {**under("module.base_encoder.", own), **under("module.momentum_encoder.", own)}
        return {**state, "module.predictor.0.weight": torch.randn(4, 4)}
    queue = {"module.queue": torch.randn(128, 32), "module.queue_ptr": torch.zeros(1, dtype=torch.long)}
    return {**under("module.encoder_q.", own), **under("module.encoder_k.", trained_copy(own)), **queue}


def trained_copy(state):
    return {name: value + 1 for name, value in state.items()}


@pytest.fixture(params=["moco1", "moco2", "moco3", "bare", "model", "ddp", "zip", "legacy"])
def file(request, resnet18, tmp_path):
    state, path, zipped = resnet18.state_dict(), tmp_path / "weights.pth.tar", True
    if request.param.startswith("moco"):
        content = {"epoch": 200, "arch": "resnet50", "state_dict": moco(resnet18, int(request.param[-1]))}
        content["optimizer"] = {"state": {}, "param_groups": [{"lr": 0.03}]}
        content["args"] = argparse.Namespace(lr=0.03)
        content["best"] = np.float64(0.5)
    elif request.param == "model":
        content = {"model": state, "epoch": 3}
    elif request.param == "ddp":
        content = {"state_dict": under("module.", state)}
    else:
        content, zipped = state, request.param != "legacy"
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    return path


def test_resnet_files_load(file, resnet18):
    state = load_backbone(file)
    expected = without("fc", resnet18.state_dict())
    assert list(state) == list(expected)
    assert all(torch.equal(state[name], expected[name]) for name in expected)
    network = open_backbone(file)
    assert not network.training
    torch.testing.assert_close(network(IMAGES), features(resnet18), rtol=0, atol=1e-6)
    own = build_backbone("resnet18")
    load_into(own, file)
    assert torch.equal(own.eval()(IMAGES), network(IMAGES))


def test_statistics_without_counters_count(resnet18, tmp_path):
    """Files of detectron2 and of old versions have none: their statistics are no less those of training."""
    state = without("fc", resnet18.state_dict())
    torch.save({k: x for k, x in state.items() if not k.endswith("num_batches_tracked")}, tmp_path / "a.pth")
    own = build_backbone("resnet18")
    load_into(own, tmp_path / "a.pth")
    for network in (own, open_backbone(tmp_path / "a.pth")):
        assert not lacks_statistics(network)
        torch.testing.assert_close(network.eval()(IMAGES), features(resnet18), rtol=0, atol=1e-6)


def test_left_out_names_are_logged(resnet18, tmp_path, caplog):
    torch.save({"state_dict": moco(resnet18, 2)}, tmp_path / "moco.pth.tar")
    with caplog.at_level(logging.INFO):
        open_backbone(tmp_path / "moco.pth.tar")
    assert "left out: encoder_k, queue, queue_ptr, fc" in caplog.text
    weights = read_weights(tmp_path / "moco.pth.tar")
    assert weights.left_out == ("encoder_k", "queue", "queue_ptr")


def test_unknown_weights_are_refused(resnet18, tmp_path):
    state, path = moco(resnet18, 2), tmp_path / "other.pth"
    torch.save({**state, "module.adapter.weight": torch.zeros(1)}, path)
    with pytest.raises(InputError, match=r"other.pth: next to module\.encoder_q\.\* it has module.adapter.weight"):
        open_backbone(path)
    torch.save(under("module.", torchvision.models.vit_b_32().state_dict()), path)
    assert open_backbone(path, "vit_b_32")  # which has a part named encoder
    torch.save({**resnet18.state_dict(), "layer4.1.gate.weight": torch.zeros(1)}, path)
    with pytest.raises(InputError, match=r"its weights are not those of resnet18: it also has layer4.1.gate.weight"):
        open_backbone(path, "resnet18")
    torch.save(without("layer4", resnet18.state_dict()), path)
    own = build_backbone("resnet18")
    before = {name: value.clone() for name, value in own.state_dict().items()}
    with pytest.raises(InputError, match=r"backbone.weights=.*lacks layer4.0.conv1.weight, .* in all\)"):
        load_into(own, path)
    assert all(torch.equal(value, before[name]) for name, value in own.state_dict().items())
    torch.save(torchvision.models.resnet34().state_dict(), path)
    with pytest.raises(InputError, match=r"not those of resnet50: it lacks .*; of another shape are"):
        open_backbone(path, "resnet50")


@pytest.mark.parametrize("spec", [{"backbone": "tiny_resnet"}, {"backbone": "timm/resnet10t"}])
def test_castlit_checkpoints(spec, tmp_path):
    method = castlit.methods.MoCo(queue_size=16, dim=8, **spec)
    module = castlit.CASTModule(method=method, attention=castlit.attention.AttentionLoss())
    trained(module.method.encoder.backbone)
    content = {"state_dict": module.state_dict(), "hyper_parameters": dict(module.hparams), "loops": {}}
    torch.save(content, tmp_path / "last.ckpt")
    weights = read_weights(tmp_path / "last.ckpt")
    assert weights.backbone == spec["backbone"]
    assert set(weights.left_out) == {"encoder.head", "queue", "momentum_encoder"}
    opened = open_backbone(tmp_path / "last.ckpt")
    assert torch.equal(opened(IMAGES), module.method.encoder.backbone.eval()(IMAGES))


@pytest.mark.parametrize(
    "name", ["resnet34", "resnet50", "resnet101", "resnext50_32x4d", "wide_resnet50_2", "convnext_tiny", "vit_b_32"]
)
def test_torchvision_files(name, tmp_path):
    network = torchvision.models.get_model(name)
    path = tmp_path / "weights.pth"
    torch.save(network.state_dict(), path)
    if "res" not in name:
        with pytest.raises(InputError, match="add backbone=NAME"):
            open_backbone(path)
    opened = open_backbone(path, None if "res" in name else name)
    own = network.state_dict()
    assert opened.state_dict()
    assert all(torch.equal(value, own[key]) for key, value in opened.state_dict().items())
    # Everything but the classifier.
    left = set(own) - set(opened.state_dict())
    assert {key.partition(".")[0] for key in left} == {
        "fc" if "res" in name else "heads" if "vit" in name else "classifier"
    }


@pytest.mark.parametrize("name", ["vit_tiny_patch16_224", "convnext_atto", "resnet26"])
def test_timm_files(name, tmp_path):
    network = trained(timm.create_model(name))
    torch.save({"state_dict": network.state_dict()}, tmp_path / "weights.pth")
    opened = open_backbone(tmp_path / "weights.pth", f"timm/{name}")
    images = torch.randn(1, 3, 224, 224)
    found, expected = opened(images), network.forward_features(images)
    if expected.dim() == 3:
        expected = expected[:, 1:].transpose(1, 2).reshape(found.shape)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)


def test_safetensors(resnet18, tmp_path):
    from safetensors.torch import save_file

    save_file(resnet18.state_dict(), tmp_path / "model.safetensors")
    torch.testing.assert_close(open_backbone(tmp_path / "model.safetensors")(IMAGES), features(resnet18))
    (tmp_path / "bad.safetensors").write_bytes(b"no")
    with pytest.raises(InputError, match=r"bad\.safetensors: not a file of weights"):
        open_backbone(tmp_path / "bad.safetensors")


def test_random_is_seeded():
    torch.manual_seed(5)
    before = torch.get_rng_state()
    first, again, other = (open_backbone("random", "resnet18", seed) for seed in (0, 0, 1))
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(first.conv1.weight, again.conv1.weight)
    assert not torch.equal(first.conv1.weight, other.conv1.weight)
    with pytest.raises(InputError, match="resnet5O"):
        open_backbone("random", "resnet5O")


class Runs:
    ran = False

    def __reduce__(self):
        return (setattr, (Runs, "ran", True))


@pytest.mark.parametrize("suffix", [".pth", ".pkl"])
def test_code_is_refused(suffix, tmp_path):
    path = tmp_path / f"evil{suffix}"
    content = {"model": {"conv1.weight": Runs()}}
    path.write_bytes(pickle.dumps(content)) if suffix == ".pkl" else torch.save(content, path)
    with pytest.raises(InputError, match=r"refused, as opening it would run code \(.*setattr\)"):
        load_backbone(path)
    assert not Runs.ran


@pytest.mark.parametrize("suffix", [".ckpt", ".pkl"])
def test_blocked_module_is_refused(suffix, tmp_path):
    class Calls:
        def __reduce__(self):
            return os.system, (f"touch {tmp_path}/ran",)

    path = tmp_path / f"evil{suffix}"
    content = {"state_dict": {"a": Calls()}}
    path.write_bytes(pickle.dumps(content)) if suffix == ".pkl" else torch.save(content, path)
    with pytest.raises(InputError, match=r"refused, as opening it would run code \(\w+\.system\)"):
        load_backbone(path)
    assert not (tmp_path / "ran").exists()


def test_one_line_errors(resnet18, tmp_path):
    path = tmp_path / "thing.pth"
    with pytest.raises(InputError, match="no such file"):
        load_backbone(path)
    cases = [
        (nn.Linear(2, 2), "refused, as opening it would run code"),
        ([1, 2], "has a list, not weights by name"),
        ({"epoch": 3}, "has no weights by name, only epoch"),
        ({}, "has no weights by name: it is empty"),
        ({"state_dict": {}}, "has no weights by name: it is empty"),
        ({"model": {"conv1.weight": "x"}}, "not all of its weights are tensors: conv1.weight"),
        ({"fc.weight": torch.zeros(2)}, "has only heads"),
    ]
    for content, words in cases:
        torch.save(content, path)
        with pytest.raises(InputError, match=words) as caught:
            load_backbone(path)
        assert "\n" not in str(caught.value)
        assert str(path) in str(caught.value)
    for suffix in (".pth", ".pkl", ".ckpt"):
        for content in (b"", b"no weights", b"PK\x03\x04broken", b"\x80\x04broken"):
            broken = tmp_path / f"broken{suffix}"
            broken.write_bytes(content)
            with pytest.raises(InputError, match="not a file of weights, or damaged"):
                load_backbone(broken)


# Names that nothing but a guess would map.
OTHER_NAMES = {
    "beside others": (
        lambda state: {**under("model.", state), "adapter.weight": torch.zeros(2)},
        r"its model\.\* are those of resnet18: save them alone",
    ),
    "the slow network alone": (
        lambda state: under("momentum_encoder.", state),
        r"its momentum_encoder\.\* are those of",
    ),
    "quantised": (
        lambda state: {name: (x * 100).to(torch.int8) for name, x in state.items()},
        r"are not those of resnet18: integers are conv1\.weight",
    ),
    "unknown wrapper": (lambda state: under("body.", state), r"its body\.\* are those of resnet18"),
    "by number": (
        lambda state: {f"encoder_q.{list(state).index(name)}.weight": value for name, value in state.items()},
        "add backbone=NAME",
    ),
}


@pytest.mark.parametrize(("rename", "words"), OTHER_NAMES.values(), ids=OTHER_NAMES.keys())
@pytest.mark.parametrize("read", [load_backbone, open_backbone])
def test_unknown_names_are_refused(resnet18, tmp_path, rename, words, read):
    path = tmp_path / "lightning.ckpt"
    torch.save({"state_dict": rename(without("fc", resnet18.state_dict())), "loops": {}}, path)
    with pytest.raises(InputError, match=words):
        read(path)


def test_named_backbone_of_other_files(resnet18, tmp_path):
    network = torchvision.models.convnext_tiny()
    torch.save(network.state_dict(), tmp_path / "weights.pth")
    state = load_backbone(tmp_path / "weights.pth", backbone="convnext_tiny")
    assert set(state) == {name for name in network.state_dict() if not name.startswith("classifier.")}
    with pytest.raises(InputError, match=r"its weights are not those of resnet18: it lacks conv1\.weight"):
        load_backbone(tmp_path / "weights.pth", backbone="resnet18")


def test_own_network_in_a_castlit_checkpoint(tmp_path):
    class Named(nn.Conv2d):  # a backbone that a checkpoint cannot describe
        pass

    method = castlit.methods.SimCLR(backbone=Named(3, 4, 3), dim=8)
    module = castlit.CASTModule(method=method)
    content = {"state_dict": module.state_dict(), "hyper_parameters": dict(module.hparams), "loops": {}}
    torch.save(content, tmp_path / "last.ckpt")
    assert set(load_backbone(tmp_path / "last.ckpt")) == {"weight", "bias"}


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite(resnet18, tmp_path, value):
    state = {name: x.clone() for name, x in resnet18.state_dict().items()}
    state["fc.weight"][0, 0] = value  # a head is left out
    torch.save(state, tmp_path / "weights.pth")
    assert load_backbone(tmp_path / "weights.pth")
    state["layer2.0.conv1.weight"][0, 0, 0, 0] = value
    torch.save(state, tmp_path / "weights.pth")
    for read in (load_backbone, open_backbone):
        with pytest.raises(InputError, match=r"its weights are not finite \(layer2.0.conv1.weight\)"):
            read(tmp_path / "weights.pth")


@pytest.mark.parametrize(
    ("name", "change", "line"),
    [
        ("bn1.running_var", lambda value: value - 2, "not finite"),  # the root of a negative variance
        ("conv1.weight", lambda value: value.to_sparse(), "sparse, or have no values"),
        ("conv1.weight", lambda value: value.to("meta"), "sparse, or have no values"),
    ],
)
def test_weights_that_cannot_be_used(resnet18, tmp_path, name, change, line):
    state = resnet18.state_dict()
    torch.save({**state, name: change(state[name])}, tmp_path / "weights.pth")
    with pytest.raises(InputError, match=rf"its weights are {line} \({name}\)"):
        load_backbone(tmp_path / "weights.pth")


@pytest.mark.parametrize("outer", ["", "cast.", "module.", "module.student."])
def test_castlits_names_within_another_module(tmp_path, outer):
    """A module that contains a CASTModule, or DDP around it; the file does not name the backbone then."""
    module = castlit.CASTModule(castlit.methods.MoCo("tiny_resnet", dim=8, queue_size=4))
    others = {"classifier.weight": torch.ones(2, 2)} if outer else {}
    torch.save({"state_dict": {**under(outer, module.state_dict()), **others}}, tmp_path / "theirs.ckpt")
    state = load_backbone(tmp_path / "theirs.ckpt", backbone="tiny_resnet")
    wanted = module.encoder.backbone.state_dict()
    assert state.keys() == wanted.keys()
    assert all(torch.equal(state[name], wanted[name]) for name in wanted)
    two = {**under("a.", module.state_dict()), **under("b.", module.state_dict())}
    torch.save({"state_dict": two}, tmp_path / "two.ckpt")
    with pytest.raises(InputError, match=r"two\.ckpt"):
        load_backbone(tmp_path / "two.ckpt", backbone="tiny_resnet")
