"""Open a file of weights without running anything that is in it."""

import argparse
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

# Harmless values that training scripts keep beside the weights: their options, and numbers of numpy's.
_HARMLESS: list[Any] = [
    argparse.Namespace,
    np.dtype,
    MULTIARRAY.scalar,
    *{type(np.dtype(name)) for name in ("float64", "float32", "int64", "int32", "bool")},
]


def open_weights_file(path: str | Path, key: str) -> dict[str, Any]:
    """Read a file that ``torch.save`` wrote (.ckpt, .pth, .pth.tar, .pt), a .pkl of arrays, or .safetensors.

    Args:
        path: The file.
        key: By which the user gave it.

    Returns:
        What is in it, on the CPU.

    Raises:
        InputError: No such file, it is damaged, it holds no dictionary, or it cannot be read without running code.
    """
    file = Path(path).expanduser()
    told = f"{key}={path}"
    if not file.is_file():
        raise InputError(f"{told}: no such file; give a .ckpt of castlit's, another file of weights, or random")
    try:
        content = _read(file, told)
    except pickle.UnpicklingError as error:
        raise InputError(f"{told}: {_reason(error)}") from None
    except (InputError, OSError, MemoryError):
        raise
    except Exception as error:  # A damaged file can raise anything.
        raise InputError(f"{told}: no file of weights, or damaged ({type(error).__name__})") from None
    if not isinstance(content, Mapping):
        raise InputError(f"{told}: holds a {type(content).__name__}, not weights by name; save a model's state_dict()")
    return dict(content)


def _read(file: Path, told: str) -> Any:  # noqa: ANN401
    if file.suffix.lower() == ".pkl":
        return read_plain_pickle(file)
    if file.suffix.lower() == ".safetensors":
        try:
            from safetensors.torch import load_file
        except ImportError as error:
            raise InputError(f'{told}: needs safetensors, which comes with pip install "castlit[timm]"') from error
        try:
            return load_file(file)
        except Exception as error:
            raise ValueError("safetensors") from error
    with warnings.catch_warnings(), torch.serialization.safe_globals(_HARMLESS):
        warnings.simplefilter("ignore")  # about pickles that nobody has to read
        return torch.load(file, map_location="cpu", weights_only=True)


def _reason(error: pickle.UnpicklingError) -> str:
    """What stops a file from being read safely: code that it needs, by name, or damage."""
    text = str(error)
    needed = re.search(r"GLOBAL ([\w.]+) (?:was not|whose module)|^it needs ([\w.]+)$", text)
    if needed is None:
        return "no file of weights, or damaged"
    return (
        f"refused, as opening it would run code ({needed[1] or needed[2]}); open it where you trust it, and save the "
        "weights alone: torch.save(model.state_dict(), ...)"
    )
