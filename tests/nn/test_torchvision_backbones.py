"""Every family of torchvision's classifiers: their pooled features and parameter names; they train."""

import pytest
import torch
import torchvision
from torch import nn

from castlit.nn import attention_layer, build_backbone, feature_channels
from castlit.utils.validation import InputError

# A small model of each family, the side of its images here, and the CAM's default layer.
FAMILIES = {
    "resnet18": (64, "layer4"),
    "resnext50_32x4d": (64, "layer4"),
    "wide_resnet50_2": (64, "layer4"),
    "convnext_tiny": (64, "features.7"),
    "regnet_x_400mf": (64, "trunk_output.block4"),
    "regnet_y_400mf": (64, "trunk_output.block4"),
    "efficientnet_b0": (64, "features.8"),
    "efficientnet_v2_s": (64, "features.7"),
    "mobilenet_v2": (64, "features.18"),
    "mobilenet_v3_small": (64, "features.12"),
    "mnasnet0_5": (64, "layers.16"),
    "shufflenet_v2_x0_5": (64, "conv5"),
    "densenet121": (64, "relu"),
    "squeezenet1_1": (64, "features.12"),
    "vgg11": (64, "features.20"),
    "alexnet": (96, "features.12"),
    "googlenet": (64, "inception5b"),
    "inception_v3": (96, "Mixed_7c"),
    "swin_t": (64, "permute"),
    "swin_v2_t": (64, "permute"),
    "maxvit_t": (224, "blocks.3"),
}
ARGUMENTS = {name: {"aux_logits": False, "init_weights": False} for name in ("googlenet", "inception_v3")}
# These average with a tensor method; this part's output is what they average.
LAST = {"mnasnet0_5": "layers", "shufflenet_v2_x0_5": "conv5"}
LAST |= dict.fromkeys(("densenet121", "squeezenet1_1", "mobilenet_v2"), "features")


def what_it_pools(network, name, images):
    """Run a classifier and return its last feature map."""
    seen = []
    if name in LAST:
        handle = network.get_submodule(LAST[name]).register_forward_hook(
            lambda part, inputs, output: seen.append(output)
        )
    else:
        pooling = [part for part in network.modules() if isinstance(part, nn.AdaptiveAvgPool2d)]
        # Squeeze-and-excitation pools too, but early; MaxViT's and Inception's last pooling is after all blocks.
        handle = pooling[-1].register_forward_hook(lambda part, inputs, output: seen.append(inputs[0]))
    network(images)
    handle.remove()
    return seen[-1].relu() if name == "densenet121" else seen[-1]


@pytest.mark.parametrize("name", FAMILIES)
def test_family(name):
    size, layer = FAMILIES[name]
    trunk = build_backbone(name)
    whole = torchvision.models.get_model(name, weights=None, **ARGUMENTS.get(name, {}))
    names = list(trunk.state_dict())
    missing = [key for key in whole.state_dict() if key not in names]
    assert [key for key in whole.state_dict() if key in names] == names, "all of torchvision's names, in order"
    assert all(key.split(".")[0] in ("fc", "classifier", "head") for key in missing), missing
    weights = whole.state_dict()
    weights.update(trunk.state_dict())
    whole.load_state_dict(weights)
    images = torch.randn(2, 3, size, size)
    with torch.no_grad():
        feature_map = trunk.eval()(images)
        assert torch.equal(feature_map, what_it_pools(whole.eval(), name, images))
    assert feature_channels(trunk) == feature_map.shape[1]
    assert attention_layer(trunk) == layer
    takes_a_step(trunk, images)


def takes_a_step(trunk, images):
    before = {name: parameter.detach().clone() for name, parameter in trunk.named_parameters()}
    optimizer = torch.optim.SGD(trunk.parameters(), lr=0.1)
    trunk.train()(images).mean((2, 3)).square().sum().backward()
    assert [name for name, parameter in trunk.named_parameters() if parameter.grad is None] == []
    optimizer.step()
    moved = [name for name, parameter in trunk.named_parameters() if not torch.equal(parameter, before[name])]
    # Not all: weights before a scale of zero have a zero gradient.
    assert len(moved) > len(before) / 4
    assert all(parameter.isfinite().all() for parameter in trunk.parameters())


@pytest.fixture(scope="module")
def vit():
    torch.manual_seed(0)
    whole = torchvision.models.vit_b_16(weights=None).eval()
    trunk = build_backbone("vit_b_16").eval()
    trunk.load_state_dict({key: value for key, value in whole.state_dict().items() if not key.startswith("heads.")})
    return whole, trunk


@torch.no_grad()
def test_vit_patches_fold_to_grid(vit):
    whole, trunk = vit
    images = torch.randn(1, 3, 224, 224)
    seen = []
    handle = whole.encoder.register_forward_hook(lambda part, inputs, output: seen.append(output))
    whole(images)
    handle.remove()
    feature_map = trunk(images)
    assert feature_map.shape == (1, 768, 14, 14)
    assert torch.allclose(feature_map[:, :, 3, 5], seen[0][:, 1 + 3 * 14 + 5], atol=1e-5)
    assert torch.allclose(feature_map.flatten(2).transpose(1, 2), seen[0][:, 1:], atol=1e-5)
    assert attention_layer(trunk) == "feature_map"
    assert [key for key in trunk.state_dict() if key not in whole.state_dict()] == []


@torch.no_grad()
def test_vit_accepts_other_sizes(vit):
    _, trunk = vit
    assert feature_channels(trunk) == 768
    assert trunk(torch.randn(1, 3, 64, 96)).shape == (1, 768, 4, 6)
    assert trunk.encoder.pos_embedding.shape == (1, 197, 768), "torchvision's own size, for the export"
    # Patch positions: a change in the lower right corner changes that position most.
    images = torch.randn(1, 3, 64, 96)
    other = images.clone()
    other[:, :, 48:, 80:] += 5
    change = (trunk(other) - trunk(images)).square().sum(1).flatten()
    assert change.argmax() == 4 * 6 - 1


@pytest.mark.parametrize(
    ("name", "size", "message"),
    [
        ("vit_b_16", 72, "vit_b_16 does not take images of 72 x 72 px .not a multiple of its patches of 16 px"),
        ("maxvit_t", 64, "maxvit_t does not take images of 64 x 64 px .*its own size is 224 x 224, data.size=224"),
    ],
)
def test_unsupported_size(vit, name, size, message):
    trunk = vit[1] if name == "vit_b_16" else build_backbone(name)
    with pytest.raises(InputError, match=message):
        trunk(torch.randn(1, 3, size, size))


def test_vit_trains(vit):
    takes_a_step(vit[1], torch.randn(2, 3, 32, 32))
