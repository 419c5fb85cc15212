"""The training loader, whose position is saved so that a run can resume within an epoch; and workers' options."""

import sys
from collections.abc import Iterator
from typing import Any

import cv2
import torch

from castlit.data.datamodules.sampler import EpochSampler
from castlit.data.datamodules.worker_loader import WorkerLoader
from castlit.utils.signals import defer_signals

Position = dict[str, int]


class ViewLoader(WorkerLoader):
    """A ``DataLoader`` over an :class:`castlit.data.datamodules.sampler.EpochSampler` that can resume within an epoch.

    Lightning saves ``state_dict`` in its checkpoints and restores it when it resumes within an epoch. The position is
    counted in images of all processes together, so that a run can resume with another number of processes.

    Args:
        *args: As for ``DataLoader``.
        images_per_batch: Images in a batch of all processes together.
        **options: As for ``DataLoader``; ``sampler`` must be an ``EpochSampler``, unless Lightning replaces it.
    """

    def __init__(self, *args: Any, images_per_batch: int, **options: Any) -> None:  # noqa: ANN401
        super().__init__(*args, **options)
        self.images_per_batch = images_per_batch
        self._position: Position = {"epoch": 0, "images": 0}
        self._resume: Position | None = None

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]
        # A generator, which does nothing before the first batch: Lightning calls the sampler's set_epoch only after it
        # has created the iterator.
        return self._batches()

    def _batches(self) -> Iterator[Any]:
        if not isinstance(self.sampler, EpochSampler):
            # trainer.overfit_batches replaces the sampler: the same few batches in every epoch.
            yield from super().__iter__()
            return
        epoch, done = self.sampler.epoch, 0
        if self._resume is not None and self._resume["epoch"] == epoch:
            done = self._resume["images"]
        self._resume = None
        if self.batch_size is None:  # the sampler yields batches
            self.sampler.skip = done // self.images_per_batch
        else:
            self.sampler.skip = done * self.batch_size // self.images_per_batch
        self._position = {"epoch": epoch, "images": done}
        for batch in super().__iter__():
            self._position = {"epoch": epoch, "images": self._position["images"] + self.images_per_batch}
            yield batch

    def state_dict(self) -> Position:
        """The position: the epoch, and the number of its images that were yielded."""
        return dict(self._resume or self._position)

    def load_state_dict(self, state: Position) -> None:
        """Skip these images in the next iteration over their epoch."""
        self._resume = {"epoch": int(state["epoch"]), "images": int(state["images"])}
        if isinstance(self.sampler, EpochSampler):
            self.sampler.set_epoch(self._resume["epoch"])


def worker_options(workers: int, seed: int) -> dict[str, Any]:
    """The options of ``DataLoader`` that all castlit loaders share.

    Args:
        workers: Loader processes; 0 loads in this process.
        seed: Seed of the loader's own draws.
    """
    # Forked workers share images in memory. Linux only: fork is unsafe on macOS and missing on Windows.
    fork = workers > 0 and sys.platform == "linux"
    return {
        "num_workers": workers,
        "persistent_workers": workers > 0,
        "multiprocessing_context": "fork" if fork else None,
        "pin_memory": torch.cuda.is_available(),
        "worker_init_fn": start_worker,
        # The loader draws its workers' seed from this generator, and so does not change the global one.
        "generator": torch.Generator().manual_seed(seed),
    }


def start_worker(worker_id: int) -> None:
    """Set up a worker process: it leaves stop signals to the training process; OpenCV is silent and uses one thread.

    OpenCV's threads do not survive a fork, and would compete with the workers. castlit reports bad files itself.
    """
    defer_signals()
    cv2.setNumThreads(0)
    cv2.utils.logging.setLogLevel(0)
