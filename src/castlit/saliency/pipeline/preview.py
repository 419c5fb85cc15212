"""``preview.html``: what masks look like, on one page that needs nothing beside it."""

import base64
import html
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from castlit.data.io.errors import SampleError
from castlit.data.io.images import decode, read_bytes
from castlit.saliency.algorithms.superpixels import Image
from castlit.saliency.pipeline.one_mask import Recipe, mask_name, open_image
from castlit.saliency.pipeline.preview_sampler import Choice, Sample
from castlit.saliency.pipeline.quality import CUT
from castlit.utils.atomic_write import write_whole

SIDE = 176
"""Longer side of a thumbnail in pixels."""

_QUALITY = 78  # of JPEG: some 15 kB for the three thumbnails of a sample
_GAP = 4


_PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
body {{ margin: 1rem auto; padding: 0 .8rem; max-width: 76rem; font: 16px/1.45 system-ui, sans-serif; color: #222;
  background: #fff }}
h1 {{ font-size: 1.3rem; overflow-wrap: anywhere }}
h2 {{ font-size: 1.1rem; margin: 1.6rem 0 .6rem }}
.sheet {{ display: grid; gap: 1rem; grid-template-columns: repeat(auto-fill, minmax(min(100%, 21rem), 1fr)) }}
figure {{ margin: 0 }}
img {{ display: block; width: 100%; max-height: 60vh; object-fit: contain; object-position: left }}
figcaption {{ font-size: .85rem; color: #444; overflow-wrap: anywhere }}
b {{ color: #a33; font-weight: 600 }}
</style>
<h1>{title}</h1>
<p>{how}. {counts}</p>
<p>Each sample shows the image, its map as heat (blue 0, red 1), and the mask: the map above 128 of 255. Half of the
samples are the worst, the others are drawn by chance from the rest; both are shown worst first. <em>Worst</em> is a
guess made without labels: the mean of how grey the map is (0&nbsp;%: only 0 and 1) and of what the colours inside and
outside the mask have in common; or, where that is more, the share of the image's border that the mask covers, or how
far it is below 5&nbsp;% or above 50&nbsp;% of the image.</p>
{sections}
</html>
"""


def write_preview(path: Path, recipe: Recipe, choice: Choice, counts: dict[str, int]) -> None:
    """Write the contact sheet.

    Args:
        path: The file.
        recipe: Where images and masks are.
        choice: The samples.
        counts: See :attr:`castlit.saliency.pipeline.run.Made.counts`.

    Raises:
        OSError: It cannot be written.
    """
    told = ", ".join(f"{count:,} {what}" for what, count in counts.items() if count or what == "images")
    worst, drawn = choice.worst, choice.drawn
    sections = [_section("The worst", worst, recipe), _section("Drawn by chance from the others", drawn, recipe)]
    failed = " Those that failed are not shown; failed.csv lists them." if counts["failed"] else ""
    page = _PAGE.format(
        title=html.escape(f"Masks of {recipe.images}"),
        how=html.escape(recipe.made),
        counts=html.escape(told + "." + failed),
        sections="".join(sections),
    )
    write_whole(path, page.encode("utf-8", "replace"))


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


def _section(title: str, samples: list[Sample], recipe: Recipe) -> str:
    figures = [_figure(sample, recipe) for sample in samples]
    return f"<h2>{title} ({len(samples)})</h2><div class=sheet>{''.join(figures)}</div>" if samples else ""


def _figure(sample: Sample, recipe: Recipe) -> str:
    name, figures = sample
    mask = recipe.output / mask_name(name)
    try:
        image = open_image(recipe.images / name, SIDE, SIDE).image
        levels = decode(read_bytes(mask), str(mask), cv2.IMREAD_GRAYSCALE)
    except SampleError:
        return ""  # gone since
    data = cv2.imencode(".jpg", strip(image, levels)[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])[1]
    picture = base64.b64encode(data.tobytes()).decode()
    words = f" <b>{figures.words}</b>" if figures.words else ""
    numbers = f"{figures.area:.1%} of the image, grey {figures.grey:.0%}, colours {figures.overlap:.0%}"
    numbers += f", border {figures.border:.0%}" if figures.border else ""
    return (
        f'<figure><img src="data:image/jpeg;base64,{picture}" alt="image, map and mask">'
        f"<figcaption>{html.escape(name)}<br>{numbers}{words}</figcaption></figure>"
    )
