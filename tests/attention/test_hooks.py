"""tap and find_layer: the right layer, its output, the order of passes, and removal of the hooks."""

import pytest
import torch
from torch import nn

from castlit.attention import Activations, find_layer, tap
from castlit.utils.validation import InputError


def hooks_on(network):
    return sum(len(part._forward_hooks) + len(part._forward_pre_hooks) for part in network.modules())


@pytest.fixture
def encoder(make_encoder):
    return make_encoder("tiny_resnet")


@pytest.fixture
def images():
    return torch.randn(2, 3, 32, 40, dtype=torch.float64)


@pytest.mark.parametrize("layer", ["layer1", "layer3", "layer4", "backbone.layer4", "layer2.0.conv2", "backbone"])
def test_tap_records_layer_output(encoder, images, layer):
    path = layer if layer.startswith("backbone") else f"backbone.{layer}"
    truth = []
    handle = encoder.get_submodule(path).register_forward_hook(lambda *call: truth.append(call[2].clone()))
    plain = encoder(images)
    handle.remove()
    with tap(encoder, layer) as activations:
        tapped = encoder(images)
    assert len(activations) == 1
    assert torch.equal(activations.first, truth[0])
    assert torch.equal(tapped, plain)
    (gradient,) = torch.autograd.grad(tapped.sum(), activations.first)
    assert gradient.abs().sum() > 0


@pytest.mark.parametrize("layer", ["layer4.1.bn2", "layer4.1.bn1", "bn1"])
def test_in_place_operation_keeps_record(make_encoder, layer):
    # torchvision's blocks use `out += identity` and ReLU(inplace=True).
    encoder, images = make_encoder("resnet18"), torch.randn(1, 3, 64, 64, dtype=torch.float64)
    truth = []
    handle = find_layer(encoder, layer).register_forward_hook(lambda *call: truth.append(call[2].clone()))
    plain = encoder(images)
    handle.remove()
    with tap(encoder, layer) as activations:
        tapped = encoder(images)
    assert torch.equal(activations.first, truth[0])
    assert (activations.first < 0).any(), "values before the ReLU are partly negative"
    assert torch.equal(tapped, plain)
    (gradient,) = torch.autograd.grad(tapped.sum(), activations.first)
    assert gradient.abs().sum() > 0


def test_several_passes_in_order(encoder, images):
    batches = [images, 2 * images, images[:1]]
    with tap(encoder, "layer4") as activations:
        for batch in batches:
            encoder(batch)
    assert len(activations) == 3
    for recorded, batch in zip(activations, batches, strict=True):
        assert torch.equal(recorded, encoder.backbone(batch))
    assert activations.first is activations[0]


def test_nested_taps(encoder, images):
    with tap(encoder, "layer3") as outer:
        with tap(encoder, "layer4") as inner:
            encoder(images)
        encoder(images)
    assert (len(outer), len(inner)) == (2, 1)
    assert hooks_on(encoder) == 0


def test_hooks_removed_on_exit(encoder, images):
    with tap(encoder, "layer4") as activations:
        assert hooks_on(encoder) == 1
        encoder(images)
    assert hooks_on(encoder) == 0
    encoder(images)
    assert len(activations) == 1


def test_hooks_removed_after_exception(encoder, images):
    with pytest.raises(RuntimeError, match="expected input"), tap(encoder, "layer4"):
        encoder(images[:, :2])
    assert hooks_on(encoder) == 0
    with pytest.raises(InputError, match=r"layer 'head' gives \(2, 6\), not a feature map"), tap(encoder, "head"):
        encoder(images)
    assert hooks_on(encoder) == 0


def test_other_hooks_still_run(encoder, images):
    seen = []
    encoder.backbone.layer4.register_forward_hook(lambda *call: seen.append(1))
    with tap(encoder, "layer4"):
        encoder(images)
    encoder(images)
    assert len(seen) == 2


def test_layer_without_tensor_output():
    class Pair(nn.Module):
        def forward(self, x):
            return x, x

    network = nn.Sequential(Pair())
    with pytest.raises(InputError, match="gives tuple, not a feature map"), tap(network, "0"):
        network(torch.zeros(1, 1, 1, 1))


def test_find_layer_by_name(encoder):
    assert find_layer(encoder, "layer4") is encoder.backbone.layer4
    assert find_layer(encoder, "backbone.layer4") is encoder.backbone.layer4
    assert find_layer(encoder, "layer4.0.conv1") is encoder.backbone.layer4[0].conv1
    assert find_layer(encoder, "head") is encoder.head
    assert find_layer(encoder.backbone, "layer4") is encoder.backbone.layer4


@pytest.mark.parametrize(
    ("wrong", "nearest"),
    [("layer5", "layer"), ("layr4", "layer4"), ("backbone.layr4", "backbone.layer4"), ("Layer2", "layer2")],
)
def test_unknown_layer_suggests_nearest(encoder, wrong, nearest):
    with pytest.raises(InputError, match=f"no layer '{wrong}' .did you mean '{nearest}") as failure:
        find_layer(encoder, wrong)
    assert "conv1, bn1, relu, layer1, layer2, layer3, layer4, head" in str(failure.value)
    with pytest.raises(InputError, match="no layer"), tap(encoder, wrong):
        pass


def test_empty_layer_name(encoder):
    with pytest.raises(InputError, match="no layer ''"):
        find_layer(encoder, "")


def test_nothing_recorded_yet():
    with pytest.raises(InputError, match="has not run"):
        _ = Activations().first
