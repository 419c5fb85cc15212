"""``report.html``: the results of all protocols on one self-contained page."""

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
from castlit.utils.atomic_write import write_atomic

PICTURES = 6
"""Maximum number for each protocol."""

WIDTH = 1100
"""Maximum width of a picture in pixels."""


@dataclass
class Section:
    """One protocol in the report: its results, or the reason why it did not run, or its error."""

    name: str
    results: Results | Table | None = None
    published: list[PublishedRow] = field(default_factory=list)
    seconds: float = 0.0
    folder: Path | None = None
    """The protocol's output; the report includes the pictures (.png) at its top level."""
    not_run: str = ""
    failed: str = ""
    masks: str | None = None
    """Where the masks come from that it used, if it used some."""


def write_report(file: Path, checkpoint: str, sections: Sequence[Section]) -> int:
    """Write the page; it includes its pictures.

    Args:
        file: The page.
        checkpoint: As it was typed.
        sections: The protocols, in the order of the page.

    Returns:
        The page's size in bytes.

    Raises:
        OSError: It cannot be written.
    """
    body = [html.paragraph(f"Evaluated with castlit {__version__}. Pictures and details lie beside this page.")]
    run = Path(checkpoint).expanduser().absolute().parent.parent
    training = run / "gradcam.png"  # where castlit.train writes it
    if Path(checkpoint).parent.name == "checkpoints" and (run / "config.yaml").is_file() and training.is_file():
        body += [html.heading("Training"), html.figure(_shrunk(training), "gradcam.png of the training run")]
    for section in sections:
        if section.results is None:
            continue
        took = f"{section.seconds:.0f} s" if section.seconds < 600 else f"{section.seconds / 3600:.1f} h"
        body += [
            html.heading(section.name),
            html.table(section.results, section.published),
            html.paragraph(f"Took {took}." if section.masks is None else f"Masks: {section.masks}. Took {took}."),
        ]
        pictures = sorted(section.folder.glob("*.png"))[:PICTURES] if section.folder else []
        body.append(
            html.sheet([html.figure(_shrunk(picture), f"{section.name}/{picture.name}") for picture in pictures])
        )
    for title, reasons in (
        ("Failed", {section.name: section.failed for section in sections if section.failed}),
        ("Not run", {section.name: section.not_run for section in sections if section.not_run}),
    ):
        if reasons:
            body += [html.heading(title), *(html.paragraph(f"{name}: {reason}") for name, reason in reasons.items())]
    page = html.page(f"Evaluation of {checkpoint}", body)
    write_atomic(file, page)
    return len(page)


def _shrunk(file: Path) -> Picture:
    """A picture, shrunk to the maximum width."""
    with Image.open(file) as opened:
        picture = np.asarray(opened.convert("RGB"))
    height, width = picture.shape[:2]
    if width <= WIDTH:
        return picture
    size = (WIDTH, max(1, round(height * WIDTH / width)))
    return np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA), np.uint8)
