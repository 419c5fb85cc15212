"""``preview.html``: a page of sample masks."""

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from castlit.data.io.errors import SampleError
from castlit.data.io.images import decode, read_bytes
from castlit.reporting.html import figure, heading, page, paragraph
from castlit.saliency.algorithms.superpixels import Image
from castlit.saliency.pipeline.one_mask import Recipe, mask_name, open_image
from castlit.saliency.pipeline.preview_sampler import PreviewSampler, Sample
from castlit.saliency.pipeline.quality import CUT
from castlit.utils.atomic_write import write_atomic

SIDE = 176
"""Longer side of a thumbnail in pixels."""

_GAP = 4

_LEGEND = (
    "Each sample shows the image, its map as heat (blue 0, red 1), and the mask: the map above 128 of 255. Half of the "
    "samples are the worst masks, the others are a random sample of the rest; both start with the worst. Which masks "
    "are bad is a guess made without labels: the mean of how grey the map is (0 %: only 0 and 1) and of the overlap of "
    "colours inside and outside the mask; or, if larger, the fraction of the image's border that the mask covers, or "
    "how far its area is below 5 % or above 50 % of the image."
)


def write_preview(path: Path, recipe: Recipe, sampler: PreviewSampler, counts: dict[str, int]) -> None:
    """Write the page.

    Args:
        path: The file.
        recipe: Where images and masks are.
        sampler: The samples.
        counts: See :attr:`castlit.saliency.pipeline.run.RunSummary.counts`.

    Raises:
        OSError: The file cannot be written.
    """
    listed = ", ".join(f"{count:,} {what}" for what, count in counts.items() if count or what == "images")
    failed = " Failed images are not shown; failed.csv lists them." if counts["failed"] else ""
    parts = [
        paragraph(f"{recipe.made}. {listed}.{failed}"),
        paragraph(_LEGEND),
        *_section("Worst masks", sampler.worst, recipe),
        *_section("Random sample of the others", sampler.drawn, recipe),
    ]
    write_atomic(path, page(f"Masks of {recipe.images}", parts))


def strip(image: Image, levels: NDArray[np.uint8]) -> Image:
    """Image, map as heat over the image, and mask, side by side.

    Args:
        image: (H, W, 3) RGB.
        levels: The map (h, w) of any size, in [0, 255].

    Returns:
        (H, 3 W + 2 gaps, 3) RGB.
    """
    levels = np.asarray(cv2.resize(levels, image.shape[1::-1], interpolation=cv2.INTER_AREA), np.uint8)
    heat = cv2.cvtColor(cv2.applyColorMap(levels, cv2.COLORMAP_TURBO), cv2.COLOR_BGR2RGB)
    over = cv2.addWeighted(image, 0.45, np.asarray(heat, np.uint8), 0.55, 0)
    mask = np.repeat(((levels > CUT) * np.uint8(255))[..., None], 3, 2)
    gap = np.full((image.shape[0], _GAP, 3), 255, np.uint8)
    return np.hstack([image, gap, over, gap, mask])


def _section(title: str, samples: list[Sample], recipe: Recipe) -> list[str]:
    if not samples:
        return []
    columns = "grid-template-columns: repeat(auto-fill, minmax(min(100%, 21rem), 1fr))"
    figures = "".join(_figure(sample, recipe) for sample in samples)
    return [heading(f"{title} ({len(samples)})"), f'<div class=sheet style="{columns}">{figures}</div>']


def _figure(sample: Sample, recipe: Recipe) -> str:
    name, quality = sample
    mask = recipe.output / mask_name(name)
    try:
        image = open_image(recipe.images / name, SIDE, SIDE).image
        levels = decode(read_bytes(mask), str(mask), cv2.IMREAD_GRAYSCALE)
    except SampleError:
        return ""  # removed since
    words = [f"{quality.area:.1%} of the image", f"grey {quality.grey:.0%}", f"colours {quality.overlap:.0%}"]
    words += [f"border {quality.border:.0%}"] if quality.border else []
    words += [quality.flaw] if quality.flaw else []
    return figure(strip(image, levels), f"{name}: {', '.join(words)}", "image, map and mask")
