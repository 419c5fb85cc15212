"""Write an encoder's object maps as mask files."""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch.distributed as dist
from numpy.typing import NDArray
from torch import Tensor, nn

from castlit.data.index.file_source import FileSource
from castlit.data.io.mask_store import encode_map
from castlit.data.io.masks import decode_mask
from castlit.resume.rng_state import random_state, set_random_state
from castlit.utils.distributed import world_size
from castlit.utils.json_files import write_json

Pixels = NDArray[np.uint8]
Map = NDArray[np.float32]

Draw = Callable[[Pixels, NDArray[np.float32]], Map]

REFINEMENTS = ("crf", "guided", "none")
"""The names of :func:`refinement`."""


class Counts(NamedTuple):
    """Numbers of images by result."""

    images: int
    empty: int
    """Images in which nothing was found."""
    everything: int
    """Images in which nearly everything was found."""


class MaskMaker:
    """Writes the masks of a source's images.

    Args:
        find: A function of images (N, 3, H, W) uint8 to what a map is drawn from, one entry for each image.
        draw: Draws an image's map (H, W) in [0, 1] from its pixels (H, W, 3) and that; None: it is the map.
        refine: One of :data:`REFINEMENTS`.
        most: Fraction of an image above which a mask counts as everything.
        threads: Number of threads that draw, refine and write.
    """

    def __init__(
        self, find: Callable[[Tensor], Tensor], draw: Draw | None, refine: str, most: float, threads: int
    ) -> None:
        self.find, self.draw, self.most, self.threads = find, draw, most, threads
        self.refine = refinement(refine, sharp=draw is not None)

    def make(
        self, source: FileSource, batches: Iterable[dict[str, Tensor] | None], folder: Path, done: Callable[[int], None]
    ) -> Counts:
        """Make the masks of these images.

        Args:
            source: The images' source, with a mask store.
            batches: ``image`` uint8 (N, 3, H, W) and ``index`` (N,); None if no image of a batch could be read.
            folder: Folder of the version that is being written.
            done: Called with the number of images done since the last call.

        Raises:
            InputError: A mask cannot be written.
        """
        areas: list[float] = []
        writing: list[Future[float]] = []
        with ThreadPoolExecutor(self.threads) as pool:
            for batch in batches:
                if batch is None:
                    continue
                found = self.find(batch["image"]).float().cpu().numpy()
                pixels = np.ascontiguousarray(batch["image"].permute(0, 2, 3, 1).numpy())
                # One batch is written while the next one is computed; not more, to bound the memory.
                areas += [future.result() for future in writing]
                writing = [
                    pool.submit(self._write, source, folder, index, *pair)
                    for index, *pair in zip(batch["index"].tolist(), pixels, found, strict=True)
                ]
                done(len(found))
            areas += [future.result() for future in writing]
        return Counts(len(areas), sum(area == 0 for area in areas), sum(area > self.most for area in areas))

    def _write(self, source: FileSource, folder: Path, index: int, pixels: Pixels, found: Map) -> float:
        """Write one mask, empty if useless, and return the fraction of its image that it covered before."""
        assert source.mask_store is not None
        values = found if self.draw is None else self.draw(pixels, found)
        # A refinement of a map of zeros need not be zero.
        refined = self.refine(pixels, values) if values.any() else values
        levels = np.asarray((refined * 255).round(), np.uint8)
        name = source.entry(index).image
        # Decoded as the data will read it.
        area = float(decode_mask(encode_map(levels), name, source.threshold, "levels").mean())
        useless = area == 0 or area > self.most
        source.mask_store.write(folder, name, np.zeros_like(levels) if useless else levels)
        return area


def refinement(name: str, sharp: bool) -> Callable[[Pixels, Map], Map]:
    """Return the function that aligns a map (H, W) in [0, 1] with the edges of its image (H, W, 3).

    Args:
        name: One of :data:`REFINEMENTS`.
        sharp: Move the map's Otsu threshold to one half, where masks are cut.
    """
    if name == "none" and not sharp:
        return lambda image, values: values
    from castlit.saliency.algorithms import refine  # not at the top: it imports scikit-image, which takes a second

    if name == "none":
        return lambda image, values: refine.sharpen(values)
    align = refine.crf if name == "crf" else refine.guided_filter
    return (lambda image, values: refine.sharpen(align(image, values))) if sharp else align


def split_batches(which: NDArray[np.int64], size: int) -> list[NDArray[np.int64]]:
    """Split images into batches of about equal length, at most ``size``, in random order: it mixes the folders."""
    order = np.random.default_rng(0).permutation(which)
    return np.array_split(order, -(-len(order) // size)) if len(order) else []


def write_counts(folder: Path, version_number: int, counts: Counts, settings: dict[str, Any]) -> None:
    """Write ``masks.json`` to the folder of a version's masks: how they were made, and the numbers of images."""
    folder.mkdir(parents=True, exist_ok=True)
    about = {
        "made_by": "castlit.train",
        "method": "self",
        "epoch": version_number,
        "settings": settings,
        "counts": counts._asdict(),
        "castlit": version("castlit"),
    }
    write_json(folder / "masks.json", about)


@contextmanager
def temporary_eval(module: nn.Module, align: bool = True) -> Iterator[None]:
    """Within the context, a module is in evaluation mode and the same on all ranks; then all is restored.

    Each rank's batch norms have their own running statistics; within the context all ranks use the first rank's, which
    are those of the checkpoint. The global random states are restored, too.

    Args:
        module: The module.
        align: Whether it must be the same on all ranks. Before a fit has moved it to its device it cannot be: NCCL does
            not send from a CPU.
    """
    modes = [(part, part.training) for part in module.modules()]
    buffers = [(buffer, buffer.clone()) for buffer in module.buffers()] if align and world_size() > 1 else []
    random = random_state()
    module.eval()
    for buffer, _ in buffers:
        dist.broadcast(buffer, src=0)
    try:
        yield
    finally:
        for buffer, own in buffers:
            buffer.copy_(own)
        for part, training in modes:
            part.training = training
        set_random_state(random)
