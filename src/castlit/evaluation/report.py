"""``report.html``: what came of all protocols, on one page that can be mailed."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from castlit import __version__
from castlit.reporting import html
from castlit.reporting.images import Picture
from castlit.reporting.published import PublishedRow
from castlit.reporting.results import Results, Table
from castlit.utils.atomic_write import write_whole

PICTURES = 6
"""At most so many of each protocol."""

WIDTH = 1100
"""At most, of a picture in pixels."""


@dataclass
class Part:
    """One protocol in the report: what it gave, or why it did not run, or how it failed."""

    name: str
    results: Results | Table | None = None
    published: list[PublishedRow] = field(default_factory=list)
    seconds: float = 0.0
    folder: Path | None = None
    """Where it wrote; pictures (.png) right in it go into the report."""
    not_run: str = ""
    failed: str = ""


def write_report(file: Path, checkpoint: str, parts: Sequence[Part]) -> int:
    """Write the page; it needs nothing beside it.

    Args:
        file: The page.
        checkpoint: As it was typed.
        parts: In the order of the page.

    Returns:
        Its size in bytes.

    Raises:
        OSError: It cannot be written.
    """
    body = [html.paragraph(f"Evaluated with castlit {__version__}. Pictures and details lie beside this page.")]
    training = Path(checkpoint).parent.parent / "gradcam.png"  # as castlit.train leaves it
    if training.is_file():
        body += [html.heading("Training"), html.figure(_light(training), "gradcam.png of the training run")]
    for part in parts:
        if part.results is None:
            continue
        took = f"{part.seconds:.0f} s" if part.seconds < 600 else f"{part.seconds / 3600:.1f} h"
        body += [html.heading(part.name), html.table(part.results, part.published), html.paragraph(f"Took {took}.")]
        pictures = sorted(part.folder.glob("*.png"))[:PICTURES] if part.folder else []
        body.append(html.sheet([html.figure(_light(picture), f"{part.name}/{picture.name}") for picture in pictures]))
    for title, reasons in (
        ("Failed", {part.name: part.failed for part in parts if part.failed}),
        ("Not run", {part.name: part.not_run for part in parts if part.not_run}),
    ):
        if reasons:
            body += [html.heading(title), *(html.paragraph(f"{name}: {reason}") for name, reason in reasons.items())]
    page = html.page(f"Evaluation of {checkpoint}", body)
    write_whole(file, page)
    return len(page)


def _light(file: Path) -> Picture:
    """A picture, no wider than the page."""
    with Image.open(file) as opened:
        picture = np.asarray(opened.convert("RGB"))
    height, width = picture.shape[:2]
    if width <= WIDTH:
        return picture
    size = (WIDTH, max(1, round(height * WIDTH / width)))
    return np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA), np.uint8)
