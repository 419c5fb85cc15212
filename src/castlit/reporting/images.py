"""Draw images, masks and CAMs."""

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from castlit.data.io.source import MEAN, STD

if TYPE_CHECKING:
    from torch import Tensor

Picture = NDArray[np.uint8]

_INK, _PAPER, _FAINT = (40, 42, 54), (255, 255, 255), (120, 124, 140)
_GAP = 6
_LABEL_WIDTH = 132
_MASK_COLOUR = np.array([255, 64, 129], np.float32)


def overlay_cam(image: Picture, cam: NDArray[np.float32]) -> Picture:
    """Overlay a CAM on its image: hotter parts are more opaque, cold parts show the image in grey.

    Args:
        image: (H, W, 3) uint8 RGB.
        cam: (h, w), ≥ 0; scaled by its own maximum. A CAM of zeros leaves the grey image.
    """
    size = (image.shape[1], image.shape[0])
    # Cubic interpolation overshoots below zero next to a peak.
    heat = np.clip(cv2.resize(cam.astype(np.float32), size, interpolation=cv2.INTER_CUBIC), 0, None)
    heat = heat / max(float(heat.max()), np.finfo(np.float32).tiny)
    colour = cv2.cvtColor(cv2.applyColorMap((heat * 255).astype(np.uint8), cv2.COLORMAP_TURBO), cv2.COLOR_BGR2RGB)
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)[..., None].astype(np.float32)
    base = 0.35 * image + 0.65 * grey
    opacity = 0.85 * np.sqrt(heat)[..., None]
    blended: Picture = (base * (1 - opacity) + colour * opacity).astype(np.uint8)
    return blended


def overlay_mask(image: Picture, mask: NDArray[np.uint8]) -> Picture:
    """Show what a mask keeps: the object in colour with an outline, everything else faded.

    Args:
        image: (H, W, 3) uint8 RGB.
        mask: (H, W), nonzero on the object.
    """
    inside = (mask > 0)[..., None]
    faded = 0.25 * image + 0.75 * 245.0
    masked = np.where(inside, image, faded)
    outline = (
        cv2.morphologyEx((mask > 0).astype(np.uint8), cv2.MORPH_GRADIENT, np.ones((3, 3), np.uint8))[..., None] > 0
    )
    return np.where(outline, _MASK_COLOUR, masked).astype(np.uint8)


def grid(rows: Sequence[tuple[str, Sequence[Picture]]], title: str, caption: str = "") -> Picture:
    """Arrange images of equal size in labelled rows, under a title.

    Args:
        rows: Label (may have line breaks) and images (H, W, 3) of each row.
        title: Line at the top.
        caption: Line at the bottom.
    """
    height, width = rows[0][1][0].shape[:2]
    columns = max(len(pictures) for _, pictures in rows)
    top, bottom = 40, 34 if caption else 10
    canvas = Image.new(
        "RGB", (_LABEL_WIDTH + columns * (width + _GAP) + _GAP, top + len(rows) * (height + _GAP) + bottom), _PAPER
    )
    draw = ImageDraw.Draw(canvas)
    draw.text((12, 11), title, _INK, ImageFont.load_default(18))
    for r, (label, pictures) in enumerate(rows):
        y = top + r * (height + _GAP)
        draw.multiline_text((12, y + height / 2), label, _INK, ImageFont.load_default(15), anchor="lm")
        for c, picture in enumerate(pictures):
            canvas.paste(Image.fromarray(picture), (_LABEL_WIDTH + c * (width + _GAP), y))
    if caption:
        draw.text((12, canvas.height - 27), caption, _FAINT, ImageFont.load_default(13))
    return np.asarray(canvas)


def to_picture(image: "Tensor") -> Picture:
    """Convert a normalised image (3, H, W) back to (H, W, 3) uint8 RGB."""
    import torch  # not at the top: pages are written without it

    mean, std = (torch.tensor(x, dtype=torch.float32)[:, None, None] for x in (MEAN, STD))
    pixels = (image.detach().float().cpu() * std + mean).mul(255).round().clamp(0, 255)
    return pixels.to(torch.uint8).permute(1, 2, 0).numpy()


def enlarge(picture: NDArray[np.uint8], height: int, interpolation: int = cv2.INTER_CUBIC) -> NDArray[np.uint8]:
    """Scale an image or mask to a height, keeping its aspect ratio."""
    width = max(1, round(height * picture.shape[1] / picture.shape[0]))
    return np.asarray(cv2.resize(picture, (width, height), interpolation=interpolation), np.uint8)


def strip(columns: Sequence[tuple[str, Picture]]) -> Picture:
    """Arrange images of equal height side by side, each under a line of text.

    Args:
        columns: Text and image (H, W, 3) of each column.
    """
    top, height = 24, columns[0][1].shape[0]
    font = ImageFont.load_default(13)
    # At least as wide as the text.
    widths = [max(picture.shape[1], round(font.getlength(line)) + 4) for line, picture in columns]
    canvas = Image.new("RGB", (sum(widths) + _GAP * (len(columns) - 1), top + height), _PAPER)
    draw = ImageDraw.Draw(canvas)
    x = 0
    for (line, picture), width in zip(columns, widths, strict=True):
        draw.text((x, 4), line, _INK, font)
        canvas.paste(Image.fromarray(picture), (x, top))
        x += width + _GAP
    return np.asarray(canvas)


def encode(picture: Picture, suffix: str = ".png") -> bytes:
    """Return the bytes of an image file.

    Args:
        picture: (H, W, 3) uint8 RGB.
        suffix: Chooses the format; one of ``PIL.Image.registered_extensions()``.
    """
    file = io.BytesIO()
    # zlib's best level takes eight times as long as level 4 for 4 % less, Pillow's default twice as long for 2 % less.
    Image.fromarray(picture).save(file, Image.registered_extensions()[suffix.lower()], compress_level=4)
    return file.getvalue()
