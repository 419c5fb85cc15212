"""The names that other programs give to a network's weights, and torchvision's or timm's for the same.

``LAYOUTS`` renames weights, ``PREFIXES`` says behind what a backbone is saved, ``BESIDE`` what else is saved with it.
A file is read by all three: :mod:`castlit.interop.resolve`.
"""

import re
from collections.abc import Callable, Mapping
from fnmatch import fnmatchcase
from typing import NamedTuple

import torch
from torch import Tensor

from castlit.interop.detectron2_names import to_torchvision

Replacement = str | Callable[[re.Match[str]], str]


class Layout(NamedTuple):
    """Names of one program for the weights of one family of networks."""

    name: str
    """What messages call it."""
    sign: str
    """The pattern of a whole name that only this layout has."""
    rename: Callable[[str], str]
    """To torchvision's or timm's name; other names stay."""
    convert: Callable[[dict[str, Tensor]], dict[str, Tensor]] = dict
    """What remains to be done with the values, under the new names."""


class Prefix(NamedTuple):
    """What stands before the names of a backbone's weights: the name of an attribute, without its full stop."""

    name: str
    beside: tuple[str, ...] = ()
    """Patterns of what may be beside it, in addition to :data:`BESIDE`."""
    sure: bool = True
    """Whether unknown weights beside it are an error. Otherwise they mean that it is a part of a larger network."""


def _shifted(before: str, after: str = "", by: int = 1) -> Callable[[re.Match[str]], str]:
    """A replacement that contains the pattern's number, counted from another start."""
    return lambda match: f"{before}{int(match[1]) + by}{after}"


def _rules(*rules: tuple[str, Replacement]) -> Callable[[str], str]:
    """Rename by patterns and their replacements, one after the other."""
    compiled = [(re.compile(pattern), replacement) for pattern, replacement in rules]

    def rename(name: str) -> str:
        for pattern, replacement in compiled:
            name = pattern.sub(replacement, name)
        return name

    return rename


def _joined_attention(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Query, key and value in one matrix, as timm has them."""
    joined = dict(state)
    for name in state:
        before, part, after = name.partition(".attn.query.")
        names = [f"{before}.attn.{each}.{after}" for each in ("query", "key", "value")]
        if part and set(names) <= set(state):
            joined[f"{before}.attn.qkv.{after}"] = torch.cat([joined.pop(each) for each in names])
    return joined


def _positions_without_class(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """DINOv2 adds the first position to the class token; timm has the sum, where there are registers."""
    if {"cls_token", "pos_embed"} <= set(state):
        positions = state["pos_embed"]
        state = {**state, "cls_token": state["cls_token"] + positions[:, :1], "pos_embed": positions[:, 1:]}
    return state


LAYOUTS = (
    Layout("detectron2 weights", r"stem\.conv1\.weight", to_torchvision),
    Layout(
        "a ResNet's children by number",  # nn.Sequential(*list(resnet.children())[:-1]), as in lightly's tutorials
        r"4\.0\.conv1\.weight",
        _rules((r"^0\.", "conv1."), (r"^1\.", "bn1."), (r"^([4-7])\.", _shifted("layer", ".", by=-3))),
    ),
    Layout(
        "a ResNet of Hugging Face",
        r"embedder\.embedder\.convolution\.weight",
        _rules(
            (r"^embedder\.embedder\.convolution\.", "conv1."),
            (r"^embedder\.embedder\.normalization\.", "bn1."),
            (r"^encoder\.stages\.(\d+)\.layers\.", _shifted("layer", ".")),
            (r"\.shortcut\.convolution\.", ".downsample.0."),
            (r"\.shortcut\.normalization\.", ".downsample.1."),
            (r"\.layer\.(\d+)\.convolution\.", _shifted(".conv", ".")),
            (r"\.layer\.(\d+)\.normalization\.", _shifted(".bn", ".")),
        ),
    ),
    Layout(
        "a ResNet of the SimCLR v2 converter",
        r"net\.0\.net\.0\.weight",
        _rules(
            (r"^net\.0\.net\.0\.", "conv1."),
            (r"^net\.0\.net\.1\.0\.", "bn1."),
            (r"^net\.(\d+)\.blocks\.", r"layer\1."),
            (r"\.projection\.shortcut\.", ".downsample.0."),
            (r"\.projection\.bn\.0\.", ".downsample.1."),
            (r"\.net\.([024])\.", lambda match: f".conv{int(match[1]) // 2 + 1}."),
            (r"\.net\.([135])\.0\.", lambda match: f".bn{int(match[1]) // 2 + 1}."),
        ),
    ),
    Layout(
        "a ViT of Hugging Face",  # and its DINOv2
        r"embeddings\.patch_embeddings\.projection\.weight",
        _rules(
            (r"^embeddings\.position_embeddings$", "pos_embed"),
            (r"^embeddings\.patch_embeddings\.projection\.", "patch_embed.proj."),
            (r"^embeddings\.(cls_token|mask_token|register_tokens)$", r"\1"),
            (r"^encoder\.layer\.", "blocks."),
            (r"\.attention\.attention\.", ".attn."),
            (r"\.attention\.output\.dense\.", ".attn.proj."),
            (r"\.intermediate\.dense\.", ".mlp.fc1."),
            (r"\.output\.dense\.", ".mlp.fc2."),
            (r"\.layernorm_before\.", ".norm1."),
            (r"\.layernorm_after\.", ".norm2."),
            (r"\.layer_scale(\d)\.lambda1$", r".ls\1.gamma"),
            (r"^layernorm\.", "norm."),
        ),
        _joined_attention,
    ),
    Layout(
        "a ViT of mmpretrain",
        r"layers\.0\.ffn\.layers\.0\.0\.weight",
        _rules(
            (r"^patch_embed\.projection\.", "patch_embed.proj."),
            (r"^layers\.", "blocks."),
            (r"\.ln(\d)\.", r".norm\1."),
            (r"\.ffn\.layers\.0\.0\.", ".mlp.fc1."),
            (r"\.ffn\.layers\.1\.", ".mlp.fc2."),
            (r"^ln1\.", "norm."),
        ),
    ),
    Layout(
        "DINOv2's chunks of blocks",
        r"blocks\.\d+\.\d+\.norm1\.weight",
        _rules((r"^blocks\.\d+\.(\d+)\.", r"blocks.\1.")),
    ),
    Layout(
        "DINOv2 with registers",
        "register_tokens",
        _rules((r"^register_tokens$", "reg_token")),
        _positions_without_class,
    ),
)
"""More than one can be needed: a file's names are compared with all of them in turn."""

PREFIXES = (
    Prefix("module", ("n_averaged",)),  # DistributedDataParallel, and torch's AveragedModel
    Prefix("encoder_q", ("backbone",)),  # MoCo v1 and v2, the public CAST code; DenseCL has the same weights twice
    Prefix("base_encoder"),  # MoCo v3
    Prefix("online_net", ("backbone",)),  # OpenSelfSup's BYOL, likewise
    Prefix("query_backbone"),  # lightly's benchmarks
    Prefix("backbone", ("bn",)),  # solo-learn, lightly, mmselfsup, DINO; Barlow Twins has a norm beside it
    Prefix("online_network"),  # Lightning Bolts' BYOL
    Prefix("teacher_backbone"),  # lightly's DINO; the teacher is what DINO evaluates
    Prefix("student_backbone"),
    Prefix("teacher"),
    Prefix("student"),
    Prefix("_feature_blocks"),  # VISSL
    Prefix("encoder", sure=False),  # SimSiam; torchvision's ViTs have a part of this name
    Prefix("model", sure=False),
    Prefix("net", sure=False),
    Prefix("network", sure=False),
    Prefix("resnet", sure=False),  # Hugging Face names a network in a task's model
    Prefix("vit", sure=False),
    Prefix("dinov2", sure=False),
    Prefix("dinov2_with_registers", sure=False),
    Prefix("timm_model", sure=False),
    Prefix("0", ("1", "2"), sure=False),  # nn.Sequential(backbone, head)
)
"""The first that fits counts, again and again: ``module.encoder_q.0.`` has three."""

WRAPPERS = ("_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module")
"""What torch.compile, FSDP and activation checkpointing add, anywhere in a name."""

HEADS = (
    *("fc", "fc_norm", "classifier", "head", "heads", "head_dist", "last_linear"),
    *("projection", "projector", "projection_head", "predictor", "prediction_head"),
    *("aux1", "aux2", "AuxLogits"),
)
"""Classifiers, and the heads of pretraining."""

BESIDE = (
    *HEADS,
    *("encoder_k", "momentum_*", "*_momentum", "teacher", "student", "target_*"),  # the slow or the other network
    *("teacher_*", "student_*", "query_*", "key_*"),
    *("queue*", "prototypes*", "neck", "pooler", "dino_head", "ibot_head", "online_classifier*"),
    *("decoder*", "mask_token"),  # MAE
    *("criterion", "dino_loss*", "data_preprocessor"),  # losses with a memory, and means of colours
)
"""Patterns of the parts of a pretraining checkpoint that are not the backbone's."""

CONTAINERS = (
    ("state_dict",),
    ("model",),
    ("model_state_dict",),
    ("teacher",),
    ("student",),
    ("resnet",),  # the SimCLR v2 converter
    ("classy_state_dict", "base_model", "model", "trunk"),  # VISSL
)
"""The keys of the weights in files that contain more."""


def is_beside(name: str, more: tuple[str, ...] = ()) -> bool:
    """Whether a weight is of a part that a pretraining saves next to its backbone."""
    part = name.partition(".")[0]
    return any(fnmatchcase(part, pattern) for pattern in (*BESIDE, *more))


def unwrapped(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights by their names without :data:`WRAPPERS`."""
    return {".".join(part for part in name.split(".") if part not in WRAPPERS): x for name, x in tensors.items()}
