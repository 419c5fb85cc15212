"""Start a training run of CAST: its checkpoints are identified by method and optimiser."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from castlit.interop.resolve import listed
from castlit.module import CASTModule
from castlit.resume.checkpoint_io import Checkpoint, read_checkpoint
from castlit.resume.last_checkpoint import LastCheckpoint
from castlit.resume.start import start
from castlit.utils.lightning import pl
from castlit.utils.moved import current_name
from castlit.utils.serializable import TARGET
from castlit.utils.validation import InputError

_KIND = "castlit's training"


def start_training(
    resume: object, module: CASTModule, trainer: pl.Trainer, loggers: Iterable[object], folder: Path
) -> Path | None:
    """Find the checkpoint that a training run starts from; None: from scratch.

    Args:
        resume: None, ``"last"``, or a checkpoint's path.
        module: What is trained.
        trainer: That will train it.
        loggers: Its loggers, before they log.
        folder: The run's.

    Raises:
        InputError: The run cannot resume from this checkpoint.
    """
    return start(
        resume,
        last_path(trainer),
        folder,
        kind=_KIND,
        check=lambda checkpoint, name: _check_same(checkpoint, name, module),
        max_epochs=trainer.max_epochs,
        loggers=loggers,
    )


def last_path(trainer: pl.Trainer) -> Path | None:
    """Where a run saves its last checkpoint; None if it saves none."""
    callbacks: list[pl.Callback] = trainer.callbacks  # type: ignore[attr-defined]
    return next((callback.path for callback in callbacks if isinstance(callback, LastCheckpoint)), None)


def read_training_checkpoint(path: str | Path, key: str) -> Checkpoint:
    """Read a training run's checkpoint; nothing in the file is executed.

    Args:
        path: The checkpoint.
        key: By which the user gave it.

    Raises:
        InputError: No such file, or not a checkpoint of castlit's training.
    """
    name = f"{key}={path}"
    checkpoint = read_checkpoint(path, name, _KIND)
    _settings(checkpoint, name)
    return checkpoint


def _check_same(checkpoint: Checkpoint, name: str, module: CASTModule) -> None:
    settings = _settings(checkpoint, name)
    _check_settings(settings, name, module)
    saved, present = checkpoint["state_dict"], module.state_dict()
    # Of the method only: the attention loss's running mean takes its size in training.
    names = [key for key in {**present, **saved} if key.startswith("method.")]
    wrong = [key for key in names if _shape(saved.get(key)) != _shape(present.get(key))]
    if wrong:
        raise InputError(
            f"{name}: its weights are not those of this run's networks ({listed(wrong)}): choose its method"
        )


def _shape(value: Tensor | None) -> tuple[int, ...] | None:
    return None if value is None else tuple(getattr(value, "shape", ()))


def _check_settings(settings: Checkpoint, name: str, module: CASTModule) -> None:
    for part in ("method", "optimizer"):
        saved, present = settings[part], module.hparams[part]
        if not isinstance(saved, Mapping):
            raise InputError(f"{name}: damaged, or of another version: its {part} is not described")
        if TARGET not in saved or TARGET not in present:
            continue
        if current_name(str(saved[TARGET])) != present[TARGET]:
            raise InputError(f"{name} was trained with {saved[TARGET]}, not {present[TARGET]}: choose its {part}")
        unknown = sorted(key for key in saved if key not in present)
        if unknown:
            raise InputError(
                f"{name}: its {part} has {', '.join(map(str, unknown))}, which this version of castlit does not know: "
                "it is of another version, or damaged"
            )
        differing = sorted(key for key in saved if key != TARGET and saved[key] != present[key])
        if differing:
            was = " ".join(f"{part}.{key}={saved[key]}" for key in differing)
            raise InputError(f"{name} was trained with another {part}: continue it with {was}")


def _settings(checkpoint: Checkpoint, name: str) -> Checkpoint:
    settings: Any = checkpoint.get(CASTModule.CHECKPOINT_HYPER_PARAMS_KEY)
    if not isinstance(settings, dict) or not {"method", "optimizer"} <= set(settings):
        raise InputError(f"{name}: not a checkpoint of {_KIND}")
    return dict(settings)
