"""From where an encoder looks to masks in files."""

import json
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
from castlit.saliency.algorithms.refine import crf, guided_filter
from castlit.utils.distributed import world_size

Pixels = NDArray[np.uint8]
Map = NDArray[np.float32]

REFINEMENTS: dict[str, Callable[[Pixels, Map], Map]] = {
    "crf": crf,
    "guided": guided_filter,
    "none": lambda image, values: values,
}
"""How a map (H, W) in [0, 1] is brought to the edges of its image (H, W, 3), by name."""


class Counts(NamedTuple):
    """What became of the images."""

    images: int
    empty: int
    """Of these, those where nothing was found."""
    everything: int
    """Those where nearly everything was."""


class MaskMaker:
    """Writes the masks of a source's images.

    Args:
        find: From images as bytes, (N, 3, H, W) uint8, to maps (N, H, W) in [0, 1].
        refine: A name of :data:`REFINEMENTS`.
        most: Share of an image above which a mask counts as everything.
        threads: That refine and write.
    """

    def __init__(self, find: Callable[[Tensor], Tensor], refine: str, most: float, threads: int) -> None:
        self.find, self.refine, self.most, self.threads = find, REFINEMENTS[refine], most, threads

    def make(
        self, source: FileSource, batches: Iterable[dict[str, Tensor] | None], folder: Path, done: Callable[[int], None]
    ) -> Counts:
        """Make the masks of these images.

        Args:
            source: Where they are from; it holds a mask store.
            batches: ``image`` uint8 (N, 3, H, W) and ``index`` (N,); None where none of a batch could be had.
            folder: Of the edition that is being made.
            done: Is told how many more images are done.

        Raises:
            InputError: A mask cannot be written.
        """
        areas: list[float] = []
        writing: list[Future[float]] = []
        with ThreadPoolExecutor(self.threads) as pool:
            for batch in batches:
                if batch is None:
                    continue
                maps = self.find(batch["image"]).float().cpu().numpy()
                pixels = np.ascontiguousarray(batch["image"].permute(0, 2, 3, 1).numpy())
                # One batch is written while the next one is looked at; not more, so that nothing piles up.
                areas += [future.result() for future in writing]
                writing = [
                    pool.submit(self._write, source, folder, index, *pair)
                    for index, *pair in zip(batch["index"].tolist(), pixels, maps, strict=True)
                ]
                done(len(maps))
            areas += [future.result() for future in writing]
        return Counts(len(areas), sum(area == 0 for area in areas), sum(area > self.most for area in areas))

    def _write(self, source: FileSource, folder: Path, index: int, pixels: Pixels, values: Map) -> float:
        """Write one mask, and return the share of its image that it took, before it was emptied if useless."""
        assert source.own is not None
        # Where nothing was found, a refinement might still make something of it.
        refined = self.refine(pixels, values) if values.any() else values
        levels = np.asarray((refined * 255).round(), np.uint8)
        name = source.entry(index).image
        # As the data will read it.
        area = float(decode_mask(encode_map(levels), name, source.threshold).mean())
        useless = area == 0 or area > self.most
        source.own.write(folder, name, np.zeros_like(levels) if useless else levels)
        return area


def blocks(which: NDArray[np.int64], size: int) -> list[NDArray[np.int64]]:
    """Deal images into blocks of about equal length, at most ``size``, in an order that mixes the folders."""
    order = np.random.default_rng(0).permutation(which)
    return np.array_split(order, -(-len(order) // size)) if len(order) else []


def note_counts(folder: Path, edition: int, counts: Counts, settings: dict[str, Any]) -> None:
    """Write ``masks.json`` beside the masks of an edition: how they were made, and what became of the images."""
    folder.mkdir(parents=True, exist_ok=True)
    about = {
        "made_by": "castlit.train",
        "method": "self",
        "epoch": edition,
        "settings": settings,
        "counts": counts._asdict(),
        "castlit": version("castlit"),
    }
    (folder / "masks.json").write_text(json.dumps(about, indent=2) + "\n")


@contextmanager
def no_trace(module: nn.Module) -> Iterator[None]:
    """Within the context, a module evaluates, on all ranks alike; behind it, all is as before.

    Each rank's batch norms have statistics of their own; within, the first rank's hold, which checkpoints keep. What is
    drawn within from the global random sources is not drawn for those behind.
    """
    modes = [(part, part.training) for part in module.modules()]
    buffers = [(buffer, buffer.clone()) for buffer in module.buffers()] if world_size() > 1 else []
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
