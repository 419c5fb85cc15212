"""Apply a trained network to many images: in processes on a CPU, in threads on an accelerator."""

import functools
import pickle
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from torch import nn

from castlit.saliency.algorithms.superpixels import Image, Map
from castlit.saliency.pipeline.one_mask import Outcome, Recipe, make_mask
from castlit.utils.atomic_write import write_atomic
from castlit.utils.process_pool import in_processes
from castlit.utils.thread_pool import in_threads


class FromFile:
    """A predictor that each process reads from a file once; it is too large to be sent with every image.

    Args:
        path: The file to write.
        predictor: On the CPU.
    """

    def __init__(self, path: Path, predictor: Callable[[Image], Map]) -> None:
        self.path = path
        write_atomic(path, pickle.dumps(predictor))

    def __call__(self, image: Image) -> Map:
        """The predictor's map."""
        return _read(self.path)(image)


def apply_network(
    recipe: Recipe, predictor: Callable[[Image], Map], names: Iterator[str], workers: int, scratch: Path
) -> Iterator[Outcome]:
    """Make masks by a network.

    Args:
        recipe: What is done with each image.
        predictor: Makes the maps; its ``network``, if it has one, determines the device.
        names: The images' paths below their folder.
        workers: Processes or threads; 0 works in this process.
        scratch: A temporary file's path.
    """
    network = getattr(predictor, "network", None)
    if isinstance(network, nn.Module) and next(network.parameters()).device.type != "cpu":
        yield from in_threads(functools.partial(make_mask, recipe, predictor), names, max(1, workers))
        return
    method = FromFile(scratch, predictor) if workers else predictor
    work = functools.partial(make_mask, recipe, method)
    homes = {__name__, *(type(each).__module__ for each in (predictor, network))} - {"__main__", "builtins"}
    try:
        yield from in_processes(work, names, workers, Outcome.died, sorted(homes))
    finally:
        scratch.unlink(missing_ok=True)


@functools.lru_cache(1)
def _read(path: Path) -> Callable[[Image], Map]:
    torch.set_num_threads(1)
    predictor: Callable[[Image], Map] = pickle.loads(path.read_bytes())
    return predictor
