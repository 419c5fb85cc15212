"""Weights of torchvision and timm in these libraries' caches: found by name, never downloaded."""

from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlparse

import torch
import torchvision

from castlit.nn.timm_backbones import PREFIX as TIMM
from castlit.nn.torchvision_backbones import torchvision_names
from castlit.utils.validation import InputError, did_you_mean

TORCHVISION = "torchvision/"


class Cached(NamedTuple):
    """Weights on this machine."""

    file: Path
    backbone: str
    """Their backbone's name for :func:`castlit.nn.build_backbone`."""


def cached_weights(name: str | Path, key: str) -> Cached | None:
    """Find weights by their name; None if it is not such a name, but a file's.

    Args:
        name: ``torchvision/`` and a model, or ``timm/`` and a model; after a full stop the weights' own name, as in
            ``torchvision/resnet50.IMAGENET1K_V1`` and ``timm/resnet50.a1_in1k``, otherwise the library's default. A
            file of this name goes first.
        key: The config key of the name, for messages.

    Raises:
        InputError: There are no such weights, or they are not in the cache.
    """
    text, given = str(name), f"{key}={name}"
    if Path(text).expanduser().is_file():
        return None
    if text.startswith(TORCHVISION):
        return _torchvision(*text.removeprefix(TORCHVISION).partition(".")[::2], given)
    return _timm(text, given) if text.startswith(TIMM) else None


def _torchvision(model: str, tag: str, given: str) -> Cached:
    names = torchvision_names()
    if model not in names:
        raise InputError(f"{given}: torchvision has no classifier {model!r}{did_you_mean(model, names)}")
    entries = torchvision.models.get_model_weights(model)
    tags = [entry.name for entry in entries]
    if tag and tag not in tags:
        raise InputError(f"{given}: torchvision's weights for {model} are {', '.join(tags)}{did_you_mean(tag, tags)}")
    weights = entries[tag or "DEFAULT"]
    file = _hub_file(weights.url)
    if not file.is_file():
        get = f"import torchvision; torchvision.models.get_model('{model}', weights='{weights.name}')"
        raise _not_cached(given, file, get)
    return Cached(file, model)


def _timm(text: str, given: str) -> Cached:
    try:
        import timm
        from huggingface_hub import try_to_load_from_cache
    except ImportError as error:
        raise InputError(f'{given}: needs timm: pip install "castlit[timm]"') from error
    name = text.removeprefix(TIMM)
    model, _, tag = name.partition(".")
    if not timm.is_model(model):
        raise InputError(f"{given}: timm has no model {model!r}{did_you_mean(model, timm.list_models())}")
    try:
        entry = timm.get_pretrained_cfg(name)
    except RuntimeError:
        known = [each.partition(".")[2] for each in timm.list_pretrained(f"{model}.*")]
        raise InputError(
            f"{given}: timm's weights for {model} are {', '.join(known)}{did_you_mean(tag, known)}"
        ) from None
    if entry is None or not (entry.hf_hub_id or entry.url):
        raise InputError(f"{given}: timm has no weights for it")
    files = [entry.hf_hub_filename] if entry.hf_hub_filename else ["model.safetensors", "pytorch_model.bin"]
    found = [try_to_load_from_cache(entry.hf_hub_id, each) for each in files if entry.hf_hub_id]
    found += [str(_hub_file(entry.url))] if entry.url else []
    for file in found:
        if isinstance(file, str) and Path(file).is_file():
            return Cached(Path(file), f"{TIMM}{model}")
    raise _not_cached(given, entry.hf_hub_id or entry.url, f"import timm; timm.create_model('{name}', pretrained=True)")


def _hub_file(url: str | tuple[str, str]) -> Path:
    name = Path(urlparse(url).path).name if isinstance(url, str) else url[1]  # timm may give both
    return Path(torch.hub.get_dir()) / "checkpoints" / name


def _not_cached(given: str, where: object, get: str) -> InputError:
    return InputError(f'{given}: {where} is not in the cache, and castlit downloads nothing: python -c "{get}" gets it')
