"""Exported weights load again with equal outputs, and load in other libraries."""

import json
import pickle
import re

import numpy as np
import pytest
import timm
import torch
import torchvision
from safetensors.torch import load_file
from torch import nn

from castlit.interop import export, open_backbone
from castlit.interop.detectron2_names import to_detectron2, to_torchvision
from castlit.interop.plain_pickle import read_plain_pickle
from castlit.nn import build_backbone
from castlit.utils.validation import InputError

from .conftest import IMAGES, features, trained

SUFFIX = {"torchvision": ".pth", "timm": ".pth", "detectron2": ".pkl", "safetensors": ".safetensors"}

# detectron2's names on the left, torchvision's on the right.
NAMES = {
    "stem.conv1.weight": "conv1.weight",
    "stem.conv1.norm.running_mean": "bn1.running_mean",
    "res2.0.conv1.weight": "layer1.0.conv1.weight",
    "res2.0.conv1.norm.weight": "layer1.0.bn1.weight",
    "res2.0.shortcut.weight": "layer1.0.downsample.0.weight",
    "res2.0.shortcut.norm.bias": "layer1.0.downsample.1.bias",
    "res5.2.conv3.norm.running_var": "layer4.2.bn3.running_var",
}


def test_detectron2_names():
    for detectron2, ours in NAMES.items():
        assert to_torchvision(detectron2) == ours
        assert to_detectron2(ours) == detectron2
    for name in torchvision.models.resnet50().state_dict():
        if not name.startswith("fc."):
            assert to_torchvision(to_detectron2(name)) == name


@pytest.mark.parametrize("format", ["torchvision", "timm", "detectron2", "safetensors"])
@pytest.mark.parametrize("name", ["resnet18", "resnet50"])
def test_export_round_trip(name, format, tmp_path, request):
    network = request.getfixturevalue(name)
    source, target = tmp_path / "source.pth", tmp_path / f"there{SUFFIX[format]}"
    torch.save(network.state_dict(), source)
    export(source, target, format)
    torch.testing.assert_close(open_backbone(target)(IMAGES), features(network), rtol=0, atol=1e-6)
    export(target, tmp_path / "back.pth", "torchvision")
    back = torch.load(tmp_path / "back.pth", weights_only=True)
    counted = {key for key in back if not key.endswith("num_batches_tracked")}
    assert all(torch.equal(back[key], network.state_dict()[key]) for key in counted)
    assert {path.name for path in tmp_path.iterdir()} == {"source.pth", target.name, "back.pth"}


def test_loads_in_torchvision_and_timm(resnet50, tmp_path):
    torch.save(resnet50.state_dict(), tmp_path / "source.pth")
    assert "strict=False" in export(tmp_path / "source.pth", tmp_path / "a.pth", "torchvision")
    theirs = torchvision.models.resnet50()
    theirs.fc = nn.Identity()
    theirs.load_state_dict(torch.load(tmp_path / "a.pth", weights_only=True))
    torch.testing.assert_close(features(theirs.eval()), features(resnet50), rtol=0, atol=1e-6)
    export(tmp_path / "source.pth", tmp_path / "b.pth", "timm")
    timms = timm.create_model("resnet50", num_classes=0)
    timms.load_state_dict(torch.load(tmp_path / "b.pth", weights_only=True))
    torch.testing.assert_close(timms.eval().forward_features(IMAGES), features(resnet50), rtol=0, atol=1e-6)


def test_detectron2_file(resnet50, tmp_path):
    torch.save(resnet50.state_dict(), tmp_path / "source.pth")
    printed = export(tmp_path / "source.pth", tmp_path / "R-50.pkl", "detectron2")
    assert "INPUT.FORMAT RGB" in printed
    assert "STRIDE_IN_1X1 False" in printed
    content = pickle.loads((tmp_path / "R-50.pkl").read_bytes())
    assert content["matching_heuristics"] is True
    assert all(isinstance(value, np.ndarray) for value in content["model"].values())
    assert set(NAMES) <= set(content["model"])
    np.testing.assert_array_equal(content["model"]["stem.conv1.weight"], resnet50.conv1.weight.detach().numpy())
    # As MoCo's converter writes it: with the head, under the stem.
    content["model"]["stem.fc.0.weight"] = np.zeros((2, 2), np.float32)
    for protocol in (2, 4):
        (tmp_path / "moco.pkl").write_bytes(pickle.dumps(content, protocol=protocol))
        assert set(read_plain_pickle(tmp_path / "moco.pkl")["model"]) == set(content["model"])
        torch.testing.assert_close(open_backbone(tmp_path / "moco.pkl")(IMAGES), features(resnet50), rtol=0, atol=1e-6)


def test_timm_backbones_export_to_timm(tmp_path):
    network = trained(timm.create_model("convnext_atto"))
    torch.save(network.state_dict(), tmp_path / "source.pth")
    export(tmp_path / "source.pth", tmp_path / "out.pth", "timm", backbone="timm/convnext_atto")
    back = open_backbone(tmp_path / "out.pth", "timm/convnext_atto")
    torch.testing.assert_close(back(IMAGES), network.forward_features(IMAGES), rtol=0, atol=1e-6)
    for format in ("torchvision", "detectron2"):
        with pytest.raises(
            InputError, match=rf"^format={format}: \S+ is a timm backbone \(timm/...\); use format=timm$"
        ):
            export(tmp_path / "source.pth", tmp_path / "no", format, backbone="timm/convnext_atto")
    with pytest.raises(InputError, match="did you mean 'detectron2'"):
        export("random", tmp_path / "no", "detectron")
    assert not (tmp_path / "no").exists()


@pytest.mark.parametrize("format", ["timm", "detectron2"])
@pytest.mark.parametrize("backbone", ["tiny_resnet", "convnext_tiny"])
def test_advised_format_works(tmp_path, backbone, format):
    with pytest.raises(
        InputError, match=r"^format=\w+: random is .* with torchvision's names; use format=torchvision$"
    ):
        export("random", tmp_path / "no", format, backbone=backbone)
    export("random", tmp_path / "yes.pth", "torchvision", backbone=backbone)
    assert open_backbone(tmp_path / "yes.pth", backbone)


# The names of Transformers' ResNetModel on the left (microsoft/resnet-50's file has them behind resnet.).
TRANSFORMERS = {
    "embedder.embedder.convolution.weight": "conv1.weight",
    "embedder.embedder.normalization.num_batches_tracked": "bn1.num_batches_tracked",
    "encoder.stages.0.layers.0.layer.0.convolution.weight": "layer1.0.conv1.weight",
    "encoder.stages.0.layers.2.layer.2.normalization.running_var": "layer1.2.bn3.running_var",
    "encoder.stages.1.layers.0.shortcut.convolution.weight": "layer2.0.downsample.0.weight",
    "encoder.stages.3.layers.0.shortcut.normalization.bias": "layer4.0.downsample.1.bias",
}
SHAPES = {
    "resnet18": {"hidden_sizes": [64, 128, 256, 512], "depths": [2, 2, 2, 2], "layer_type": "basic"},
    "resnet50": {"hidden_sizes": [256, 512, 1024, 2048], "depths": [3, 4, 6, 3], "layer_type": "bottleneck"},
}


@pytest.mark.parametrize("name", SHAPES)
def test_folder_for_transformers(name, tmp_path, request):
    network = request.getfixturevalue(name)
    torch.save(network.state_dict(), tmp_path / "source.pth")
    printed = export(tmp_path / "source.pth", tmp_path / "out", "transformers")
    assert printed == f"Transformers: AutoModel.from_pretrained('{tmp_path / 'out'}')"
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"model.safetensors", "config.json"}
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    common = {"model_type": "resnet", "embedding_size": 64, "num_channels": 3, "downsample_in_bottleneck": False}
    assert config.items() >= {**common, **SHAPES[name], "architectures": ["ResNetModel"]}.items()
    state = load_file(tmp_path / "out" / "model.safetensors")
    own = network.state_dict()
    for theirs, ours in TRANSFORMERS.items():
        if ours in own:
            assert torch.equal(state[theirs], own[ours])
    assert len(state) == len(own) - 2, "all but the classifier"
    torch.testing.assert_close(
        open_backbone(tmp_path / "out" / "model.safetensors")(IMAGES), features(network), rtol=0, atol=1e-6
    )


@pytest.mark.parametrize("name", ["resnet18", "timm/test_vit", "timm/test_convnext"])
def test_folder_for_the_hub(name, tmp_path):
    network = trained(build_backbone(name))
    torch.save(network.state_dict(), tmp_path / "source.pth")
    printed = export(tmp_path / "source.pth", tmp_path / "out", "hf", backbone=name)
    assert ("untrained" in printed) == (name == "timm/test_convnext"), "whose norm is behind the pooling"
    # timm's own loader, from the folder alone.
    theirs = timm.create_model(f"local-dir:{tmp_path / 'out'}", pretrained=True).eval()
    assert theirs.num_classes == 0
    data = timm.data.resolve_model_data_config(theirs)
    assert data["mean"] == pytest.approx((0.485, 0.456, 0.406))
    assert data["std"] == pytest.approx((0.229, 0.224, 0.225))
    images = torch.randn(1, *data["input_size"], generator=torch.Generator().manual_seed(0))
    found, expected = theirs.forward_features(images), network(images)
    if found.dim() == 3:
        found = found[:, 1:].transpose(1, 2).reshape(expected.shape)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)
    # By these keys Transformers knows a timm model, and by them it builds it.
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert config["architecture"] == name.removeprefix("timm/")
    assert "model_type" not in config
    assert not {"tag", "license", "hf_hub_id", "url"} & set(config["pretrained_cfg"])


def test_folders_that_cannot_be(tmp_path):
    (tmp_path / "file").write_text("")
    cases = [
        ("tiny_resnet", "hf", "out", "format=hf: random is .* with torchvision's names; use format=torchvision"),
        ("resnext50_32x4d", "transformers", "out", "format=transformers: random is resnext50_32x4d .*; use format=hf"),
        ("resnet18", "hf", "file", "is a file: format=hf writes a folder"),
    ]
    for backbone, format, target, words in cases:
        with pytest.raises(InputError, match=words):
            export("random", tmp_path / target, format, backbone=backbone)
    assert {path.name for path in tmp_path.iterdir()} == {"file"}


def test_unwritable_target(tmp_path):
    with pytest.raises(InputError, match=r"output=.* is a folder: name the file"):
        export("random", tmp_path, backbone="tiny_resnet")
    target = tmp_path / ("long" * 100)
    with pytest.raises(OSError, match="too long") as caught:
        export("random", target, backbone="tiny_resnet")
    assert caught.value.filename == str(target)


@pytest.mark.parametrize(
    ("name", "format", "whose"),
    [
        ("b.onnx", "torchvision", "onnx"),
        ("b.PT2", "timm", "pt2"),
        ("b.pth", "safetensors", "torchvision"),
        ("b.safetensors", "hf", "safetensors"),
        ("b.pkl", "torchvision", "detectron2"),
    ],
)
def test_suffix_of_another_format(tmp_path, name, format, whose):
    target = tmp_path / name
    line = (
        f"output={target}: that suffix is of format={whose}, and format is {format}: add format={whose}, "
        "or choose another name"
    )
    with pytest.raises(InputError, match=f"^{re.escape(line)}$"):
        export("random", target, format, backbone="resnet18")
    assert not target.exists()


def test_other_suffixes_are_free(tmp_path):
    for name in ("b", "b.weights", "b.pth.tar"):
        export("random", tmp_path / name, "torchvision", backbone="tiny_resnet")
        assert (tmp_path / name).is_file()
