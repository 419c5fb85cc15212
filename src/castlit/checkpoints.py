"""Open a training run's checkpoint, or say in one line what is wrong with it."""

import pickle
from pathlib import Path
from typing import Any

import torch

from castlit.module import CASTModule
from castlit.nn.checks import InputError
from castlit.nn.spec import TARGET


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """Read a checkpoint's plain values and tensors; nothing in the file is executed.

    Raises:
        InputError: No such file, or not a checkpoint of castlit's.
    """
    if not Path(path).is_file():
        raise InputError(f"checkpoint={path}: no such file; give the .ckpt file of a training run")
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError) as error:
        raise InputError(f"checkpoint={path}: not a checkpoint, or damaged ({type(error).__name__})") from error
    if not isinstance(checkpoint, dict) or "method" not in checkpoint.get(CASTModule.CHECKPOINT_HYPER_PARAMS_KEY, {}):
        raise InputError(f"checkpoint={path}: not a checkpoint of castlit's training")
    return checkpoint


def check_resumable(path: str | Path, module: CASTModule) -> None:
    """Make sure that a module can go on from a checkpoint.

    Raises:
        InputError: The file cannot be read, or its method was built otherwise; the message names the arguments.
    """
    saved = read_checkpoint(path)[CASTModule.CHECKPOINT_HYPER_PARAMS_KEY]["method"]
    wanted = module.hparams["method"]
    differing = [key for key in {**saved, **wanted} if saved.get(key) != wanted.get(key)]
    if TARGET in saved and TARGET in wanted and differing:
        was = ", ".join(f"method.{key}={saved.get(key)}" for key in sorted(differing))
        raise InputError(f"checkpoint={path} was trained with another method: continue it with {was}")
