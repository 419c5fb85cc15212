"""How a detector is built and trained: the keys that the detection protocols share."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import pytorch_lightning as pl

from castlit.utils.validation import InputError, as_list, did_you_mean, require_int, require_number

ANCHORS = (32, 64, 128, 256, 512)
"""Sides of the anchors in pixels."""

_LEVELS = 5  # of a feature pyramid, including the one for proposals only
_RATE_AT_START = 0.001  # as a fraction of lr


@dataclass(frozen=True)
class DetectorSettings:
    """How a detector is built and trained.

    Each protocol's module holds the paper's settings; users override single keys. Single numbers are taken as lists.

    Args:
        iterations: Training steps.
        drops: Steps after which the learning rate falls to a tenth.
        warmup: Steps in which the learning rate rises linearly from a thousandth.
        min_size: Short sides in pixels, ≥ 32. One is drawn for each training image; the test uses the last.
        max_size: Upper bound of the long side in pixels.
        lr: Learning rate for batches of 16 images.
        weight_decay: Of all parameters except those of norms.
        batch_size: Images per step, over all processes.
        anchors: Sides of the anchors in pixels; a feature pyramid takes five.
        boxes: Proposals per training image that the head learns from.
        proposals: Proposals per test image that the head sees.
        workers: Loader processes; None: eight, or fewer where there are fewer cores.
        resume: ``"last"`` resumes from ``checkpoints/last.ckpt`` in the run's folder; or the path of a checkpoint.
        trainer: Lightning's ``Trainer``, with the user's settings.
        callbacks: By name, see :func:`castlit.evaluation.training.fit_and_test`.
        logger: By name, likewise.

    Raises:
        InputError: A value is out of range.
    """

    iterations: int
    drops: Sequence[int]
    warmup: int
    min_size: Sequence[int]
    max_size: int = 1333
    lr: float = 0.02
    weight_decay: float = 1e-4
    batch_size: int = 16
    anchors: Sequence[int] = ANCHORS
    boxes: int = 512
    proposals: int = 1000
    workers: int | None = None
    resume: str | None = None
    trainer: Callable[..., pl.Trainer] = pl.Trainer
    callbacks: Mapping[str, Any] | None = None
    logger: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        for key, low in (("drops", 0), ("min_size", 32), ("anchors", 1)):
            values = [require_int(f"protocol.{key}", value, low) for value in as_list(getattr(self, key))]
            object.__setattr__(self, key, tuple(sorted(values) if key == "drops" else values))
        if not self.min_size:
            raise InputError("protocol.min_size needs at least one short side, such as [800]")
        if not self.anchors:
            raise InputError("protocol.anchors needs at least one side, such as [64]")
        require_int("protocol.max_size", self.max_size, max(self.min_size))
        for key in ("iterations", "batch_size", "boxes", "proposals"):
            require_int(f"protocol.{key}", getattr(self, key), 1)
        require_int("protocol.warmup", self.warmup, 0)
        object.__setattr__(self, "lr", require_number("protocol.lr", self.lr, above=0))
        object.__setattr__(self, "weight_decay", require_number("protocol.weight_decay", self.weight_decay, 0))
        if self.workers is not None:
            require_int("protocol.workers", self.workers, 0)

    def override(self, keys: Mapping[str, Any]) -> "DetectorSettings":
        """Return a copy with the user's values.

        Args:
            keys: Values by field. Without ``drops`` (or None), the drops scale with ``iterations``.

        Raises:
            InputError: A key is unknown, or a value is out of range.
        """
        known = [field.name for field in fields(self)]
        for key in keys:
            if key not in known:
                raise InputError(f"protocol.{key} is not a key of this protocol{did_you_mean(key, known)}")
        values = dict(keys)
        if values.get("drops") is None:
            iterations = require_int("protocol.iterations", values.get("iterations", self.iterations), 1)
            values["drops"] = [round(drop / self.iterations * iterations) for drop in self.drops]
        return replace(self, **values)

    def require_pyramid_anchors(self) -> None:
        """Check the number of anchors for a feature pyramid.

        Raises:
            InputError: The number of anchors is not five.
        """
        if len(self.anchors) != _LEVELS:
            raise InputError(
                f"protocol.anchors={list(self.anchors)}: a feature pyramid takes {_LEVELS} sides, one for each level, "
                "and c4 one or more"
            )

    def lr_factor(self, step: int) -> float:
        """Return the learning rate at a step, as a fraction of ``lr``."""
        rise = min(1.0, _RATE_AT_START + (1 - _RATE_AT_START) * step / self.warmup) if self.warmup else 1.0
        fall: float = 0.1 ** sum(step >= drop for drop in self.drops)
        return rise * fall
