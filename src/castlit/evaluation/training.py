"""Train under Lightning for a protocol, from where an earlier run was if that is wished, and test it."""

import logging
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.utilities import rank_zero_only

from castlit.nn.sync_batchnorm import synchronise_batchnorm
from castlit.resume.start_protocol import IDENTITY, LAST, starting_point
from castlit.utils.distributed import gather
from castlit.utils.signals import Stopped
from castlit.utils.validation import InputError

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
        self._begun_at = 0

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Say what it is a checkpoint of."""
        checkpoint[IDENTITY] = self.identity

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Note at which step it goes on."""
        self._begun_at = checkpoint["global_step"]

    def on_fit_start(self) -> None:
        """See that all processes go on from one step: else they would wait for each other for ever.

        Raises:
            InputError: They do not.
        """
        steps = gather(torch.tensor([self._begun_at], device=self.device)).tolist()
        if len(set(steps)) > 1:
            raise InputError(
                f"the processes would go on from different steps ({', '.join(map(str, steps))}): the checkpoint of "
                "protocol.resume must be on a disk that all of them share"
            )


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
        InputError: The checkpoint to go on from is missing, damaged, or of another training; or Lightning cannot make
            a trainer of these settings.
    """
    # Before anything is started: what cannot be resumed should not take long to say so.
    start, rows = starting_point(resume, output, training.identity)
    watching, logging_to = _made("callbacks", callbacks, output), _made("logger", loggers, output)
    for logger in logging_to:
        if hasattr(logger, "keep"):  # castlit's MetricsCSV, which begins its file anew otherwise
            logger.keep(rows)
    with _without_advice():
        settings = {
            "max_epochs": -1,
            **length,
            "callbacks": watching,
            "logger": logging_to or False,
            "default_root_dir": output,
            "num_sanity_val_steps": 0,
            "limit_val_batches": 0,  # one test, at the end
            "use_distributed_sampler": False,
            "enable_checkpointing": any(isinstance(callback, pl.callbacks.Checkpoint) for callback in watching),
        }
        try:
            trainer = make_trainer(**settings)
        except (TypeError, ValueError) as error:
            raise InputError(f"protocol.trainer: {' '.join(str(error).split())}") from None
        if trainer.world_size > 1:
            synchronise_batchnorm(training, trunks_on_gpu=trainer.strategy.root_device.type == "cuda")
        try:
            trainer.fit(training, data, ckpt_path=start, weights_only=True)
            trainer.limit_val_batches = 1.0
            trainer.validate(training, data, verbose=False)
        except Stopped:
            way = f"go on with protocol.resume={output / LAST}" if (output / LAST).is_file() else "nothing is saved"
            rank_zero_only(print)(f"stopped at step {trainer.global_step}: {way}")
            raise


def _made(key: str, parts: Mapping[str, Any] | None, output: Path) -> list[Any]:
    """Callbacks or loggers, made with the paths that are given relative to a run's folder."""
    made = []
    for name, part in (parts or {}).items():
        if isinstance(part, partial):
            try:
                made.append(part(**{path: output / part.keywords[path] for path in _PATHS if path in part.keywords}))
            except (TypeError, ValueError) as error:
                told = str(error) if str(error).startswith(f"{key}.") else f"{key}.{name}: {error}"
                raise InputError(f"protocol.{told}") from None
        elif part is not None:
            made.append(part)
    return made


@contextmanager
def _without_advice() -> Iterator[None]:
    """Without Lightning's advice for other set-ups than this one, and for its makers' products."""
    talkative = logging.getLogger("pytorch_lightning.utilities.rank_zero")
    before = talkative.level
    talkative.setLevel(logging.WARNING)
    try:
        with warnings.catch_warnings():
            for advice in _ADVICE:
                warnings.filterwarnings("ignore", message=advice)
            yield
    finally:
        talkative.setLevel(before)
