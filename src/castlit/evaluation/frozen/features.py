"""Features of a frozen network, computed once and cached on disk."""

import hashlib
import logging
from functools import cached_property, partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from castlit.data import EvalDataset, collate
from castlit.data.datamodules.base import default_workers
from castlit.data.datamodules.datasets import images_on
from castlit.data.datamodules.loader import worker_options
from castlit.data.datamodules.worker_loader import WorkerLoader
from castlit.evaluation.frozen.images import Images
from castlit.evaluation.weights_digest import weights_digest
from castlit.utils.atomic_write import atomic_path
from castlit.utils.progress_log import ProgressLog
from castlit.utils.validation import InputError, require_int

logger = logging.getLogger(__name__)

_FORMAT = 1  # increased when the same settings give other features


class FrozenFeatures:
    """Computes pooled features of images, or reads them from the cache.

    Images are resized and centrally cropped as in validation. The cache's key is a digest of the weights, the images
    (paths, sizes, modification times) and the settings, so stale features are never read.

    Args:
        backbone: Maps normalised images (N, 3, H, W) to (N, C, h, w); in evaluation mode, on its device.
        device: The backbone's device.
        size: Side of the network's input in pixels.
        resize: Length of the image's short side before the crop; None means 8/7 of ``size`` (256 for 224).
        pool: Features are averages over a grid of ``pool`` × ``pool`` cells: 1 gives C numbers, 2 gives 4 C.
        batch_size: Images at a time.
        workers: Loader processes; None: eight, or fewer where there are fewer cores.
        cache: The cache's folder; None: no cache.
    """

    def __init__(
        self,
        backbone: nn.Module,
        device: torch.device,
        size: int = 224,
        resize: int | None = None,
        pool: int = 1,
        batch_size: int = 64,
        workers: int | None = None,
        cache: str | Path | None = None,
    ) -> None:
        self.backbone, self.device = backbone, device
        self.size = require_int("size", size, 1)
        self.resize = require_int("resize", round(size * 8 / 7) if resize is None else resize, size)
        self.pool = require_int("pool", pool, 1)
        self.batch_size = require_int("batch_size", batch_size, 1)
        self.workers = default_workers(8) if workers is None else require_int("workers", workers, 0)
        self.cache = None if cache is None else Path(cache).expanduser()

    def __call__(self, images: Images, title: str = "Features") -> NDArray[np.float32]:
        """Return features (N, C · pool²) float32 of all images, in order.

        Args:
            images: The images.
            title: Title of the progress bar.

        Raises:
            SampleError: An image cannot be read; the message names it.
            InputError: The backbone's output is no feature map, or not finite.
        """
        file = None if self.cache is None else self.cache / f"{self._digest(images)}.npy"
        kept = None if file is None else _read(file, len(images))
        if kept is not None:
            logger.info("%s: read from %s", title, file)
            return kept
        features = self._compute(images, title)
        if file is not None:
            try:
                with atomic_path(file) as part, part.open("wb") as handle:
                    np.save(handle, features)
            except OSError as error:
                logger.warning("%s: the features cannot be cached (%s)", file, error.strerror or error)
        return features

    @torch.inference_mode()
    def pooled(self, batch: Tensor) -> Tensor:
        """Return features (N, C · pool²) float32 of normalised images (N, 3, H, W) on the device."""
        maps = self.backbone(batch)
        if not isinstance(maps, Tensor) or maps.dim() != 4:
            raise InputError("the backbone must give a feature map (N, C, h, w): leave its classifier off")
        return F.adaptive_avg_pool2d(maps.float(), self.pool).flatten(1)

    def _compute(self, images: Images, title: str) -> NDArray[np.float32]:
        dataset = EvalDataset(images, self.size, self.resize)
        options = {**worker_options(self.workers, 0), "persistent_workers": False}
        raw = self.device.type != "cpu"
        loader = WorkerLoader(dataset, self.batch_size, collate_fn=partial(collate, raw=raw), **options)
        features: NDArray[np.float32] | None = None
        done = 0
        with ProgressLog(title, len(dataset)) as pace:
            for batch in loader:
                found = self.pooled(images_on(batch["image"], self.device)).cpu().numpy()
                if not np.isfinite(found).all():
                    raise InputError("the backbone's features are not finite: are these weights of another backbone?")
                if features is None:
                    features = np.empty((len(dataset), found.shape[1]), np.float32)
                features[done : done + len(found)] = found
                done += len(found)
                for _ in found:
                    pace.advance()
        if features is None:
            raise InputError("there are no images to compute features of")
        return features

    def _digest(self, images: Images) -> str:
        digest = hashlib.blake2b(self._weights.encode(), digest_size=16)
        digest.update(repr((_FORMAT, self.size, self.resize, self.pool)).encode())
        digest.update(images.state())
        return digest.hexdigest()

    @cached_property
    def _weights(self) -> str:
        return weights_digest(self.backbone)


def _read(file: Path, count: int) -> NDArray[np.float32] | None:
    try:
        kept = np.load(file, allow_pickle=False)
    except Exception:  # missing, or damaged, for which a header raises many types: compute again
        return None
    return np.asarray(kept, np.float32) if kept.ndim == 2 and len(kept) == count else None
