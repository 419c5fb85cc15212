"""Train under Lightning for a protocol, from scratch or from a checkpoint, and test."""

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch

from castlit.cli.refused import accept
from castlit.nn.sync_batchnorm import synchronise_batchnorm
from castlit.reporting.open_logs import open_lines
from castlit.resume.checkpoint_io import Checkpoint
from castlit.resume.request import LAST_CHECKPOINT
from castlit.resume.restoring import restoring
from castlit.resume.start import put_aside, report_stop, start
from castlit.utils.bfloat16 import warn_if_slow
from castlit.utils.distributed import gather
from castlit.utils.lightning import pl, rank_zero_only
from castlit.utils.quiet import quiet_lightning
from castlit.utils.signals import Stopped
from castlit.utils.validation import InputError

_PATHS = ("dirpath", "path", "save_dir")

_ADVICE = (
    ".*`enable_checkpointing=True`.*",
    ".*in eval mode at the start.*",  # frozen modules are in eval mode on purpose
)

_IDENTITY = "castlit_protocol"
"""The key in a checkpoint for the identity of its training."""


class ProtocolTraining(pl.LightningModule):
    """What a protocol trains; its checkpoints hold the identity of the training.

    Args:
        identity: Values that are equal in two runs of the same training: ``protocol``, its name, and plain values.
    """

    def __init__(self, identity: dict[str, Any]) -> None:
        super().__init__()
        self.identity = identity
        self._resumed_at = 0

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add the identity."""
        checkpoint[_IDENTITY] = self.identity

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Note the step to resume at."""
        self._resumed_at = checkpoint["global_step"]

    def on_fit_start(self) -> None:
        """Check that all processes resume at the same step: otherwise they would wait for each other forever.

        On a CPU without bfloat16 it warns of ``precision="bf16-mixed"``.

        Raises:
            InputError: The steps differ.
        """
        warn_if_slow(self.trainer)
        steps = gather(torch.tensor([self._resumed_at], device=self.device)).tolist()
        if len(set(steps)) > 1:
            raise InputError(
                f"the processes would resume at different steps ({', '.join(map(str, steps))}): the checkpoint of "
                "protocol.resume must be on a disk that all of them share"
            )

    def check(self, checkpoint: Checkpoint, name: str) -> None:
        """Check that a checkpoint is of this training.

        Args:
            checkpoint: Its content.
            name: What messages call it.

        Raises:
            InputError: It is of another one.
        """
        saved = checkpoint.get(_IDENTITY)
        if not isinstance(saved, dict):
            raise InputError(f"{name}: not a checkpoint of {self.kind}")
        differing = [key for key in self.identity if saved.get(key) != self.identity[key]]
        if "protocol" in differing:
            raise InputError(f"{name} is of another protocol's run: {saved.get('protocol')}")
        if differing:
            was = ", ".join(f"{key} was {saved.get(key)}, not {self.identity[key]}" for key in differing[:2])
            raise InputError(f"{name} is of another run: {was}")

    @property
    def kind(self) -> str:
        """What messages call the training."""
        return f"{self.identity['protocol']}'s training"


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
    """Train, then run the validation once, and print how to open the logs; batch norms use the images of all processes.

    Args:
        training: What is trained; it keeps the results of its validation.
        data: The images.
        output: The run's folder.
        length: ``max_epochs`` or ``max_steps``.
        make_trainer: Lightning's ``Trainer`` with the user's settings.
        callbacks: Lightning's, by name. Each ``functools.partial`` is called, with its paths below ``output``; None is
            left out.
        loggers: Lightning's, likewise.
        resume: ``"last"`` resumes from the folder's last checkpoint, if there is one; or the path of one.

    Raises:
        InputError: The checkpoint is missing, damaged, or of another training; or Lightning cannot make a trainer with
            these settings.
    """
    watching, logging_to = _made("callbacks", callbacks, output), _made("logger", loggers, output)
    # Before anything slow: an error in resume should come at once.
    checkpoint = start(
        resume,
        output / LAST_CHECKPOINT,
        output,
        key="protocol.resume",
        kind=training.kind,
        check=training.check,
        loggers=logging_to,
    )
    with quiet_lightning(*_ADVICE):
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
        accept()
        if checkpoint is None:
            put_aside(output / LAST_CHECKPOINT, "protocol.resume")
        try:
            with restoring(checkpoint):
                trainer.fit(training, data, ckpt_path=checkpoint, weights_only=True)
            trainer.limit_val_batches = 1.0
            trainer.validate(training, data, verbose=False)
        except Stopped as stop:
            report_stop(stop, trainer, f"protocol.resume={output / LAST_CHECKPOINT}")
            raise
    for line in open_lines(trainer.loggers):
        _print(line)


_print = rank_zero_only(print)


def _made(key: str, parts: Mapping[str, Any] | None, output: Path) -> list[Any]:
    """Callbacks or loggers; their paths are taken relative to a run's folder."""
    made = []
    for name, part in (parts or {}).items():
        if isinstance(part, partial):
            try:
                made.append(part(**{path: output / part.keywords[path] for path in _PATHS if path in part.keywords}))
            except (TypeError, ValueError) as error:
                message = str(error) if str(error).startswith(f"{key}.") else f"{key}.{name}: {error}"
                raise InputError(f"protocol.{message}") from None
        elif part is not None:
            made.append(part)
    return made
