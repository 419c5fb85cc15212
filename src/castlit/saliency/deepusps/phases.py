"""The two phases of DeepUSPS, resumable from the folder that stores their results."""

import io
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from castlit.interop import load_into
from castlit.optim import OptimizerRecipe
from castlit.saliency.algorithms.registry import METHODS_VERSION
from castlit.saliency.algorithms.superpixels import Map
from castlit.saliency.deepusps.fit import MapsDataset, fit
from castlit.saliency.deepusps.network import SaliencyNetwork
from castlit.saliency.deepusps.predictor import Predictor, predict
from castlit.saliency.deepusps.pseudo_labels import Levels, PseudoLabels, discretise, make_pseudo_labels, refine_targets
from castlit.saliency.deepusps.rows import Rows
from castlit.saliency.deepusps.settings import FUSED, Settings, digest_of
from castlit.saliency.deepusps.state import NETWORK, check_state, settings_of
from castlit.saliency.deepusps.training import SaliencyTraining
from castlit.utils.atomic_write import write_atomic
from castlit.utils.cores import available_cores
from castlit.utils.plain_file import DamagedFileError, read_plain
from castlit.utils.validation import InputError, require_int, require_number

_BATCH = 32  # images per prediction

logger = logging.getLogger(__name__)


def train_deepusps(
    images: Sequence[Path],
    folder: Path,
    *,
    crf: bool = True,
    fused: float = FUSED,
    workers: int | None = None,
    accelerator: str = "auto",
    precision: str | None = None,
    **settings: Any,  # noqa: ANN401
) -> Predictor:
    """Train on these images, or resume an interrupted training.

    This starts processes that import the main script: in a script, call it below ``if __name__ == "__main__":``.

    Args:
        images: Files to learn from; those that cannot be read are skipped.
        folder: For targets and networks; pseudo-labels are stored beside it and can be shared by trainings. After an
            interruption, even a kill, the next call with the same arguments resumes; on a CPU, to the same result. A
            call for a finished folder trains nothing, and accepts other images.
        crf: Whether the predictor aligns its maps to the images' edges.
        fused: Weight, in [0, 1], of the map of ``quality=fused`` beside the network's in the predictor's.
        workers: Processes for pseudo-labels and their refinement. None: all cores; 0: works in this process.
        accelerator: Lightning's: ``"auto"``, ``"cpu"``, ``"gpu"`` ...
        precision: Lightning's; None: bfloat16 on a GPU that has it, otherwise float32.
        **settings: Of :class:`castlit.saliency.deepusps.Settings`.

    Returns:
        A function from an upright image (H, W, 3) RGB uint8 of any size to its map (H, W) in [0, 1].

    Raises:
        InputError: A setting is not valid, there is nothing to learn from, or the folder contains a training with other
            settings, or an unfinished one on other images.
        OSError: The folder cannot be written.
    """
    if not images:
        raise InputError("deepusps has no images to learn from")
    wanted = Settings.of(settings)
    fused = require_number("deepusps.fused", fused, 0, 1)
    workers = available_cores() if workers is None else require_int("workers", workers, 0)
    paths = _sample(sorted(images), wanted)
    run = _Run(paths, folder, wanted, workers, accelerator, precision)
    new_network(wanted)  # Report a bad backbone before the long work and before anything is written.
    finished = (folder / NETWORK).exists()
    check_state(folder, wanted.plain(), digest_of(paths), len(paths), finished)
    if not finished:
        run.train()
    return load_deepusps(folder, crf=crf, fused=fused, accelerator=accelerator)


def load_deepusps(folder: Path, *, crf: bool = True, fused: float = FUSED, accelerator: str = "auto") -> Predictor:
    """Load the predictor of a finished training.

    Args:
        folder: The training's, see :func:`train_deepusps`.
        crf: Whether the predictor aligns its maps to the images' edges.
        fused: Weight, in [0, 1], of the map of ``quality=fused`` beside the network's in the predictor's.
        accelerator: Lightning's: ``"auto"``, ``"cpu"``, ``"gpu"`` ...

    Raises:
        InputError: The folder contains no finished training.
    """
    settings, fused = settings_of(folder), require_number("deepusps.fused", fused, 0, 1)
    if not (folder / NETWORK).is_file():
        raise InputError(f"{folder} contains no trained network ({NETWORK}): its training is not finished")
    network = _saved_network(folder / NETWORK, settings).to(_device(accelerator))
    return Predictor(network, settings.size, crf, fused)


def new_network(settings: Settings) -> SaliencyNetwork:
    """The network that every training starts with.

    Raises:
        InputError: There is no such backbone, or the weights do not fit it.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        network = SaliencyNetwork(settings.backbone_name, settings.width)
    if settings.weights is not None:
        load_into(network.backbone, settings.weights, name=settings.backbone_name)
    return network


class _Run:
    """The stages of :func:`train_deepusps`."""

    def __init__(
        self,
        paths: Sequence[Path],
        folder: Path,
        settings: Settings,
        workers: int,
        accelerator: str,
        precision: str | None,
    ) -> None:
        self.paths, self.folder, self.settings = paths, folder, settings
        self.workers, self.accelerator, self.precision = workers, accelerator, precision
        self.device = _device(accelerator)

    def train(self) -> None:
        """Both phases."""
        settings = self.settings
        labels = self._pseudo_labels()
        skipped = len(self.paths) - len(labels.usable)
        if skipped:
            logger.warning("%d of %d images show nothing to learn from", skipped, len(self.paths))
        refined = [self._refined(labels, number) for number in range(len(settings.methods))]
        network = new_network(settings)
        data = MapsDataset(labels.images, refined, labels.usable)
        last = len(settings.methods) * settings.rounds
        self._fit(network, data, "all methods", settings.final_epochs, last)
        self._save(network, NETWORK)
        for method in settings.methods:
            self._targets(method, settings.rounds).remove()

    def _pseudo_labels(self) -> PseudoLabels:
        """Pseudo-labels depend on images, size and methods (and their version) only; other settings reuse them."""
        settings = self.settings
        digest = digest_of(self.paths, settings.size, list(settings.methods), METHODS_VERSION)
        folder = self.folder.parent / f"pseudo_labels_{digest[:8]}"
        return make_pseudo_labels(self.paths, folder, settings.methods, settings.size, self.workers)

    def _refined(self, labels: PseudoLabels, number: int) -> Levels:
        """Phase 1: the targets (N, S, S) of a method after all rounds."""
        settings = self.settings
        method, rounds = settings.methods[number], settings.rounds
        done = next((this for this in range(rounds, 0, -1) if self._has_targets(method, this)), 0)
        targets = self._targets(method, done)
        for row in targets.missing:
            targets.put(row, discretise(labels.maps[row, number]))
        for this in range(done + 1, rounds + 1):
            network = self._round(labels, targets, number, this)
            new = self._targets(method, this)
            predictions = self._predictions(network, labels.images, new.missing)
            refine_targets(
                f"Refining targets ({method}, round {this} of {rounds})",
                targets.values,
                labels.images,
                predictions,
                new,
                settings.momentum,
                self.workers,
            )
            targets.remove()
            targets = new
        return targets.values

    def _round(self, labels: PseudoLabels, targets: Rows, number: int, this: int) -> SaliencyNetwork:
        """Train on a method's targets, unless an earlier process has done it."""
        method, rounds = self.settings.methods[number], self.settings.rounds
        name, before = f"{method}_{this}.pt", f"{method}_{this - 1}.pt"
        if (self.folder / name).exists():
            return _saved_network(self.folder / name, self.settings)
        network = new_network(self.settings) if this == 1 else _saved_network(self.folder / before, self.settings)
        data = MapsDataset(labels.images, [targets.values], labels.usable)
        self._fit(
            network, data, f"{method}, round {this} of {rounds}", self.settings.epochs, number * rounds + this - 1
        )
        self._save(network, name)
        (self.folder / before).unlink(missing_ok=True)
        return network

    def _fit(self, network: SaliencyNetwork, data: MapsDataset, what: str, epochs: int, stage: int) -> None:
        settings, stages = self.settings, len(self.settings.methods) * self.settings.rounds + 1
        recipe = OptimizerRecipe("adamw", settings.lr, weight_decay=settings.weight_decay, warmup_epochs=1)
        # Each training has its own random numbers.
        training = SaliencyTraining(network, recipe, settings.view, settings.seed + 1000 * stage)
        fit(
            training,
            data,
            self.folder / f"training_{stage + 1}.ckpt",
            f"Training {stage + 1} of {stages} ({what})",
            epochs=epochs,
            max_steps=settings.max_steps,
            batch_size=settings.batch_size,
            accelerator=self.accelerator,
            precision=self.precision,
        )

    def _save(self, network: SaliencyNetwork, name: str) -> None:
        with io.BytesIO() as file:
            torch.save(network.cpu().state_dict(), file)
            write_atomic(self.folder / name, file.getvalue(), lasting=True)
        for checkpoint in self.folder.glob("training_*.ckpt"):
            checkpoint.unlink()

    def _has_targets(self, method: str, after: int) -> bool:
        size = self.settings.size
        return Rows.complete(self._targets_file(method, after), len(self.paths), (size, size))

    def _targets(self, method: str, after: int) -> Rows:
        """A method's targets after a number of rounds."""
        size = self.settings.size
        return Rows(self._targets_file(method, after), len(self.paths), (size, size))

    def _targets_file(self, method: str, after: int) -> Path:
        return self.folder / f"{method}_targets_{after}"

    def _predictions(self, network: SaliencyNetwork, images: Levels, rows: list[int]) -> Iterator[Map]:
        network = network.to(self.device).eval()
        for i in range(0, len(rows), _BATCH):
            batch = torch.from_numpy(images[rows[i : i + _BATCH]]).to(self.device).permute(0, 3, 1, 2)
            yield from predict(network, batch)


def _saved_network(path: Path, settings: Settings) -> SaliencyNetwork:
    network = SaliencyNetwork(settings.backbone_name, settings.width)
    try:
        network.load_state_dict(read_plain(path, str(path), "a network of deepusps"))
    except (RuntimeError, TypeError, AttributeError) as error:
        raise DamagedFileError(f"{path}: not a network of deepusps, or damaged ({type(error).__name__})") from error
    return network


def _device(accelerator: str) -> torch.device:
    on_gpu = accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available()
    return torch.device("cuda" if on_gpu else "cpu")


def _sample(images: list[Path], settings: Settings) -> list[Path]:
    """A random sample of the images, of at most the number in the settings."""
    most = settings.train_images
    if most is None or len(images) <= most:
        return images
    chosen = np.random.default_rng(settings.seed).choice(len(images), most, replace=False)
    return [images[i] for i in np.sort(chosen)]
