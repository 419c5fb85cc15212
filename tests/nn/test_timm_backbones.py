"""timm's models: timm's features and parameter names, folded to a map; they train."""

import copy
import pickle
import sys

import pytest
import torch

from castlit.attention import tap
from castlit.nn import Encoder, attention_layer, build_backbone, feature_channels
from castlit.utils.validation import InputError

timm = pytest.importorskip("timm")

# A small model of each kind, two image sizes, and the CAM's default layer.
MODELS = {
    "resnet10t": ((64, 64), (64, 96), "layer4"),
    "test_resnet": ((64, 64), (64, 96), "layer4"),
    "test_convnext": ((64, 64), (64, 96), "stages.3"),
    "convnext_atto": ((64, 64), (64, 96), "stages.3"),
    "regnetx_002": ((64, 64), (64, 96), "s4"),
    "test_efficientnet": ((64, 64), (64, 96), "bn2"),
    "mobilenetv3_small_050": ((64, 64), (64, 96), "blocks.5"),
    "densenet121": ((64, 64), (64, 96), "features.norm5"),
    "test_nfnet": ((64, 64), (64, 96), "final_act"),
    "test_mambaout": ((64, 64), (64, 96), "feature_map"),
    "pvt_v2_b0": ((64, 64), (64, 96), "stages.3"),
    "vit_tiny_patch16_224": ((64, 64), (64, 96), "feature_map"),
    "deit_tiny_distilled_patch16_224": ((64, 64), (64, 96), "feature_map"),
    "test_vit4": ((64, 64), (64, 96), "feature_map"),
    "xcit_nano_12_p16_224": ((64, 64), (64, 96), "feature_map"),
    "swin_tiny_patch4_window7_224": ((64, 64), (64, 96), "feature_map"),
    "twins_svt_small": ((64, 64), (64, 96), "feature_map"),
    "convit_tiny": ((224, 224), (224, 224), "feature_map"),
}


def as_map(features, prefix, height, width):
    """timm's features as (N, C, h, w), folded position by position; ``height`` and ``width`` in positions."""
    if features.dim() == 3:
        assert features.shape[1] == prefix + height * width
        rows = [[features[:, prefix + y * width + x] for x in range(width)] for y in range(height)]
        return torch.stack([torch.stack(row, dim=-1) for row in rows], dim=-2)
    return features if features.shape[2:] == (height, width) else features.movedim(-1, 1)


@pytest.mark.parametrize("name", MODELS)
def test_family(name):
    *sizes, layer = MODELS[name]
    trunk = build_backbone(f"timm/{name}")
    dynamic = {"dynamic_img_size": True} if name.startswith(("vit", "deit", "test_vit", "swin")) else {}
    whole = timm.create_model(name, num_classes=0, **dynamic)
    assert list(trunk.state_dict()) == [key for key in whole.state_dict() if key in trunk.state_dict()]
    left_off = {key.split(".")[0] for key in whole.state_dict() if key not in trunk.state_dict()}
    assert left_off <= {"head", "fc_norm", "attn_pool", "conv_head", "norm_head"}, left_off
    whole.load_state_dict({**whole.state_dict(), **trunk.state_dict()})
    for height, width in sizes:
        images = torch.randn(2, 3, height, width)
        with torch.no_grad():
            feature_map = trunk.eval()(images)
            features = whole.eval().forward_features(images)
        assert feature_map.dim() == 4
        assert feature_map.shape[1] == feature_channels(trunk) == whole.num_features
        assert feature_map.shape[2] * width == feature_map.shape[3] * height, "the images' aspect ratio"
        wanted = as_map(features, getattr(whole, "num_prefix_tokens", 0), *feature_map.shape[2:])
        assert torch.equal(feature_map, wanted)
    assert attention_layer(trunk) == layer
    takes_a_step(trunk, torch.randn(2, 3, *sizes[0]))


def takes_a_step(trunk, images):
    before = {name: parameter.detach().clone() for name, parameter in trunk.named_parameters()}
    optimizer = torch.optim.SGD(trunk.parameters(), lr=0.1)
    trunk.train()(images).mean((2, 3)).square().sum().backward()
    without = [
        name for name, parameter in trunk.named_parameters() if parameter.requires_grad and parameter.grad is None
    ]
    assert without == [], "under DDP, each parameter needs a gradient"
    optimizer.step()
    moved = [name for name, parameter in trunk.named_parameters() if not torch.equal(parameter, before[name])]
    # Not all: weights before a scale of zero have a zero gradient.
    assert len(moved) > len(before) / 4
    assert all(parameter.isfinite().all() for parameter in trunk.parameters())


@torch.no_grad()
def test_patch_positions():
    trunk = build_backbone("timm/vit_tiny_patch16_224").eval()
    images = torch.randn(1, 3, 64, 96)
    other = images.clone()
    other[:, :, 16:32, 80:] += 5
    change = (trunk(other) - trunk(images)).square().sum(1)[0]
    assert divmod(change.argmax().item(), 6) == (1, 5)
    assert trunk.pos_embed.shape == (1, 197, 192), "timm's own size, for the export"


def test_tap_gives_pooled_map():
    encoder = Encoder(build_backbone("timm/vit_tiny_patch16_224"), torch.nn.Identity())
    with tap(encoder, "feature_map") as activations:
        embedding = encoder(torch.randn(2, 3, 64, 64))
    assert activations.first.shape == (2, 192, 4, 4)
    assert torch.allclose(activations.first.mean((2, 3)), embedding)
    (gradient,) = torch.autograd.grad(embedding.sum(), activations.first)
    assert torch.allclose(gradient, torch.full_like(gradient, 1 / 16)), "each patch counts"


@torch.no_grad()
def test_copies_are_independent():
    trunk = build_backbone("timm/test_vit").eval()
    images = torch.randn(1, 3, 32, 32)
    for twin in (copy.deepcopy(trunk), pickle.loads(pickle.dumps(trunk))):
        assert torch.equal(twin(images), trunk(images))
        twin.pos_embed.add_(torch.randn_like(twin.pos_embed))
        assert not torch.equal(twin(images), trunk(images))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "convnext_tny",
            r"backbone 'timm/convnext_tny': timm has no model 'convnext_tny' .did you mean 'convnext_tiny'",
        ),
        ("hf-hub:timm/resnet18.a1_in1k", "timm has no model"),
        ("", "timm has no model ''"),
        ("crossvit_tiny_240", "timm/crossvit_tiny_240 gives list, not one feature map .*take another model"),
        ("pit_ti_224", "timm/pit_ti_224 gives no features of image regions"),
    ],
)
def test_unsupported_models(name, message):
    with pytest.raises(InputError, match=message):
        build_backbone(f"timm/{name}")


@pytest.mark.parametrize(
    ("name", "size", "message"),
    [
        ("vit_tiny_patch16_224", 72, r"does not take images of 72 x 72 px \(Input height \(72\) should be divisible"),
        ("convit_tiny", 64, r"timm/convit_tiny does not take images of 64 x 64 px .*its own size is 224 x 224"),
    ],
)
def test_unsupported_size(name, size, message):
    trunk = build_backbone(f"timm/{name}")
    with pytest.raises(InputError, match=message):
        trunk(torch.randn(1, 3, size, size))


def test_without_timm(monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(InputError, match=r"backbone 'timm/resnet18' needs timm: pip install \"castlit\[timm\]\""):
        build_backbone("timm/resnet18")


# Other families, especially unusual ones; on torch's meta device only shapes are computed.
OTHERS = """
beit_base_patch16_224 cait_s24_224 caformer_s18 convmixer_768_32 davit_tiny dla34 edgenext_xx_small efficientformer_l1
efficientvit_b0 eva02_tiny_patch14_224 fastvit_s12 gcvit_xxtiny hgnetv2_b0 hiera_tiny_224 levit_128 maxvit_nano_rw_256
mixer_s16_224 mobilevit_xxs mvitv2_tiny nest_tiny resnetv2_18 sequencer2d_s swinv2_tiny_window8_256 swinv2_cr_tiny_224
tnt_s_legacy_patch16_224 tresnet_m vgg11 vit_small_r26_s32_224 vit_srelpos_small_patch16_224 vit_small_patch16_dinov3
vitamin_small_224 volo_d1_224
"""


@pytest.mark.slow
@pytest.mark.nightly
def test_other_families():
    for name in OTHERS.split():
        with torch.device("meta"):
            trunk = build_backbone(f"timm/{name}")
            forward = vars(trunk)["forward"]
            feature_map = trunk.train()(torch.zeros(2, 3, *forward.size))
            feature_map.mean((2, 3)).sum().backward()
            layer = attention_layer(trunk)
        assert feature_map.dim() == 4, name
        assert feature_map.shape[1] == trunk.num_features, name
        assert 3 < feature_map.shape[2] == feature_map.shape[3] < 50, name
        idle = [key for key, one in trunk.named_parameters() if one.requires_grad and one.grad is None]
        assert idle == [], name
        assert layer == "backbone" or trunk.get_submodule(layer), name
