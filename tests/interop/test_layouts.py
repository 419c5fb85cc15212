"""Files as other programs write them, by their exact names: the network computes the same after loading.

The names are those of the programs' own checkpoints. Where a program is installed (lightly, timm, torch), its modules
write the file.
"""

import copy
import re
from collections import defaultdict
from pathlib import Path

import lightly.loss
import lightly.models.modules as lightly_modules
import pytest
import timm
import torch
from omegaconf import OmegaConf
from torch import nn
from torch.optim.swa_utils import AveragedModel

from castlit.interop import load_backbone, load_into, open_backbone, read_weights
from castlit.nn import build_backbone
from castlit.utils.validation import InputError

from .conftest import IMAGES, features, trained

X = torch.ones(4, 4)


def under(prefix, state):
    return {f"{prefix}{name}": value for name, value in state.items()}


def heads(*names):
    """Weights of parts that are left out: of layers, or, with an exclamation mark, by their whole name."""
    return {name[:-1] if name.endswith("!") else f"{name}.weight": X for name in names}


def other(state):
    """The weights of another network of the same kind, such as a momentum encoder."""
    return {name: value + 1 for name, value in state.items()}


@pytest.fixture(scope="module")
def tiny():
    return trained(build_backbone("tiny_resnet"))


@pytest.fixture(scope="module")
def vit():
    return trained(timm.create_model("test_vit", num_classes=0))


@pytest.fixture(scope="module")
def dinov2():
    network = timm.create_model("vit_small_patch14_reg4_dinov2", num_classes=0, dynamic_img_size=True)
    return trained(network)


def solo(state):
    """What solo-learn's methods with a momentum encoder have in common."""
    parts = heads("classifier", "projector.0")
    return {**under("backbone.", state), **under("momentum_backbone.", other(state)), **parts}


# Prefixes and neighbours; the names behind the prefix are torchvision's.
PREFIXED = {
    "solo-learn MoCo v2": lambda s: {
        "state_dict": {**solo(s), **heads("projector.2", "momentum_projector.0", "queue!", "queue_ptr!")}
    },
    "solo-learn BYOL": lambda s: {"state_dict": {**solo(s), **heads("predictor.0", "momentum_classifier")}},
    "solo-learn SwAV": lambda s: {
        "state_dict": {**under("backbone.", s), **heads("classifier", "projector.0", "prototypes", "queue!")}
    },
    "solo-learn before 1.0.3": lambda s: {
        "state_dict": {**under("encoder.", s), **under("momentum_encoder.", other(s)), **heads("projector.0")}
    },
    "mmselfsup DenseCL": lambda s: {
        "meta": {"epoch": 200},
        "state_dict": {
            **under("backbone.", s),
            **heads("neck.mlp.0", "neck.mlp2.0", "encoder_k.module.1.mlp.0", "encoder_k.steps!"),
            **under("encoder_k.module.0.", other(s)),
            **heads("queue!", "queue_ptr!", "queue2!", "queue2_ptr!"),
        },
    },
    "mmselfsup BYOL": lambda s: {
        "state_dict": {
            **under("backbone.", s),
            **heads("neck.fc0", "neck.bn0", "head.predictor.fc0"),
            **under("target_net.module.0.", other(s)),
        }
    },
    "OpenSelfSup DenseCL": lambda s: {
        "state_dict": {
            **under("encoder_q.0.", s),
            **heads("encoder_q.1.mlp.0", "encoder_q.1.mlp2.2", "encoder_k.1.mlp.0"),
            **under("encoder_k.0.", other(s)),
            **under("backbone.", s),
            **heads("queue!", "queue_ptr!", "queue2!", "queue2_ptr!"),
        }
    },
    "OpenSelfSup BYOL": lambda s: {
        "state_dict": {
            **under("online_net.0.", s),
            **under("target_net.0.", other(s)),
            **under("backbone.", s),
            **heads("online_net.1.fc0", "target_net.1.fc0", "head.predictor.fc0"),
        }
    },
    "Barlow Twins": lambda s: {
        "epoch": 3,
        "model": {**under("module.backbone.", s), **heads("module.projector.0", "module.bn.running_mean!")},
        "optimizer": {"state": {}},
    },
    "SwAV": lambda s: {**under("module.", s), **heads("module.projection_head.0", "module.prototypes")},
    "SwAV checkpoint": lambda s: {
        "epoch": 3,
        "state_dict": {**under("module.", s), **heads("module.prototypes.prototypes0")},
    },
    "VISSL": lambda s: {
        "phase_idx": 3,
        "classy_state_dict": {
            "base_model": {
                "model": {"trunk": under("_feature_blocks.", s), "heads": heads("0.clf.0")},
                "meters": {},
            },
            "optimizer": {"iteration": 1},
        },
    },
    "DINO": lambda s: {
        "student": {**under("module.backbone.", other(s)), **heads("module.head.mlp.0")},
        "teacher": {**under("backbone.", s), **heads("head.mlp.0", "head.last_layer.weight_g!")},
        "dino_loss": {"center": X},
    },
    "DINO flat": lambda s: {
        "model": {
            **under("student.backbone.", other(s)),
            **under("teacher.backbone.", s),
            **heads(
                "student.dino_head.mlp.0", "teacher.dino_head.mlp.0", "teacher.ibot_head.mlp.0", "dino_loss.center!"
            ),
        }
    },
    "Bolts BYOL": lambda s: {
        "state_dict": {
            **under("online_network.encoder.", s),
            **under("target_network.encoder.", other(s)),
            **heads("online_network.projector.model.0", "predictor.model.0"),
        }
    },
    "lightly's benchmark of MoCo": lambda s: {
        "state_dict": {
            **under("query_backbone.", s),
            **under("key_backbone.", other(s)),
            **heads("query_projection_head.layers.0", "key_projection_head.layers.0", "online_classifier.linear"),
        }
    },
    "student.": lambda s: {**under("student.encoder.", s), **heads("student.head.mlp.0")},
    "student_backbone.": lambda s: {"state_dict": {**under("student_backbone.", s), **heads("student_head.layers.0")}},
    "student": lambda s: {"student": under("module.", s), "epoch": 1},
    "model.": lambda s: {"state_dict": {**under("model.", s), **heads("model.fc", "criterion.centre!")}},
    "net.": lambda s: under("net.", s),
    "encoder.": lambda s: under("encoder.", s),
    "module.": lambda s: under("module.", s),
    "network.": lambda s: {"model_state_dict": under("network.", s)},
    "several": lambda s: {"state_dict": under("model.module.backbone.0.", s)},
    "compiled in DDP": lambda s: under("module._orig_mod.", s),
}


def same_features(path, network, backbone=None, images=IMAGES):
    """A file's backbone, and one that it is loaded into, compute what the network computes."""
    expected = network(images).detach()
    torch.testing.assert_close(open_backbone(path, backbone)(images), expected, rtol=0, atol=1e-5)
    own = build_backbone(backbone or "tiny_resnet").eval()
    if expected.shape == own(images).shape:
        load_into(own, path)
        torch.testing.assert_close(own(images), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("layout", PREFIXED)
def test_prefixes(tiny, tmp_path, layout):
    content = PREFIXED[layout](tiny.state_dict())
    torch.save(content, tmp_path / "weights.pth")
    same_features(tmp_path / "weights.pth", tiny)


def lightly_moco(network):
    """As in lightly's tutorials."""

    class MoCo(nn.Module):
        def __init__(self):
            super().__init__()
            self.backbone = nn.Sequential(*list(network.children())[:-1])
            self.projection_head = lightly_modules.MoCoProjectionHead(512, 32, 8)
            self.backbone_momentum = trained(copy.deepcopy(self.backbone), seed=1)
            self.projection_head_momentum = copy.deepcopy(self.projection_head)
            self.criterion = lightly.loss.NTXentLoss(memory_bank_size=(16, 8))

    return MoCo()


def lightly_swav(network):
    class SwAV(nn.Module):
        def __init__(self):
            super().__init__()
            self.backbone = nn.Sequential(*list(network.children())[:-1])
            self.projection_head = lightly_modules.SwaVProjectionHead(512, 32, 8)
            self.prototypes = lightly_modules.SwaVPrototypes(8, n_prototypes=5)

    return SwAV()


def lightly_dino(network):
    class DINO(nn.Module):
        def __init__(self):
            super().__init__()
            self.teacher_backbone = nn.Sequential(*list(network.children())[:-1])
            self.student_backbone = trained(copy.deepcopy(self.teacher_backbone), seed=1)
            self.student_head = lightly_modules.DINOProjectionHead(512, 32, 16, 8)
            self.teacher_head = lightly_modules.DINOProjectionHead(512, 32, 16, 8)
            self.criterion = lightly.loss.DINOLoss(output_dim=8)

    return DINO()


MODULES = {
    "lightly MoCo": lightly_moco,
    "lightly SwAV": lightly_swav,
    "lightly DINO": lightly_dino,
    "torch.compile": torch.compile,
    "torch's AveragedModel": AveragedModel,
}


@pytest.mark.parametrize("build", MODULES.values(), ids=MODULES.keys())
def test_modules_of_others(resnet18, tmp_path, build):
    torch.save({"state_dict": build(resnet18).state_dict()}, tmp_path / "last.ckpt")
    torch.testing.assert_close(open_backbone(tmp_path / "last.ckpt")(IMAGES), features(resnet18), rtol=0, atol=1e-6)


# Names of a ResNet, by torchvision's: of each kind of weight one, written out.
HUGGING_FACE = {
    "conv1.weight": "embedder.embedder.convolution.weight",
    "bn1.running_var": "embedder.embedder.normalization.running_var",
    "layer1.0.conv1.weight": "encoder.stages.0.layers.0.layer.0.convolution.weight",
    "layer1.1.bn2.bias": "encoder.stages.0.layers.1.layer.1.normalization.bias",
    "layer2.0.downsample.0.weight": "encoder.stages.1.layers.0.shortcut.convolution.weight",
    "layer4.0.downsample.1.running_mean": "encoder.stages.3.layers.0.shortcut.normalization.running_mean",
}
SIMCLR = {
    "conv1.weight": "net.0.net.0.weight",
    "bn1.running_var": "net.0.net.1.0.running_var",
    "layer1.0.conv1.weight": "net.1.blocks.0.net.0.weight",
    "layer1.1.bn2.bias": "net.1.blocks.1.net.3.0.bias",
    "layer2.0.downsample.0.weight": "net.2.blocks.0.projection.shortcut.weight",
    "layer4.0.downsample.1.running_mean": "net.4.blocks.0.projection.bn.0.running_mean",
}


def hugging_face(name):
    """The name in ResNetModel."""
    part, _, rest = name.partition(".")
    if part in ("conv1", "bn1"):
        return f"embedder.embedder.{'convolution' if part == 'conv1' else 'normalization'}.{rest}"
    block, kind, rest = rest.split(".", 2)
    inner = {"conv": "convolution", "bn": "normalization"}
    if kind == "downsample":
        index, rest = rest.split(".", 1)
        place = f"shortcut.{['convolution', 'normalization'][int(index)]}"
    else:
        place = f"layer.{int(kind[-1]) - 1}.{inner[kind[:-1]]}"
    return f"encoder.stages.{int(part[-1]) - 1}.layers.{block}.{place}.{rest}"


def simclr(name):
    """The name in the converter's ResNet: a network of a stem and four stages, each a list of blocks."""
    part, _, rest = name.partition(".")
    if part in ("conv1", "bn1"):
        return f"net.0.net.{'0' if part == 'conv1' else '1.0'}.{rest}"
    block, kind, rest = rest.split(".", 2)
    if kind == "downsample":
        index, rest = rest.split(".", 1)
        place = f"projection.{['shortcut', 'bn.0'][int(index)]}"
    else:
        number = 2 * (int(kind[-1]) - 1)
        place = f"net.{number}" if kind.startswith("conv") else f"net.{number + 1}.0"
    return f"net.{part[-1]}.blocks.{block}.{place}.{rest}"


@pytest.mark.parametrize(("names", "rename"), [(HUGGING_FACE, hugging_face), (SIMCLR, simclr)])
def test_names_of_these_tests(names, rename):
    for name, expected in names.items():
        assert rename(name) == expected


RESNETS = {
    "Hugging Face ResNetModel": (hugging_face, lambda s: s),
    "Hugging Face classifier": (hugging_face, lambda s: {**under("resnet.", s), **heads("classifier.1")}),
    "SimCLR v2 converter": (simclr, lambda s: {"resnet": {**s, **heads("fc")}, "head": heads("layers.0.linear")}),
}


@pytest.mark.parametrize(("rename", "content"), RESNETS.values(), ids=RESNETS.keys())
def test_resnets(resnet50, resnet18, tmp_path, rename, content):
    network = resnet50 if rename is simclr else resnet18
    state = {rename(name): value for name, value in network.state_dict().items() if not name.startswith("fc.")}
    torch.save(content(state), tmp_path / "weights.pth")
    torch.testing.assert_close(open_backbone(tmp_path / "weights.pth")(IMAGES), features(network), rtol=0, atol=1e-6)


# Names of a ViT, by timm's.
HUGGING_FACE_VIT = {
    "cls_token": "embeddings.cls_token",
    "pos_embed": "embeddings.position_embeddings",
    "patch_embed.proj": "embeddings.patch_embeddings.projection",
    "attn.proj": "attention.output.dense",
    "mlp.fc1": "intermediate.dense",
    "mlp.fc2": "output.dense",
    "norm1": "layernorm_before",
    "norm2": "layernorm_after",
    "norm": "layernorm",
}
HUGGING_FACE_DINOV2 = {
    **{name: HUGGING_FACE_VIT[name] for name in ("cls_token", "pos_embed", "patch_embed.proj", "attn.proj", "norm")},
    "register_tokens": "embeddings.register_tokens",
    "ls1.gamma": "layer_scale1.lambda1",
    "ls2.gamma": "layer_scale2.lambda1",
}
MMPRETRAIN = {
    "patch_embed.proj": "patch_embed.projection",
    "mlp.fc1": "ffn.layers.0.0",
    "mlp.fc2": "ffn.layers.1",
    "norm1": "ln1",
    "norm2": "ln2",
    "norm": "ln1",
}


def renamed(state, names, blocks):
    """A ViT's weights by other names."""
    found = {}
    for name, value in state.items():
        block, inner = re.fullmatch(r"(?:blocks\.(\d+)\.)?(.+)", name).groups()
        part, _, last = inner.rpartition(".")
        inner = names.get(inner) or (f"{names.get(part, part)}.{last}" if part else inner)
        found[f"{blocks}.{block}.{inner}" if block else inner] = value
    return found


def split_attention(state):
    """Hugging Face has query, key and value apart."""
    found = {}
    for name, value in state.items():
        if ".attn.qkv." in name:
            for part, rows in zip(("query", "key", "value"), value.chunk(3), strict=True):
                found[name.replace("attn.qkv", f"attention.attention.{part}")] = rows
        else:
            found[name] = value
    return found


def hugging_face_vit(state):
    return split_attention(renamed(state, HUGGING_FACE_VIT, "encoder.layer"))


MAE = (
    "mask_token!",
    "decoder_pos_embed!",
    "decoder_embed",
    "decoder_blocks.0.attn.qkv",
    "decoder_norm",
    "decoder_pred",
)
VITS = {
    "MAE with decoder": lambda s: {"model": {**s, **heads(*MAE)}, "epoch": 799},
    "MoCo v3": lambda s: {
        "state_dict": {**under("module.base_encoder.", s), **under("module.momentum_encoder.", other(s))}
    },
    "Hugging Face ViTModel": lambda s: {**hugging_face_vit(s), **heads("pooler.dense")},
    "Hugging Face classifier": lambda s: {**under("vit.", hugging_face_vit(s)), **heads("classifier")},
    "Hugging Face MAE": lambda s: {**under("vit.", hugging_face_vit(s)), **heads("decoder.decoder_embed")},
    "Hugging Face DINOv2 classifier": lambda s: {
        **under("dinov2.", split_attention(renamed(s, HUGGING_FACE_DINOV2, "encoder.layer"))),
        **heads("classifier", "dinov2.embeddings.mask_token!"),
    },
    "mmpretrain MAE": lambda s: {
        "state_dict": {
            **under("backbone.", renamed(s, MMPRETRAIN, "layers")),
            **heads("neck.mask_token!", "neck.decoder_embed", "neck.decoder_blocks.0.attn.qkv"),
        }
    },
    "timm in Transformers": lambda s: under("timm_model.", s),
}


def tokens_to_map(network, prefix):
    """timm's own computation of the feature map."""

    def compute(images):
        tokens = network.forward_features(images)[:, prefix:]
        side = images.shape[-1] // network.patch_embed.patch_size[0]
        return tokens.transpose(1, 2).unflatten(2, (side, side))

    return compute


@pytest.mark.parametrize("content", VITS.values(), ids=VITS.keys())
def test_vits(vit, tmp_path, content):
    torch.save(content(vit.state_dict()), tmp_path / "weights.pth")
    same_features(tmp_path / "weights.pth", tokens_to_map(vit, 1), "timm/test_vit")


def test_masked_autoencoder_of_lightly(tmp_path):
    class MAE(nn.Module):
        def __init__(self):
            super().__init__()
            self.backbone = lightly_modules.MaskedVisionTransformerTIMM(timm.create_model("test_vit", num_classes=0))
            self.decoder = nn.Linear(64, 3)

    module = MAE()
    trained(module)
    torch.save({"state_dict": module.state_dict()}, tmp_path / "last.ckpt")
    same_features(tmp_path / "last.ckpt", tokens_to_map(module.backbone.vit, 1), "timm/test_vit")


def released_dinov2(state):
    """Facebook's names: the class token has a position, and registers have another name."""
    positions = state["pos_embed"]
    first = torch.randn(1, 1, positions.shape[2], generator=torch.Generator().manual_seed(4))
    rest = {name: x for name, x in state.items() if name not in ("reg_token", "pos_embed", "cls_token")}
    return {
        "cls_token": state["cls_token"] - first,
        "pos_embed": torch.cat([first, positions], 1),
        "register_tokens": state["reg_token"],
        "mask_token": torch.zeros(1, positions.shape[2]),
        **rest,
    }


def trained_dinov2(state):
    """A training's names: blocks in chunks, and heads."""
    chunks = {re.sub(r"^blocks\.(\d+)", lambda m: f"blocks.{int(m[1]) // 3}.{m[1]}", k): x for k, x in state.items()}
    return {"teacher": {**under("backbone.", chunks), **heads("dino_head.mlp.0", "ibot_head.mlp.0")}}


DINOV2 = {
    "released": lambda s: s,
    "trained": trained_dinov2,
    "Hugging Face": lambda s: under(
        "dinov2_with_registers.", split_attention(renamed(s, HUGGING_FACE_DINOV2, "encoder.layer"))
    ),
}


@pytest.mark.parametrize("content", DINOV2.values(), ids=DINOV2.keys())
def test_dinov2_with_registers(dinov2, tmp_path, content):
    name, images = "timm/vit_small_patch14_reg4_dinov2", IMAGES[:1, :, :56, :56]
    torch.save(content(released_dinov2(dinov2.state_dict())), tmp_path / "weights.pth")
    opened = open_backbone(tmp_path / "weights.pth", name)
    torch.testing.assert_close(opened(images), tokens_to_map(dinov2, 5)(images), rtol=0, atol=1e-4)
    with pytest.raises(InputError, match=f"add backbone=NAME, such as {name}"):
        load_backbone(tmp_path / "weights.pth")


def test_hyperparameters_of_hydra_are_ignored(tiny, tmp_path):
    """solo-learn saves its whole configuration, as an object of OmegaConf."""
    settings = OmegaConf.create({"optimizer": {"lr": 0.1, "layers": [1, "x", None]}, "twice": "${optimizer.lr}"})
    content = PREFIXED["solo-learn BYOL"](tiny.state_dict())
    content["hyper_parameters"] = {"config": settings, "folder": Path("runs"), "counts": defaultdict(int)}
    torch.save(content, tmp_path / "last.ckpt")
    same_features(tmp_path / "last.ckpt", tiny)


def test_what_is_left_out_is_named(tiny, tmp_path):
    torch.save(PREFIXED["solo-learn MoCo v2"](tiny.state_dict()), tmp_path / "solo.ckpt")
    left_out = read_weights(tmp_path / "solo.ckpt").left_out
    assert left_out == ("momentum_backbone", "classifier", "projector", "momentum_projector", "queue", "queue_ptr")
    torch.save(PREFIXED["DINO"](tiny.state_dict()), tmp_path / "dino.pth")
    assert read_weights(tmp_path / "dino.pth").left_out == ("head", "student", "dino_loss")


def test_refusals_name_prefix_lack_and_what_to_type(resnet18, vit, tmp_path):
    path = tmp_path / "weights.pth"
    state = {name: x for name, x in resnet18.state_dict().items() if not name.startswith("fc.")}
    cases = [
        (
            {**under("module.backbone.", state), "module.adapter.weight": X},
            None,
            r"next to module\.backbone\.\* it has module\.adapter\.weight, which castlit does not know: save the "
            r"backbone alone, torch\.save\(model\.get_submodule\('module\.backbone'\)",
        ),
        (
            under("model.", state),
            "resnet50",
            r"its weights under model\.\* are not those of resnet50: it lacks .*: take backbone=resnet18",
        ),
        (
            under("backbone.", {name: x for name, x in state.items() if not name.startswith("layer4")}),
            "resnet18",
            r"its weights under backbone\.\* are not those of resnet18: it lacks layer4\.0\.conv1\.weight, ",
        ),
        (
            under("encoder.", vit.state_dict()),
            None,
            r"which backbone its weights under encoder\.\* are of \(cls_token, .*add backbone=NAME",
        ),
    ]
    for content, backbone, words in cases:
        torch.save(content, path)
        with pytest.raises(InputError, match=words) as caught:
            open_backbone(path, backbone)
        assert "\n" not in str(caught.value)


def test_layers_by_number_are_no_prefix(tmp_path):
    """A network of a user's may have the names that a wrapper adds: weights that fit stay as they are."""
    for network in (nn.Sequential(nn.Conv2d(3, 4, 1), nn.Conv2d(4, 5, 1)), nn.Sequential()):
        if not len(network):
            network.add_module("encoder", nn.Sequential(nn.Conv2d(3, 4, 1)))
        torch.save(network.state_dict(), tmp_path / "weights.pth")
        own = copy.deepcopy(network)
        nn.init.zeros_(next(own.parameters()))
        load_into(own, tmp_path / "weights.pth")
        assert torch.equal(own(IMAGES), network(IMAGES))
