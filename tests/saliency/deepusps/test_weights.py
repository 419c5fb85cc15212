"""Starting from weights that were learned before: all of them fit, or one line says which do not."""

import pytest
import torch

from castlit.nn import InputError, build_backbone
from castlit.saliency.deepusps.weights import load_backbone


def test_a_state_dict_without_its_classifier(tmp_path, caplog):
    caplog.set_level("INFO")
    from torchvision.models import resnet18

    source = resnet18(num_classes=5)
    torch.save(source.state_dict(), tmp_path / "r18.pth")
    backbone = build_backbone("resnet18")
    load_backbone(backbone, tmp_path / "r18.pth")
    assert all(torch.equal(value, source.state_dict()[name]) for name, value in backbone.state_dict().items())
    assert "the classifier (fc.weight, fc.bias) is left off" in caplog.text


def test_a_checkpoint_of_castlits(tmp_path):
    backbone = build_backbone("tiny_resnet")
    state = {f"method.encoder.backbone.{name}": value for name, value in backbone.state_dict().items()}
    state["method.encoder.head.0.weight"] = torch.zeros(3)
    torch.save({"state_dict": state, "epoch": 3}, tmp_path / "last.ckpt")
    other = build_backbone("tiny_resnet")
    load_backbone(other, tmp_path / "last.ckpt")
    assert all(torch.equal(value, other.state_dict()[name]) for name, value in backbone.state_dict().items())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda state: state.pop("conv1.weight"), "1 are missing (conv1.weight)"),
        (lambda state: state.update(stem=torch.zeros(2)), "1 are unknown (stem)"),
        (lambda state: state.update({"conv1.weight": torch.zeros(2)}), "1 have another shape (conv1.weight)"),
    ],
)
def test_weights_that_do_not_fit(tmp_path, change, message):
    state = build_backbone("resnet18").state_dict()
    change(state)
    torch.save(state, tmp_path / "bad.pth")
    backbone = build_backbone("resnet18")
    before = backbone.conv1.weight.clone()
    with pytest.raises(InputError) as error:
        load_backbone(backbone, tmp_path / "bad.pth")
    assert message in str(error.value)
    assert torch.equal(backbone.conv1.weight, before)


class Evil:
    def __reduce__(self):
        return (print, ("executed",))


@pytest.mark.parametrize("content", ["no file", "text", "pickle", "plain", "foreign checkpoint"])
def test_files_without_weights(tmp_path, content, capsys):
    path = tmp_path / "weights.pth"
    if content == "text":
        path.write_text("hello")
    elif content == "pickle":
        torch.save({"a": Evil()}, path)
    elif content == "plain":
        torch.save([1, 2], path)
    elif content == "foreign checkpoint":
        torch.save({"state_dict": {"module.conv1.weight": torch.zeros(2)}}, path)
    with pytest.raises(InputError, match=r"backbone\.weights=.*weights\.pth"):
        load_backbone(build_backbone("tiny_resnet"), path)
    assert "executed" not in capsys.readouterr().out
