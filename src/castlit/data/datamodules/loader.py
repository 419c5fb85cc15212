"""The training loader: it knows where it is, so that a run can go on in the middle of an epoch."""

import sys
from collections.abc import Iterator
from typing import Any

import cv2
import torch
from torch.utils.data import DataLoader

from castlit.data.datamodules.sampler import EpochSampler
from castlit.utils.signals import be_patient

Position = dict[str, int]


class ViewLoader(DataLoader[Any]):
    """A ``DataLoader`` over an :class:`castlit.data.datamodules.sampler.EpochSampler` that can be continued where it was left.

    Lightning keeps what ``state_dict`` gives in its checkpoints, and gives it back when it resumes within an epoch.

    The position is told in images of all processes together, so that a run may go on with another number of them.

    Args:
        *args: As for ``DataLoader``.
        images_per_batch: Images in a batch of all processes together.
        **options: As for ``DataLoader``; ``sampler`` must be an ``EpochSampler``.
    """

    sampler: EpochSampler

    def __init__(self, *args: Any, images_per_batch: int, **options: Any) -> None:  # noqa: ANN401
        super().__init__(*args, **options)
        self.images_per_batch = images_per_batch
        self._position: Position = {"epoch": 0, "images": 0}
        self._resume: Position | None = None

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]
        # Nothing happens before the first batch is asked for: Lightning makes the iterator first, and tells the sampler
        # its epoch afterwards.
        return self._batches()

    def _batches(self) -> Iterator[Any]:
        epoch, done = self.sampler.epoch, 0
        if self._resume is not None and self._resume["epoch"] == epoch:
            done = self._resume["images"]
        self._resume = None
        if self.batch_size is None:  # the sampler gives whole batches
            self.sampler.skip = done // self.images_per_batch
        else:
            self.sampler.skip = done * self.batch_size // self.images_per_batch
        self._position = {"epoch": epoch, "images": done}
        for batch in super().__iter__():
            self._position = {"epoch": epoch, "images": self._position["images"] + self.images_per_batch}
            yield batch

    def state_dict(self) -> Position:
        """How far the loader has come: the epoch, and the number of its images that were given out."""
        return dict(self._resume or self._position)

    def load_state_dict(self, state: Position) -> None:
        """Go on behind these images, when their epoch is iterated over next."""
        self._resume = {"epoch": int(state["epoch"]), "images": int(state["images"])}
        self.sampler.set_epoch(self._resume["epoch"])


def worker_options(workers: int, seed: int) -> dict[str, Any]:
    """What castlit's loaders have in common.

    Args:
        workers: Loader processes; 0 loads in this one.
        seed: Seed of what the loader itself draws.
    """
    # Forked workers share the images in memory. Linux only: fork is unsafe on macOS and absent on Windows.
    fork = workers > 0 and sys.platform == "linux"
    return {
        "num_workers": workers,
        "persistent_workers": workers > 0,
        "multiprocessing_context": "fork" if fork else None,
        "pin_memory": torch.cuda.is_available(),
        "worker_init_fn": start_worker,
        # The loader draws its workers' seed from this. Nothing uses it, but the global source must stay untouched.
        "generator": torch.Generator().manual_seed(seed),
    }


def start_worker(worker_id: int) -> None:
    """Keep OpenCV to one thread in a worker process, and silent; and leave it to the training process when to end.

    The workers are the parallelism, and its threads dislike fork; about bad files castlit says what there is to say.
    """
    be_patient()
    cv2.setNumThreads(0)
    cv2.utils.logging.setLogLevel(0)
