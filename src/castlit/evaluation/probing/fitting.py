"""Train a classifier under Lightning, from where an earlier run was if that is wished, and test it."""

import pickle
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.utilities import rank_zero_only

from castlit.evaluation.detection.running import LAST, _without_advice, in_folder
from castlit.evaluation.probing.classifier import KEY, Classifier
from castlit.evaluation.probing.data import ProbeData
from castlit.evaluation.protocol import Results
from castlit.nn.checks import InputError
from castlit.nn.stopping import Stopped


def fit_and_test(
    classifier: Classifier,
    data: ProbeData,
    output: Path,
    make_trainer: Callable[..., pl.Trainer] = pl.Trainer,
    callbacks: Mapping[str, Any] | None = None,
    loggers: Mapping[str, Any] | None = None,
    resume: str | None = None,
) -> Results:
    """Train for the recipe's epochs, and test.

    Args:
        classifier: What is trained.
        data: On what.
        output: The run's folder.
        make_trainer: Lightning's ``Trainer`` with the user's settings.
        callbacks: What watches the training, saves it and shows how far it is.
        loggers: Where figures go.
        resume: ``"last"`` goes on from the folder's ``checkpoints/last.ckpt``, if it is there; or the path of one.

    Returns:
        ``top1`` and ``top5`` of the test images, in [0, 100].

    Raises:
        InputError: The checkpoint to go on from is missing, damaged, or of another training.
    """
    start = starting_point(resume, output, classifier.identity)
    watching = in_folder(callbacks, output)
    with _without_advice():
        warnings.filterwarnings("ignore", message=".*in eval mode at the start.*")  # frozen: on purpose
        trainer = make_trainer(
            max_epochs=classifier.recipe.epochs,
            callbacks=watching,
            logger=in_folder(loggers, output) or False,
            default_root_dir=output,
            num_sanity_val_steps=0,
            limit_val_batches=0,  # one test, at the end
            use_distributed_sampler=False,
            enable_checkpointing=any(isinstance(part, pl.callbacks.Checkpoint) for part in watching),
        )
        try:
            trainer.fit(classifier, data, ckpt_path=start, weights_only=True)
            trainer.limit_val_batches = 1.0
            trainer.validate(classifier, data, verbose=False)
        except Stopped:
            rank_zero_only(print)(f"stopped in epoch {trainer.current_epoch}: protocol.resume={output / LAST} goes on")
            raise
    return {"top1": classifier.top1, "top5": classifier.top5}


def starting_point(resume: str | None, output: Path, identity: dict[str, Any]) -> Path | None:
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
    its = content.get(KEY) if isinstance(content, dict) else None
    if not isinstance(its, dict):
        raise InputError(f"protocol.resume={resume}: not a checkpoint of a classifier's training")
    differing = [key for key in identity if its.get(key) != identity[key]]
    if differing:
        was = ", ".join(f"{key} was {its.get(key)}, not {identity[key]}" for key in differing[:2])
        raise InputError(f"protocol.resume={resume} is of another run: {was}")
    return path
