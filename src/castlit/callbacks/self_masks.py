"""``masks=self``: the masks come from where the encoder itself looks, and come anew every few epochs."""

import logging
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from numpy.typing import NDArray
from torch import Tensor

from castlit.callbacks.mask_maker import REFINEMENTS, Counts, MaskMaker, blocks, no_trace, note_counts
from castlit.callbacks.progress_bar import counted
from castlit.data.datamodules.datasets import normalise
from castlit.data.datamodules.full_images import self_masked, whole_loader
from castlit.data.index.file_source import FileSource
from castlit.data.io import mask_versions as editions
from castlit.utils.cores import available_cores
from castlit.utils.validation import InputError, require_choice, require_int, require_number

logger = logging.getLogger(__name__)


class SelfMasks(pl.Callback):
    """Makes the masks of a data module that has none of its own (``masks="self"``), from the encoder that it trains.

    For the first ``warmup_epochs`` there are no masks: crops are unconstrained, and there is no attention loss. Then,
    and every few epochs from there, each image is looked at once: where does it differ from the other images of its
    batch (ContraCAM, see :meth:`castlit.CASTModule.find_objects`)? The maps are brought to the image's edges and
    written as 8-bit PNGs to ``<path>/epoch_<number>/train`` and ``val``. Until the next time they are the masks, where
    they exceed the data's ``threshold``. The last two editions stay.

    An image where nothing is found, or nearly everything, gets an empty mask: it has free crops and takes no part in
    the attention loss. ``masks.json`` beside the PNGs counts them.

    Nothing else about the run changes: it draws the same random numbers, and a run that is broken off and resumed takes
    up the masks that it had. Where these are gone, it makes new ones, and says so.

    Args:
        path: Folder for the masks.
        warmup_epochs: Epochs before the first masks, at least 1: an untrained encoder looks anywhere.
        every_n_epochs: Epochs until they are made anew, at least 1.
        size: Side in pixels at which images are looked at; None: that of the training views.
        batch_size: Images that are told from each other, at least 2.
        iterations: How often each image is looked at; what was found is painted over in between.
        refine: How maps are brought to the image's edges: ``"crf"``, ``"guided"`` or ``"none"``, see
            :mod:`castlit.saliency.algorithms.refine`.
        most: Share of the image above which a mask counts as everything, in (0, 1].

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
        self.edition: int | None = None
        """Whose masks are in use: those made when so many epochs were done; None before the first."""
        self._wanting: list[tuple[FileSource, NDArray[np.int64]]] = []

    def state_dict(self) -> dict[str, Any]:
        """Which masks a resumed run takes up."""
        return {} if self.edition is None else {"edition": self.edition}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take it back."""
        self.edition = state_dict["edition"]

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Find out whether the data wants masks, and tell it where they will be."""
        self._wanting = self_masked(trainer.datamodule)  # type: ignore[attr-defined]
        for source, _ in self._wanting:
            assert source.own is not None
            source.own.folder = self.path
        if self._wanting and stage == "fit":
            self._check(trainer, pl_module)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Take up the masks that a resumed run had."""
        if not self._wanting:
            return
        if self.edition is not None:
            self._recover(trainer, pl_module, self.edition)
        self._turn_to(self.edition)

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Make new masks, if it is time to; no image of this epoch has been read yet."""
        since = trainer.current_epoch - self.warmup_epochs
        due = since >= 0 and (self.edition is None or since % self.every_n_epochs == 0)
        if self._wanting and due:
            self._make(trainer, pl_module, trainer.current_epoch)

    def _check(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if not hasattr(pl_module, "find_objects"):
            raise InputError(f"masks=self needs a CASTModule: {type(pl_module).__name__} has no find_objects")
        last = trainer.max_epochs
        if last is not None and 0 <= last <= self.warmup_epochs and not trainer.fast_dev_run:  # type: ignore[attr-defined]
            raise InputError(
                f"masks=self: the first masks would come after {self.warmup_epochs} epochs, and the run has {last}: "
                "set callbacks.self_masks.warmup_epochs (and every_n_epochs), or train longer (trainer.max_epochs)"
            )
        if self.size is not None:
            # Rather now than after days: a ViT takes no image that its patches do not divide.
            images = torch.zeros(2, 3, self.size, self.size, dtype=next(pl_module.parameters()).dtype)
            with no_trace(pl_module):
                try:
                    pl_module.find_objects(images.to(pl_module.device))  # type: ignore[operator]
                except (ValueError, RuntimeError, AssertionError) as error:
                    raise InputError(
                        f"callbacks.self_masks.size={self.size}: the encoder refuses it ({error})"
                    ) from error

    def _turn_to(self, edition: int | None) -> None:
        self.edition = edition
        for source, _ in self._wanting:
            assert source.own is not None
            source.own.turn_to(edition)

    def _recover(self, trainer: pl.Trainer, pl_module: pl.LightningModule, edition: int) -> None:
        """See that the masks are there which the checkpoint's run had."""
        # A run may start from another run's checkpoint, <run>/checkpoints/last.ckpt; then the masks are beside that.
        beside = Path(trainer.ckpt_path or "").resolve().parent.parent / self.path.name
        places = [place for place in (beside, self.path.resolve()) if editions.folder_of(place, edition).is_dir()]
        found = trainer.strategy.broadcast(places[0] if places else None)  # what the first process found
        if found is None:
            logger.warning("%s: this run's masks are gone, and made anew", editions.folder_of(self.path, edition))
            self._make(trainer, pl_module, edition)
        elif found != self.path.resolve():
            if trainer.is_global_zero:
                editions.copy(found, self.path, edition)
            trainer.strategy.barrier()

    def _make(self, trainer: pl.Trainer, pl_module: pl.LightningModule, edition: int) -> None:
        """Make an edition, each process its share, and use it."""
        started = time.monotonic()
        if trainer.is_global_zero:
            editions.begin(self.path, edition)
        trainer.strategy.barrier()
        with no_trace(pl_module):
            for source, which in self._wanting:
                self._make_for(trainer, pl_module, source, which, edition)
        trainer.strategy.barrier()
        if trainer.is_global_zero:
            editions.finish(self.path, edition)
            # The last checkpoint may still tell of the masks in use so far.
            editions.remove_all_but(self.path, {edition, self.edition})
            logger.info("The masks are now those of epoch %d (made in %.0f s)", edition, time.monotonic() - started)
        trainer.strategy.barrier()
        self._turn_to(edition)

    def _make_for(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        source: FileSource,
        which: NDArray[np.int64],
        edition: int,
    ) -> None:
        """Make this process's share of a source's masks, and let the first process write down what became of all."""
        assert source.own is not None
        folder = editions.part_of(self.path, edition)
        # The blocks do not depend on the number of processes, and so the masks do not.
        mine = blocks(which, self.batch_size)[trainer.global_rank :: trainer.world_size]
        maker = MaskMaker(
            lambda images: self._find(trainer, pl_module, images),
            self.refine,
            self.most,
            threads=max(1, available_cores() // trainer.num_devices),
        )
        data: Any = trainer.datamodule  # type: ignore[attr-defined]
        size = data.size if self.size is None else self.size
        title = f"Masks of epoch {edition} ({source.own.split})"
        with counted(trainer, title, sum(map(len, mine))) as done:
            counts = maker.make(source, whole_loader(data, source, mine, size), folder, done)
        total = trainer.strategy.reduce(torch.tensor(counts, device=pl_module.device), reduce_op="sum")
        if trainer.is_global_zero:
            settings = {name: getattr(self, name) for name in ("batch_size", "iterations", "refine", "most")}
            note_counts(folder / source.own.split, edition, Counts(*total.tolist()), {"size": size, **settings})

    def _find(self, trainer: pl.Trainer, pl_module: pl.LightningModule, images: Tensor) -> Tensor:
        pixels = normalise(images.to(pl_module.device))
        precision = trainer.precision_plugin
        with precision.forward_context():
            found: Tensor = pl_module.find_objects(precision.convert_input(pixels), self.iterations)  # type: ignore[operator]
        return found
