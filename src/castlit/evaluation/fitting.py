"""Train under Lightning for a protocol, from where an earlier run was if that is wished, and test it."""

import pickle
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.utilities import rank_zero_only

from castlit.nn.checks import InputError
from castlit.nn.stopping import Stopped
from castlit.nn.sync_batchnorm import synchronise_batchnorm

IDENTITY = "castlit_protocol"
"""Under which a checkpoint says what it is of."""

LAST = Path("checkpoints") / "last.ckpt"
"""Where a run's folder holds its checkpoint."""

_PATHS = ("dirpath", "path", "save_dir")

_ADVICE = (
    ".*does not have many workers.*",
    ".*exists and is not empty.*",
    ".*sync_dist=True.*",
    ".*LeafSpec.*",
    ".*smaller than the logging interval.*",
    ".*GPU available but not used.*",
    ".*`enable_checkpointing=True`.*",
    ".*in eval mode at the start.*",  # what is frozen is so on purpose
)


class ProtocolTraining(pl.LightningModule):
    """What a protocol trains; its checkpoints say what they are of.

    Args:
        identity: What makes this training the one that a checkpoint is of: ``protocol``, its name, and plain values.
    """

    def __init__(self, identity: dict[str, Any]) -> None:
        super().__init__()
        self.identity = identity

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Say what it is a checkpoint of."""
        checkpoint[IDENTITY] = self.identity


def fit_and_test(
    training: ProtocolTraining,
    data: pl.LightningDataModule,
    output: Path,
    length: dict[str, int],
    make_trainer: Callable[..., pl.Trainer] = pl.Trainer,
    callbacks: Mapping[str, Any] | None = None,
    loggers: Mapping[str, Any] | None = None,
    resume: str | None = None,
) -> None:
    """Train, then run the validation once; batch norms work on all processes' images together.

    Args:
        training: What is trained; what its validation finds, it keeps.
        data: On what.
        output: The run's folder.
        length: ``max_epochs`` or ``max_steps``.
        make_trainer: Lightning's ``Trainer`` with the user's settings.
        callbacks: What watches the training, saves it and shows how far it is, by name. Those that are a
            ``functools.partial`` are called, with their paths below ``output``; None is left out.
        loggers: Where figures go, likewise.
        resume: ``"last"`` goes on from the folder's last checkpoint, if there is one; or the path of one.

    Raises:
        InputError: The checkpoint to go on from is missing, damaged, or of another training.
    """
    # Before anything is started: what cannot be resumed should not take long to say so.
    start = _starting_point(resume, output, training.identity)
    watching = _made(callbacks, output)
    with _without_advice():
        trainer = make_trainer(
            **{"max_epochs": -1, **length},
            callbacks=watching,
            logger=_made(loggers, output) or False,
            default_root_dir=output,
            num_sanity_val_steps=0,
            limit_val_batches=0,  # one test, at the end
            use_distributed_sampler=False,
            enable_checkpointing=any(isinstance(callback, pl.callbacks.Checkpoint) for callback in watching),
        )
        if trainer.world_size > 1:
            synchronise_batchnorm(training, trunks_on_gpu=trainer.strategy.root_device.type == "cuda")
        try:
            trainer.fit(training, data, ckpt_path=start, weights_only=True)
            trainer.limit_val_batches = 1.0
            trainer.validate(training, data, verbose=False)
        except Stopped:
            rank_zero_only(print)(f"stopped at step {trainer.global_step}: go on with protocol.resume={output / LAST}")
            raise


def _made(parts: Mapping[str, Any] | None, output: Path) -> list[Any]:
    """Callbacks or loggers, made with the paths that are given relative to a run's folder."""
    made = []
    for part in (parts or {}).values():
        if isinstance(part, partial):
            made.append(part(**{key: output / part.keywords[key] for key in _PATHS if key in part.keywords}))
        elif part is not None:
            made.append(part)
    return made


def _starting_point(resume: str | None, output: Path, identity: dict[str, Any]) -> Path | None:
    """The checkpoint to go on from; None to start anew.

    Raises:
        InputError: It is missing, damaged, or of another training.
    """
    if resume is None:
        return None
    path = output / LAST if resume == "last" else Path(resume).expanduser()
    if not path.is_file():
        if resume == "last":
            rank_zero_only(print)(f"resume=last: {path} is not there yet, starting anew")
            return None
        raise InputError(f"protocol.resume={resume}: no such file; give null, last, or a .ckpt of such a run")
    try:
        content: Any = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError) as error:
        raise InputError(f"protocol.resume={resume}: not a checkpoint, or damaged ({type(error).__name__})") from None
    its = content.get(IDENTITY) if isinstance(content, dict) else None
    if not isinstance(its, dict):
        raise InputError(f"protocol.resume={resume}: not a checkpoint of {identity['protocol']}'s training")
    differing = [key for key in identity if its.get(key) != identity[key]]
    if differing:
        was = ", ".join(f"{key} was {its.get(key)}, not {identity[key]}" for key in differing[:2])
        raise InputError(f"protocol.resume={resume} is of another run: {was}")
    rank_zero_only(print)(f"resume={resume}: going on from {path}, at step {content['global_step']}")
    return path


@contextmanager
def _without_advice() -> Iterator[None]:
    """Without Lightning's advice for other set-ups than this one."""
    with warnings.catch_warnings():
        for advice in _ADVICE:
            warnings.filterwarnings("ignore", message=advice)
        yield
