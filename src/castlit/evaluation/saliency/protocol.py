"""The protocol ``saliency``: how well saliency maps agree with ground-truth masks."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from castlit.data.index.file_source import FileSource
from castlit.data.io.errors import SampleError
from castlit.data.io.folders import find_file
from castlit.data.io.images import EncodedImage, read_bytes
from castlit.data.io.masks import MaskKind, decode_map, require_mask_kind
from castlit.data.io.source import Source
from castlit.evaluation.mask_origin import require_ground_truth
from castlit.evaluation.saliency.scores import SaliencyScores
from castlit.reporting.results import TableWithIntervals
from castlit.saliency.algorithms.registry import BASELINES, METHODS, shrink
from castlit.utils.cores import available_cores
from castlit.utils.lightning import pl
from castlit.utils.process_pool import in_processes
from castlit.utils.progress_log import ProgressLog
from castlit.utils.validation import InputError, as_list, require_bool, require_choice, require_int

logger = logging.getLogger(__name__)

SPLITS = ("train", "val", "all")

Sources = tuple[Source, Source, NDArray[np.int64] | None]
"""Training images, validation images, and the indices of the latter to use (None: all)."""

Job = tuple[int, int]
"""An image: number of its source (0 or 1), and index there."""


def evaluate_saliency(
    data: pl.LightningDataModule,
    methods: Sequence[str] | str = tuple(METHODS),
    maps: Mapping[str, str | Path] | str | Path | None = None,
    floors: bool = True,
    split: str = "all",
    count: int | None = 1000,
    workers: int | None = None,
    mask_kind: MaskKind = "auto",
) -> TableWithIntervals:
    """Score saliency methods and existing maps on images with ground-truth masks.

    Args:
        data: One of castlit's data modules; its masks are the ground truth. Images without a mask are skipped.
        methods: Names of methods (rbd, dsr, mc, hs, fast, fused), whose maps are computed.
        maps: A folder of maps as ``castlit.make_masks`` writes them, or several by name.
        floors: Whether to score baselines, too: all ones, a Gaussian in the centre, spectral residual.
        split: ``"train"``, ``"val"`` or ``"all"`` images of the data.
        count: Score at most this many images of each split, a fixed sample; None: all.
        workers: Processes; 0 uses this one; None: one per core.
        mask_kind: What the pixels of ``maps`` mean, see :func:`castlit.data.io.masks.decode_mask`.

    Returns:
        Metrics of each, see :class:`castlit.evaluation.saliency.scores.SaliencyScores`, baselines first. Its
        ``intervals`` holds the metrics' 95 % intervals over images: (low, high) by name, then by metric.

    Raises:
        NoGroundTruthError: The masks are saliency maps that castlit made.
        InputError: A name is unknown, a map is missing, no image has a mask, or nothing is to be scored.
    """
    require_choice("protocol.split", split, SPLITS)
    methods = [require_choice("protocol.methods", name, tuple(METHODS)) for name in as_list(methods)]
    folders = {Path(maps).name: Path(maps)} if isinstance(maps, (str, Path)) else dict(maps or {})
    folders = {name: Path(folder).expanduser() for name, folder in folders.items()}
    for name, folder in folders.items():
        if not folder.is_dir():
            raise InputError(f"maps.{name}={folder} is not a folder: give one that castlit.make_masks wrote")
    names = [*(BASELINES if require_bool("protocol.floors", floors) else ()), *methods]
    twice = next((name for name in folders if name in names), None)
    if twice is not None:
        raise InputError(
            f"protocol.maps: {folders[twice]} would be a second row named {twice}: name it "
            f"(protocol.maps={{mine: {folders[twice]}}}), or leave {twice} out of protocol.methods"
        )
    if not names and not folders:
        raise InputError("there is nothing to score: give protocol.methods, protocol.maps or protocol.floors")
    sources: Sources | None = getattr(data, "sources", None)
    if sources is None:
        raise InputError(f"{type(data).__name__} cannot be read image by image: use data=folder, coco or scenes")
    require_ground_truth(sources[:2])
    jobs = list(_jobs(sources, split, None if count is None else require_int("count", count, 1)))
    workers = available_cores() if workers is None else require_int("workers", workers, 0)
    scores: dict[str, SaliencyScores] = {name: SaliencyScores() for name in (*names, *folders)}
    score = partial(_score, sources[:2], names, folders, require_mask_kind("protocol.mask_kind", mask_kind))
    with ProgressLog("Scoring maps", len(jobs)) as pace:
        for found in in_processes(score, jobs, workers, died=_skip):
            for name, of_image in found.items():
                scores[name].merge(of_image)
            pace.advance()
    if not all(score.images for score in scores.values()):
        raise InputError("none of the images has a mask to score against: give data.masks=, the ground truth")
    intervals = {name: score.intervals() for name, score in scores.items()}
    return TableWithIntervals(
        {name: {**score.results(), "images": score.images} for name, score in scores.items()},
        {name: ends for name, ends in intervals.items() if ends},
    )


def _jobs(sources: Sources, split: str, count: int | None) -> Iterator[Job]:
    """List the images, each once."""
    train, val, some = sources
    chosen = [np.arange(len(train)), np.arange(len(val)) if some is None else some]
    splits = [split] if split != "all" else ["train"] if val is train else ["train", "val"]
    for which in map(SPLITS.index, splits):
        numbers = chosen[which]
        if count is not None and count < len(numbers):
            numbers = np.sort(np.random.default_rng(0).choice(numbers, count, replace=False))
        yield from ((which, int(number)) for number in numbers)


def _score(
    sources: tuple[Source, Source], names: list[str], folders: dict[str, Path], kind: MaskKind, job: Job
) -> dict[str, SaliencyScores]:
    """Score one image; empty if it has no mask or cannot be read."""
    source, index = sources[job[0]], job[1]
    try:
        item = source.read(index)
        if item.mask is None:
            return {}
        image = item.image.decode() if isinstance(item.image, EncodedImage) else item.image
    except SampleError as error:
        source.give_up(index, error)
        return {}
    small = shrink(image)
    made = {name: {**BASELINES, **METHODS}[name](small) for name in names}
    made |= {name: _stored(name, folder, source, index, kind) for name, folder in folders.items()}
    scores = {name: SaliencyScores() for name in made}
    for name, values in made.items():
        scores[name].add(values, item.mask)
    return scores


def _skip(job: Job) -> dict[str, SaliencyScores]:
    logger.warning("image %d of the %s images is skipped: its process died", job[1], SPLITS[job[0]])
    return {}


def _stored(name: str, folder: Path, source: Source, index: int, kind: MaskKind) -> NDArray[np.float32]:
    """Read an image's map, stored as ``castlit.make_masks`` does, for the image's folder or for its parent."""
    if not isinstance(source, FileSource):
        raise InputError("maps= needs images in folders: use data=folder or data=coco")
    relative = str(PurePosixPath(source.entry(index).image).with_suffix(".png"))
    above = folder / source.images.name
    path = find_file(folder, relative) or find_file(above, relative)
    if path is None:
        raise InputError(
            f"maps.{name}: neither {folder / relative} nor {above / relative} exists: make maps of these images"
        )
    return decode_map(read_bytes(path), str(path), kind)
