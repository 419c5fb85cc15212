"""Start a run from weights that exist: the backbone is a file's, heads and queue are fresh."""

from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from castlit.callbacks.record import RunRecord
from castlit.interop import RANDOM, load_into
from castlit.module import CASTModule
from castlit.utils.lightning import pl, rank_zero_only
from castlit.utils.validation import InputError


def load_start_weights(config: DictConfig, module: CASTModule, trainer: pl.Trainer, checkpoint: Path | None) -> None:
    """Load the weights that the config names into a run's backbones, print what they are, and note it in its record.

    Args:
        config: The config of ``castlit.train``; ``weights`` is a file or a name, see
            :func:`castlit.interop.read_weights`, or null or ``random`` for a start from scratch.
        module: What will be trained. Its momentum encoder starts from the same weights.
        trainer: That will train it.
        checkpoint: What the run resumes from: then its weights are the checkpoint's.

    Raises:
        InputError: The weights cannot be read, or are those of another backbone; or ``resume`` names a checkpoint, too.
    """
    weights = config.weights
    if weights is None or weights == RANDOM:
        return
    if not isinstance(weights, str) or not weights:
        raise InputError(
            f"weights must be null, random, a file, or a name such as torchvision/resnet50; got {weights!r}"
        )
    if checkpoint is not None:
        if config.resume not in (None, "last"):
            raise InputError(
                f"weights={weights} and resume={config.resume} are two starts of one run: give one of them"
            )
        return
    name = OmegaConf.select(config, "module.method.backbone")
    name = name if isinstance(name, str) else None
    read = load_into(module.encoder.backbone, weights, "weights", name)  # type: ignore[arg-type]
    momentum = getattr(module.method, "momentum_encoder", None)
    if momentum is not None:
        momentum.backbone.load_state_dict(module.encoder.backbone.state_dict())  # type: ignore[union-attr]
    source = f"this {read.kind} (left out: {', '.join(read.left_out) or 'nothing'})"
    _print(f"weights={weights}: {name or 'the backbone'} starts from {source}; its head is fresh")
    note: dict[str, Any] = {"from": weights, "kind": read.kind, "left_out": list(read.left_out)}
    callbacks: list[pl.Callback] = trainer.callbacks  # type: ignore[attr-defined]
    for callback in callbacks:
        if isinstance(callback, RunRecord):
            callback.weights = note


_print = rank_zero_only(print)
