"""Open a training run's checkpoint, or say in one line what is wrong with it."""

import pickle
from pathlib import Path
from typing import Any

import torch

from castlit.module import CASTModule
from castlit.utils.moved import current_name
from castlit.utils.serializable import TARGET
from castlit.utils.validation import InputError


def read_checkpoint(path: str | Path, key: str = "checkpoint") -> dict[str, Any]:
    """Read a checkpoint's plain values and tensors; nothing in the file is executed.

    Args:
        path: The checkpoint.
        key: By which the user gave it.

    Raises:
        InputError: No such file, or not a checkpoint of castlit's.
    """
    if not Path(path).is_file():
        raise InputError(f"{key}={path}: no such file; give the .ckpt file of a training run")
    try:
        # Mapped, not read: a check of the settings should not bring gigabytes of weights along.
        checkpoint: Any = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError) as error:
        raise InputError(f"{key}={path}: not a checkpoint, or damaged ({type(error).__name__})") from error
    settings = checkpoint.get(CASTModule.CHECKPOINT_HYPER_PARAMS_KEY, {}) if isinstance(checkpoint, dict) else {}
    if "method" not in settings or "loops" not in checkpoint:
        raise InputError(f"{key}={path}: not a checkpoint of castlit's training")
    opened: dict[str, Any] = checkpoint
    return opened


def read_resumable(path: str | Path, module: CASTModule, max_epochs: int | None, complete: bool) -> dict[str, Any]:
    """Read a checkpoint that a module can go on from.

    Args:
        path: The checkpoint.
        module: What shall go on.
        max_epochs: How many epochs the whole run shall have; ``None`` or -1 sets no end.
        complete: Whether a run that has nothing left to do will do, too.

    Raises:
        InputError: The file cannot be read, the run has nothing left to do, or method or optimiser were built
            otherwise; the message says how to go on.
    """
    checkpoint = read_checkpoint(path, "resume")
    done = epochs_done(checkpoint)
    if not complete and max_epochs is not None and 0 <= max_epochs <= done:
        raise InputError(f"resume={path} has already trained {done} epochs: add trainer.max_epochs={done * 2} to go on")
    _check_same("method", path, checkpoint, module)
    _check_same("optimizer", path, checkpoint, module)
    return checkpoint


def epochs_done(checkpoint: dict[str, Any]) -> int:
    """How many epochs a checkpoint has behind it; its own ``epoch`` is one more where the fit had ended."""
    done: int = checkpoint["loops"]["fit_loop"]["epoch_progress"]["current"]["processed"]
    return done


def _check_same(part: str, path: str | Path, checkpoint: dict[str, Any], module: CASTModule) -> None:
    saved = checkpoint[CASTModule.CHECKPOINT_HYPER_PARAMS_KEY][part]
    wanted = module.hparams[part]
    if TARGET not in saved or TARGET not in wanted:
        return
    if current_name(saved[TARGET]) != wanted[TARGET]:
        raise InputError(f"resume={path} was trained with {saved[TARGET]}, not {wanted[TARGET]}: choose its {part}")
    differing = sorted(key for key in saved if key != TARGET and saved[key] != wanted.get(key))
    if differing:
        was = " ".join(f"{part}.{key}={saved[key]}" for key in differing)
        raise InputError(f"resume={path} was trained with another {part}: continue it with {was}")
