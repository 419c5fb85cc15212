"""Open a file of weights without executing anything in it."""

import argparse
import collections
import pickle
import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from castlit.interop.plain_pickle import MULTIARRAY, read_plain_pickle
from castlit.utils.validation import InputError


class _Ignored:
    """Stands for an object beside the weights, such as a configuration; what it holds is dropped, its code not run."""

    def __init__(self, *values: object) -> None: ...

    def __setstate__(self, state: object) -> None: ...


_IGNORED = (
    *(f"omegaconf.{kind}" for kind in ("dictconfig.DictConfig", "listconfig.ListConfig")),
    *("omegaconf.base.ContainerMetadata", "omegaconf.base.Metadata"),
    *(f"omegaconf.nodes.{kind}Node" for kind in ("Any", "String", "Integer", "Float", "Boolean", "Path", "Bytes")),
    *("typing.Any", "pathlib.PosixPath", "pathlib.WindowsPath", "pathlib._local.PosixPath"),
)
"""Classes of a Lightning checkpoint's ``hyper_parameters``, as programs with Hydra write them (solo-learn is one)."""

_LAST = ("checkpoints/last.ckpt", "last.ckpt")
"""The last checkpoint in a run's folder, and in that of its checkpoints."""

# Harmless values that training scripts store next to the weights: options and numpy numbers.
_HARMLESS: list[Any] = [
    argparse.Namespace,
    collections.defaultdict,
    *((kind, f"builtins.{kind.__name__}") for kind in (dict, list, int, float, bool, str)),
    *((_Ignored, name) for name in _IGNORED),
    np.dtype,
    MULTIARRAY.scalar,
    *{type(np.dtype(name)) for name in ("float64", "float32", "int64", "int32", "bool")},
]


def open_weights_file(path: str | Path, key: str) -> dict[str, Any]:
    """Read a file that ``torch.save`` wrote (.ckpt, .pth, .pth.tar, .pt), a .pkl of arrays, or .safetensors.

    Args:
        path: The file.
        key: The config key of the path, for messages.

    Returns:
        Its contents, on the CPU.

    Raises:
        InputError: The file does not exist, is damaged, has no dictionary, or cannot be read without running code.
    """
    file = Path(path).expanduser()
    given = f"{key}={path}"
    if file.is_dir():
        raise InputError(f"{given}: {folder_advice(file)}")
    if not file.is_file():
        raise InputError(f"{given}: no such file; give a .ckpt of castlit's, another file of weights, or random")
    try:
        content = _read(file, given)
    except pickle.UnpicklingError as error:
        raise InputError(f"{given}: {_reason(error)}") from None
    except (InputError, MemoryError):
        raise
    except Exception as error:  # A damaged file can raise anything, even an OSError.
        if isinstance(error, OSError) and error.filename is not None:
            raise
        raise InputError(f"{given}: not a file of weights, or damaged ({type(error).__name__})") from None
    if not isinstance(content, Mapping):
        raise InputError(f"{given}: has a {type(content).__name__}, not weights by name; save a model's state_dict()")
    return dict(content)


def folder_advice(folder: Path) -> str:
    """What to say where a folder is given in place of a checkpoint: it may be that of a run, or of its checkpoints."""
    last = next((each for name in _LAST if (each := folder / name).is_file()), None)
    return f"a folder; give a file in it, such as {last}" if last is not None else "a folder; give a file in it"


def _read(file: Path, given: str) -> Any:  # noqa: ANN401
    if file.suffix.lower() == ".pkl":
        return read_plain_pickle(file)
    if file.suffix.lower() == ".safetensors":
        try:
            from safetensors.torch import load_file
        except ImportError as error:
            raise InputError(f'{given}: needs safetensors, which comes with pip install "castlit[timm]"') from error
        try:
            return load_file(file)
        except Exception as error:
            raise ValueError("safetensors") from error
    with warnings.catch_warnings(), torch.serialization.safe_globals(_HARMLESS):
        warnings.simplefilter("ignore")  # about old pickle protocols
        return torch.load(file, map_location="cpu", weights_only=True)


def _reason(error: pickle.UnpicklingError) -> str:
    """Why a file cannot be read safely: the code that it needs, or damage."""
    text = str(error)
    needed = re.search(r"GLOBAL ([\w.]+) (?:was not|whose module)|^it needs ([\w.]+)$", text)
    if needed is None:
        return "not a file of weights, or damaged"
    return (
        f"refused, as opening it would run code ({needed[1] or needed[2]}); open it where you trust it, and save the "
        "weights alone: torch.save(model.state_dict(), ...)"
    )
