"""How fast castlit makes views, by stage, against other pipelines and the published crop sampler."""

import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from PIL import Image

from castlit.bench.peer_views import peer_views
from castlit.bench.pil_views import PilViews, pil_batch
from castlit.bench.ratios import median_ratio, ratio_interval
from castlit.bench.rejection import rejection_box
from castlit.crops import SaliencyCrop, crop_resize, crop_resize_mask
from castlit.data import ColourView, FileSource, TwoPipelines, TwoViews, ViewDataset, collate
from castlit.data.scenes import Scenes
from castlit.data.transforms.decode_for_crops import decode_for_crops
from castlit.utils.validation import InputError, require_int

BATCH = 32
PHOTOGRAPH = (480, 640)
VARIANTS = ("cpu", "cpu_without_masks", "bytes", "device", "views_albumentations")
"""cpu: all work on the CPU, to normalised float32 batches; cpu_without_masks: the same without masks, so that the crops
are unconstrained. bytes: the accelerator normalises. device: the accelerator does the colour augmentation, too.
views_albumentations: cpu, with the same crops made by albumentations pipelines (views=albumentations)."""


def bench_data(
    images: str | None, masks: str | None, count: int = 128, size: int = 224, rounds: int = 5, min_coverage: float = 0.2
) -> dict[str, Any]:
    """Measure in one process and one thread, the implementations in turn; report medians over the rounds.

    Times are the processor's, which other programs on the machine change little.

    Args:
        images: Folder of photographs; None makes 640 × 480 JPEGs of the built-in scenes.
        masks: Folder of their masks.
        count: Number of images, evenly spaced over the folder.
        size: Side of the views in pixels.
        rounds: Number of passes over the images, after one to warm up.
        min_coverage: Coverage of the crops.

    Returns:
        Plain values. Rates are per second and core.
    """
    require_int("count", count, BATCH)
    require_int("rounds", rounds, 1)
    threads = torch.get_num_threads(), cv2.getNumThreads()
    torch.set_num_threads(1)
    cv2.setNumThreads(0)
    try:
        with tempfile.TemporaryDirectory() as folder:
            if images is None:
                images, masks = make_photographs(Path(folder), count)
            source = FileSource(images, masks, on_bad="drop")
            without = FileSource(images)
            chosen = np.linspace(0, len(source) - 1, min(count, len(source))).round().astype(int).tolist()
            return _measure(source, without, chosen, TwoViews(size, min_coverage=min_coverage), rounds)
    finally:
        torch.set_num_threads(threads[0])
        cv2.setNumThreads(threads[1])


def make_photographs(folder: Path, count: int) -> tuple[str, str]:
    """Write JPEGs of the built-in scenes, with a photograph's grain, and their masks; return the two folders."""
    scenes = Scenes(count, size=PHOTOGRAPH[1])
    top = (PHOTOGRAPH[1] - PHOTOGRAPH[0]) // 2
    rows = slice(top, top + PHOTOGRAPH[0])
    for name in ("images", "masks"):
        (folder / name).mkdir()
    for i in range(count):
        grain = np.random.default_rng(i).normal(0, 6, (*PHOTOGRAPH, 3))
        pixels = np.clip(scenes.images[i, rows] + grain, 0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(folder / "images" / f"{i:05d}.jpg", quality=90)
        Image.fromarray(scenes.masks[i, rows] * np.uint8(255)).save(folder / "masks" / f"{i:05d}.png")
    return str(folder / "images"), str(folder / "masks")


def _measure(
    source: FileSource, without: FileSource, chosen: list[int], views: TwoViews, rounds: int
) -> dict[str, Any]:
    dataset = ViewDataset(source, views)
    deferred = ViewDataset(source, TwoViews(views.size, min_coverage=views.min_coverage, defer=True))
    crop = [SaliencyCrop(views.size, views.min_coverage)]
    pipelines = ViewDataset(source, TwoPipelines(views.size, crop, crop, colours="moco_v2", flip=views.flip))
    pil = PilViews(views.size)
    paths = [(source.image_path(i), path) for i in chosen if (path := source.mask_path(i)) is not None]
    if len(paths) < len(chosen):
        raise InputError("the benchmark needs images with masks: give masks=FOLDER")
    masks = [mask.view(np.bool_) for i in chosen if (mask := source.read(i).mask) is not None]
    stages = _Stages(source, views)

    # The same files: the source without masks also has those that `source` has dropped.
    numbers = {without.image_path(i): i for i in range(len(without))}
    same = [numbers[source.image_path(i)] for i in chosen]

    def castlit_views(dataset: ViewDataset, indices: list[int], raw: bool, epoch: int) -> None:
        for start in range(0, len(indices), BATCH):
            collate([dataset[epoch, i] for i in indices[start : start + BATCH]], raw=raw)

    def others_views(make: Callable[[list[tuple[Path, Path]]], object], epoch: int) -> None:
        for start in range(0, len(paths), BATCH):
            make(paths[start : start + BATCH])

    def castlit_boxes(epoch: int) -> None:
        rng = np.random.default_rng(epoch)
        for mask in masks:
            views.boxes(mask, 2, rng)

    def rejection_boxes(epoch: int) -> None:
        rng = np.random.default_rng(epoch)
        for mask in masks:
            for _ in range(2):
                rejection_box(mask.view(np.uint8), views.min_coverage, rng)

    peers: dict[str, Callable[[list[tuple[Path, Path]]], object]] = {"pil": partial(pil_batch, pil)}
    peers.update(peer_views(views.size))
    if "lightly" not in peers:
        print("lightly is left out, because it is not installed: pip install lightly", file=sys.stderr)
    implementations: dict[str, Callable[[int], None]] = {
        **{name: partial(others_views, make) for name, make in peers.items()},
        "cpu": partial(castlit_views, dataset, chosen, False),
        "cpu_without_masks": partial(castlit_views, ViewDataset(without, views), same, False),
        "bytes": partial(castlit_views, dataset, chosen, True),
        "device": partial(castlit_views, deferred, chosen, True),
        "views_albumentations": partial(castlit_views, pipelines, chosen, False),
        "boxes": castlit_boxes,
        "rejection": rejection_boxes,
        "stages": partial(stages.run, chosen),
    }
    timed = _time_in_turn(implementations, rounds)
    seconds = {name: statistics.median(each) for name, each in timed.items()}
    total = sum(stages.seconds.values())
    return {
        "images": len(chosen),
        "mean_megapixels": round(statistics.mean(int(np.prod(source.entry(i).size)) for i in chosen) / 1e6, 3),
        "size": views.size,
        "rounds": rounds,
        "clock": "processor",
        "images_per_s": {name: round(len(chosen) / seconds[name], 1) for name in (*VARIANTS, *peers)},
        **_ratios(timed, list(peers)),
        "share": {name: round(spent / total, 3) for name, spent in stages.seconds.items()},
        "boxes_per_s": round(2 * len(masks) / seconds["boxes"]),
        "rejection_boxes_per_s": round(2 * len(masks) / seconds["rejection"]),
        "ratio_to_rejection": median_ratio(timed["rejection"], timed["boxes"], 2),
    }


def _ratios(timed: dict[str, list[float]], peers: list[str]) -> dict[str, Any]:
    """How many times as fast castlit's variants are as each peer, with confidence intervals."""
    row: dict[str, Any] = {}
    for peer in peers:
        row[f"ratio_to_{peer}"] = {name: median_ratio(timed[peer], timed[name], 2) for name in VARIANTS}
        row[f"ratio_to_{peer}_interval"] = {name: ratio_interval(timed[peer], timed[name], 2) for name in VARIANTS}
    return row


class _Stages:
    """Makes views stage by stage, and times the stages."""

    def __init__(self, source: FileSource, views: TwoViews) -> None:
        self.source, self.views = source, views
        self.seconds = dict.fromkeys(
            ("decode_image", "read_and_mask", "boxes", "resize", "photometric", "collate"), 0.0
        )

    def run(self, chosen: list[int], epoch: int) -> None:
        for start in range(0, len(chosen), BATCH):
            samples = [self._sample(i, np.random.default_rng((epoch, i))) for i in chosen[start : start + BATCH]]
            self._timed("collate", partial(collate, samples))

    def _sample(self, index: int, rng: np.random.Generator) -> dict[str, Any]:
        views, size = self.views, (self.views.size, self.views.size)
        item = self._timed("read_and_mask", lambda: self.source.read(index))
        mask = np.zeros(item.image.shape[:2], np.uint8) if item.mask is None else item.mask
        boxes = self._timed("boxes", lambda: views.boxes(mask.view(np.bool_), 2, rng))
        pixels, shown = self._timed("decode_image", lambda: decode_for_crops(item.image, boxes, views.size))
        crops = self._timed("resize", lambda: [cv2.flip(crop_resize(pixels, box, size), 1) for box in shown])
        small = self._timed("resize", lambda: [cv2.flip(crop_resize_mask(mask, box, size), 1) for box in boxes])
        colours = views.colours if views.colours is not None else ColourView()
        query, key = self._timed("photometric", lambda: [colours(crop, rng) for crop in crops])
        return {"query": query, "key": key, "query_mask": small[0], "key_mask": small[1], "index": index}

    def _timed(self, stage: str, work: Callable[[], Any]) -> Any:  # noqa: ANN401
        start = time.process_time()
        result = work()
        self.seconds[stage] += time.process_time() - start
        return result


def _time_in_turn(implementations: dict[str, Callable[[int], None]], rounds: int) -> dict[str, list[float]]:
    """Processor seconds of each implementation in each round; in turn, so that noise affects all of them."""
    timed: dict[str, list[float]] = {name: [] for name in implementations}
    for round_number in range(rounds + 1):
        for name, run in implementations.items():
            start = time.process_time()
            run(round_number)
            if round_number > 0:  # the first warms up
                timed[name].append(time.process_time() - start)
    return timed
