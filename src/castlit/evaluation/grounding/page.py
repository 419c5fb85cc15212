"""``grounding.html`` and its images: query, mask and CAMs."""

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from castlit.data.datamodules.datasets import images_on
from castlit.data.index.file_source import FileSource
from castlit.evaluation.grounding.examples import ImageResults
from castlit.evaluation.mask_origin import mask_origin
from castlit.reporting import html
from castlit.reporting.images import Picture, encode, enlarge, grid, overlay_cam, overlay_mask, strip, to_picture
from castlit.reporting.results import Table
from castlit.utils.atomic_write import write_atomic
from castlit.utils.lightning import pl

HEIGHT = 168
"""Height of one image in pixels."""

OVERVIEW = 8
"""Images in ``grounding.png``."""

_WHAT = (
    "pretext explains the score that the method was trained on, with the image's own mask. features explains the "
    "pooled features, without masks or labels. classifier explains the logit of the image's label, by a linear "
    "classifier on frozen features. pointing: whether the CAM's maximum is in the mask. energy: the fraction of the "
    "CAM in the mask. iou: intersection over union, averaged over 19 thresholds of the CAM. chance: the fraction of "
    "mask pixels. Each CAM is scaled by its own maximum; red is hottest, and a grey image has no CAM."
)


class _Example(NamedTuple):
    image: Picture
    mask: NDArray[np.uint8]


def write_pictures(
    output: Path, names: Mapping[str, str], seen: ImageResults, data: pl.LightningDataModule, results: Table, count: int
) -> None:
    """Write ``grounding/*.png``, ``grounding.png`` and ``grounding.html``.

    Args:
        output: The folder.
        names: The networks as typed, by the suffix of their questions; the first's suffix is empty.
        seen: Results of all images.
        data: Has the images.
        results: The table at the top.
        count: Number of images to show.

    Raises:
        OSError: A file cannot be written.
    """
    compared = [suffix for suffix in names if suffix]
    chosen = seen.choose(count, compared[0] if compared else None)
    shown = _fetch(data, {int(seen.places[i]): i for numbers in chosen.values() for i in numbers})
    networks = [html.paragraph(f"{'First' if not suffix else 'Second'}: {name}") for suffix, name in names.items()]
    origin = mask_origin(data)
    masks = [html.paragraph(f"Masks: {origin}.")] if origin is not None else []
    parts = [*(networks if compared else []), html.table(results), *masks, html.paragraph(_WHAT)]
    for why, numbers in chosen.items():
        figures = []
        for i in numbers:
            picture = strip(_columns(shown[i], seen, i))
            file = output / "grounding" / f"{int(seen.places[i]):05d}.png"
            write_atomic(file, encode(picture))
            name = _name(data, seen, i)
            figures.append(html.figure(picture, _caption(seen, i, name), f"{name}: query, mask, CAMs"))
        if figures:
            parts += [html.heading(f"{why} ({len(figures)})"), html.sheet(figures)]
    title = " and ".join(names.values())
    write_atomic(output / "grounding.html", html.page(f"Where {title} look{'s' * (not compared)}", parts))
    even = next(iter(chosen.values()))
    if even:
        write_atomic(output / "grounding.png", encode(_overview(even, shown, seen)))


def _columns(shown: _Example, seen: ImageResults, i: int) -> list[tuple[str, Picture]]:
    columns = [("query", shown.image), ("mask", overlay_mask(shown.image, shown.mask))]
    return columns + [(key, overlay_cam(shown.image, cams[i].numpy())) for key, cams in seen.cams.items()]


def _name(data: pl.LightningDataModule, seen: ImageResults, i: int) -> str:
    """The image's file, below the folder of the images; its number for images without files."""
    sources = getattr(data, "sources", None)
    if sources is not None and seen.indices is not None and isinstance(sources[1], FileSource):
        return sources[1].entry(int(seen.indices[i])).image
    return f"image {int(seen.places[i])}"


def _caption(seen: ImageResults, i: int, name: str) -> str:
    metrics = [
        f"{key}: {'hit' if scores.pointing[i] else 'miss'}, energy {scores.energy[i]:.2f}, iou {scores.iou[i]:.2f}"
        for key, scores in seen.scores.items()
        if key in seen.cams
    ]
    chance = next(iter(seen.scores.values())).chance[i]
    return f"{name}, mask {chance:.0%} of it. " + "; ".join(metrics)


def _overview(even: list[int], shown: Mapping[int, _Example], seen: ImageResults) -> Picture:
    columns = [_columns(shown[i], seen, i) for i in even[:: max(1, len(even) // OVERVIEW)][:OVERVIEW]]
    rows = [
        (label.replace(" (", "\n("), [column[row][1] for column in columns])
        for row, (label, _) in enumerate(columns[0])
    ]
    caption = "validation images; each CAM is scaled by its own maximum, red is hottest, a grey image has no CAM"
    return grid(rows, "Where the encoder looks", caption)


def _fetch(data: pl.LightningDataModule, wanted: Mapping[int, int]) -> dict[int, _Example]:
    """Load images and masks: ``wanted`` maps positions in the loader's order to the keys of the result."""
    found: dict[int, _Example] = {}
    start = 0
    for batch in data.val_dataloader():
        for place in range(start, start + len(batch["image"])):
            if place in wanted:
                mask = batch["mask"][place - start, 0].numpy().astype(np.uint8)
                image = to_picture(images_on(batch["image"][place - start, None], torch.device("cpu"))[0])
                found[wanted[place]] = _Example(enlarge(image, HEIGHT), enlarge(mask, HEIGHT, cv2.INTER_NEAREST))
        start += len(batch["image"])
        if len(found) == len(wanted):
            break
    return found
