"""format=onnx and format=pt2: the network itself, run by onnxruntime and torch.export."""

import pytest
import torch

from castlit.interop import export
from castlit.nn import build_backbone
from castlit.utils.validation import InputError


@pytest.fixture(
    scope="module", params=["tiny_resnet", pytest.param("timm/vit_tiny_patch16_224", marks=pytest.mark.nightly)]
)
def saved(request, tmp_path_factory):
    torch.manual_seed(0)
    network = build_backbone(request.param).eval()
    path = tmp_path_factory.mktemp("saved") / "in.pth"
    torch.save(network.state_dict(), path)
    return request.param, network, path


def expected(network, images):
    with torch.no_grad():
        feature_map = network(images)
    return [feature_map.mean((2, 3)), feature_map]


def test_onnx(saved, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    name, network, source = saved
    note = export(source, tmp_path / "out.onnx", "onnx", name, size=64)
    session = onnxruntime.InferenceSession(tmp_path / "out.onnx")
    any_size = name == "tiny_resnet"
    assert ("any size" if any_size else "64 x 64 px") in note
    assert session.get_inputs()[0].shape == ["batch", 3, *(["height", "width"] if any_size else [64, 64])]
    assert [output.name for output in session.get_outputs()] == ["features", "feature_map"]
    for shape in [(1, 3, 64, 64), (5, 3, 64, 64), *([(3, 3, 96, 80)] if any_size else [])]:
        images = torch.randn(shape)
        for found, wanted in zip(session.run(None, {"images": images.numpy()}), expected(network, images), strict=True):
            torch.testing.assert_close(torch.from_numpy(found), wanted, rtol=1e-3, atol=1e-4)


def test_pt2(saved, tmp_path):
    name, network, source = saved
    export(source, tmp_path / "out.pt2", "pt2", name, size=64)
    program = torch.export.load(tmp_path / "out.pt2").module()
    images = torch.randn(5, 3, 64, 64)
    for found, wanted in zip(program(images), expected(network, images), strict=True):
        torch.testing.assert_close(found, wanted)


def test_refused(saved, tmp_path, monkeypatch):
    name, _, source = saved
    if name.startswith("timm"):
        with pytest.raises(InputError, match="60 x 60 px"):
            export(source, tmp_path / "out.pt2", "pt2", name, size=60)
    with pytest.raises(InputError, match="size must be at least 1"):
        export(source, tmp_path / "out.pt2", "pt2", name, size=0)
    monkeypatch.setattr("castlit.interop.graphs.find_spec", lambda name: None)
    with pytest.raises(InputError, match="needs onnx and onnxscript: pip install"):
        export(source, tmp_path / "out.onnx", "onnx", name)
    assert not list(tmp_path.iterdir())
