"""``masks=self``: the encoder in training makes the masks, and makes new ones every few epochs."""

import logging
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from castlit.callbacks.mask_maker import (
    REFINEMENTS,
    Counts,
    Draw,
    MaskMaker,
    split_batches,
    temporary_eval,
    write_counts,
)
from castlit.callbacks.work_progress import progress_of
from castlit.data.datamodules.datasets import normalise
from castlit.data.datamodules.full_images import full_image_loader, self_masked_sources
from castlit.data.index.file_source import FileSource
from castlit.data.io import mask_versions
from castlit.data.io.mask_versions import folder_of
from castlit.utils.cores import available_cores
from castlit.utils.lightning import pl
from castlit.utils.validation import InputError, require_choice, require_int, require_number

if TYPE_CHECKING:
    from castlit.saliency.spectral.features import CellFeatures

logger = logging.getLogger(__name__)

CONTRACAM = "contracam"
METHODS = ("border_cut", "tokencut", "lost", "deep_spectral", CONTRACAM)
"""How masks can be made: from the encoder's features, or from its CAMs."""

CELLS = 12
"""Cells along an image's side below which a cut is too coarse: ``size=None`` gives at least these."""


class SelfMasks(pl.Callback):
    """Makes the masks of a data module with ``masks="self"``, from the encoder in training.

    For the first ``warmup_epochs`` there are no masks: crops are unconstrained, and there is no attention loss. Then,
    and again every ``every_n_epochs``, a map is made for each image: of its object by the encoder's features and its
    colours (:mod:`castlit.saliency.spectral`), or of what differs from the other images of its batch (ContraCAM, see
    :meth:`castlit.CASTModule.find_objects`). The maps are aligned with the image's edges and written as 8-bit PNGs to
    ``<path>/epoch_<number>/train`` and ``val``. Until the next version they are the masks, where they exceed the data's
    ``threshold``. The last two versions stay.

    An image in which nothing is found, or nearly everything, gets an empty mask: it has free crops and is left out of
    the attention loss. ``masks.json`` next to the PNGs counts such images.

    The rest of the run does not change: it draws the same random numbers, and an interrupted run resumes with its
    masks. If these are gone, it makes new ones and logs a warning.

    Args:
        path: Folder for the masks.
        warmup_epochs: Epochs before the first masks, at least 1: an untrained encoder finds no objects.
        every_n_epochs: Epochs between two versions, at least 1.
        size: Side in pixels of the encoder's input; None: that of the training views, or that of :data:`CELLS` cells of
            the last feature map, if the method cuts features and this is more.
        batch_size: Images in a pass, at least 2; ContraCAM contrasts them with each other.
        iterations: ContraCAM's iterations; each masks what the earlier ones found.
        refine: How to align maps with the image's edges: ``"crf"``, ``"guided"`` or ``"none"``, see
            :mod:`castlit.saliency.algorithms.refine`.
        most: Fraction of the image above which a mask counts as everything, in (0, 1].
        method: One of :data:`METHODS`, see :mod:`castlit.saliency.spectral.discovery`.

    Raises:
        InputError: An argument is out of range.
    """

    def __init__(
        self,
        path: str | Path = "self_masks",
        warmup_epochs: int = 20,
        every_n_epochs: int = 20,
        size: int | None = None,
        batch_size: int = 64,
        iterations: int = 1,
        refine: str = "guided",
        most: float = 0.95,
        method: str = "border_cut",
    ) -> None:
        key = "callbacks.self_masks"
        self.path = Path(path)
        self.warmup_epochs = require_int(f"{key}.warmup_epochs", warmup_epochs, low=1)
        self.every_n_epochs = require_int(f"{key}.every_n_epochs", every_n_epochs, low=1)
        self.size = None if size is None else require_int(f"{key}.size", size, low=1)
        self.batch_size = require_int(f"{key}.batch_size", batch_size, low=2)
        self.iterations = require_int(f"{key}.iterations", iterations, low=1)
        self.refine = require_choice(f"{key}.refine", refine, REFINEMENTS)
        self.most = require_number(f"{key}.most", most, high=1, above=0)
        self.method = require_choice(f"{key}.method", method, METHODS)
        self.version: int | None = None
        """The masks in use: the number of epochs after which they were made; None before the first."""
        self._sources: list[tuple[FileSource, NDArray[np.int64]]] = []

    def state_dict(self) -> dict[str, Any]:
        """The version of the masks, for a resumed run."""
        return {} if self.version is None else {"edition": self.version}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore it."""
        self.version = state_dict["edition"]

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Find the data's sources that need masks, and set their folder."""
        self._sources = self_masked_sources(trainer.datamodule)  # type: ignore[attr-defined]
        for source, _ in self._sources:
            assert source.mask_store is not None
            source.mask_store.folder = self.path
        if self._sources and stage == "fit":
            self._check(trainer, pl_module)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Use the masks that a resumed run had."""
        if not self._sources:
            return
        if self.version is not None:
            self._recover(trainer, pl_module, self.version)
        self._use(self.version)

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Make new masks, if they are due; no image of this epoch has been read yet."""
        since = trainer.current_epoch - self.warmup_epochs
        due = since >= 0 and (self.version is None or since % self.every_n_epochs == 0)
        if self._sources and due:
            self._make(trainer, pl_module, trainer.current_epoch)

    def _check(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if not hasattr(pl_module, "find_objects"):
            raise InputError(f"masks=self needs a CASTModule: {type(pl_module).__name__} has no find_objects()")
        last = trainer.max_epochs
        if last is not None and 0 <= last <= self.warmup_epochs and not trainer.fast_dev_run:  # type: ignore[attr-defined]
            raise InputError(
                f"masks=self: the first masks would come after {self.warmup_epochs} epochs, and the run has {last}: "
                "set callbacks.self_masks.warmup_epochs (and every_n_epochs), or train longer (trainer.max_epochs)"
            )
        # Fail now and not after days: a ViT does not accept a size that its patches do not divide.
        with temporary_eval(pl_module, align=False):
            if self.method != CONTRACAM:
                self._cells(trainer, pl_module)
            elif self.size is not None:
                images = torch.zeros(2, 3, self.size, self.size, dtype=next(pl_module.parameters()).dtype)
                try:
                    pl_module.find_objects(images.to(pl_module.device))  # type: ignore[operator]
                except (ValueError, RuntimeError, AssertionError) as error:
                    raise InputError(
                        f"callbacks.self_masks.size={self.size}: the encoder does not accept it ({error})"
                    ) from error

    def _use(self, version: int | None) -> None:
        self.version = version
        for source, _ in self._sources:
            assert source.mask_store is not None
            source.mask_store.use_version(version)

    def _recover(self, trainer: pl.Trainer, pl_module: pl.LightningModule, version: int) -> None:
        """Find the masks of the checkpoint's run, or make them again."""
        # A run may start from the checkpoint of another run, <run>/checkpoints/last.ckpt, which has its own masks.
        other = Path(trainer.ckpt_path or "").resolve().parent.parent / self.path.name
        folders = [folder for folder in (other, self.path.resolve()) if folder_of(folder, version).is_dir()]
        found = trainer.strategy.broadcast(folders[0] if folders else None)  # the first process decides
        if found is None:
            logger.warning("%s: this run's masks are gone; making new ones", folder_of(self.path, version))
            self._make(trainer, pl_module, version)
        elif found != self.path.resolve():
            if trainer.is_global_zero:
                mask_versions.copy(found, self.path, version)
            trainer.strategy.barrier()

    def _make(self, trainer: pl.Trainer, pl_module: pl.LightningModule, version: int) -> None:
        """Make a version, the images split over the processes, and use it."""
        started = time.monotonic()
        if trainer.is_global_zero:
            mask_versions.begin(self.path, version)
        trainer.strategy.barrier()
        with temporary_eval(pl_module):
            for source, which in self._sources:
                self._make_for(trainer, pl_module, source, which, version)
        trainer.strategy.barrier()
        if trainer.is_global_zero:
            mask_versions.finish(self.path, version)
            # The last checkpoint may refer to the version used so far.
            mask_versions.remove_all_but(self.path, {version, self.version})
            logger.info("The masks are now those of epoch %d (made in %.0f s)", version, time.monotonic() - started)
        trainer.strategy.barrier()
        self._use(version)

    def _make_for(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        source: FileSource,
        which: NDArray[np.int64],
        version: int,
    ) -> None:
        """Make this process's part of a source's masks; the first process writes the counts of all."""
        assert source.mask_store is not None
        folder = mask_versions.part_of(self.path, version)
        # The batches, and so the masks, do not depend on the number of processes.
        mine = split_batches(which, self.batch_size)[trainer.global_rank :: trainer.world_size]
        data: Any = trainer.datamodule  # type: ignore[attr-defined]
        size, find, draw = self._how(trainer, pl_module)
        threads = max(1, available_cores() // trainer.num_devices)
        maker = MaskMaker(find, draw, self.refine, self.most, threads)
        title = f"Masks of epoch {version} ({source.mask_store.split})"
        with progress_of(trainer, title, sum(map(len, mine))) as done:
            counts = maker.make(source, full_image_loader(data, source, mine, size), folder, done)
        total = trainer.strategy.reduce(torch.tensor(counts, device=pl_module.device), reduce_op="sum")
        if trainer.is_global_zero:
            named = ("method", "batch_size", "iterations", "refine", "most")
            settings = {name: getattr(self, name) for name in named}
            write_counts(folder / source.mask_store.split, version, Counts(*total.tolist()), {"size": size, **settings})

    def _how(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule
    ) -> tuple[int, Callable[[Tensor], Tensor], Draw | None]:
        """The images' side in pixels, and the two steps from images to maps."""
        data: Any = trainer.datamodule  # type: ignore[attr-defined]
        module: Any = pl_module
        if self.method == CONTRACAM:
            found = partial(module.find_objects, iterations=self.iterations)
            return self.size or data.size, partial(self._find, trainer, pl_module, found), None
        # Not at the top: it imports scikit-image, which takes a second, and only these runs need it.
        from castlit.saliency.spectral.predictor import object_map
        from castlit.saliency.spectral.settings import SpectralSettings

        cells = self._cells(trainer, pl_module)
        settings = SpectralSettings(self.method)
        return (
            cells.entry.side,
            partial(self._find, trainer, pl_module, torch.no_grad()(cells.of_batch)),
            lambda pixels, features: object_map(features, pixels, settings),
        )

    def _cells(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> "CellFeatures":
        """What computes the features that are cut."""
        from castlit.saliency.spectral.features import CellFeatures

        data: Any = trainer.datamodule  # type: ignore[attr-defined]
        module: Any = pl_module
        return CellFeatures(
            module.encoder.backbone, size=self.size, key="callbacks.self_masks", square=(data.size, CELLS)
        )

    def _find(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        step: Callable[[Tensor], Tensor],
        images: Tensor,
    ) -> Tensor:
        pixels = normalise(images.to(pl_module.device))
        precision = trainer.precision_plugin
        with precision.forward_context():
            return step(precision.convert_input(pixels))
