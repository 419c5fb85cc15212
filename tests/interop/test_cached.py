"""Weights by name, from the caches of torchvision and timm."""

import pytest
import timm
import torch
from huggingface_hub import constants
from safetensors.torch import save_file

from castlit.interop import open_backbone
from castlit.utils.validation import InputError


def test_weights_in_torchvisions_cache(resnet18, monkeypatch, tmp_path):
    monkeypatch.setattr(torch.hub, "_hub_dir", str(tmp_path))
    with pytest.raises(InputError, match=r"is not in the cache, and castlit downloads nothing: python -c"):
        open_backbone("torchvision/resnet18")
    (tmp_path / "checkpoints").mkdir()
    torch.save(resnet18.state_dict(), tmp_path / "checkpoints" / "resnet18-f37072fd.pth")
    for name in ("torchvision/resnet18", "torchvision/resnet18.IMAGENET1K_V1"):
        assert torch.equal(open_backbone(name).conv1.weight, resnet18.conv1.weight)
    with pytest.raises(InputError, match=r"torchvision's weights for resnet18 are IMAGENET1K_V1"):
        open_backbone("torchvision/resnet18.IMAGENET1K_V2")


def test_weights_in_timms_cache(monkeypatch, tmp_path):
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(InputError, match=r"timm/test_vit.r160_in1k is not in the cache"):
        open_backbone("timm/test_vit")
    network = timm.create_model("test_vit")
    snapshot = tmp_path / "models--timm--test_vit.r160_in1k" / "snapshots" / "abc"
    snapshot.mkdir(parents=True)
    (snapshot.parents[1] / "refs").mkdir()
    (snapshot.parents[1] / "refs" / "main").write_text("abc")
    save_file(network.state_dict(), snapshot / "model.safetensors")
    opened = open_backbone("timm/test_vit")
    assert torch.equal(opened.patch_embed.proj.weight, network.patch_embed.proj.weight)
    for name, words in (
        ("timm/test_vit.other", r"timm's weights for test_vit are r160_in1k"),
        ("timm/test_vitt", r"timm has no model 'test_vitt' \(did you mean 'test_vit'"),
    ):
        with pytest.raises(InputError, match=words):
            open_backbone(name)
