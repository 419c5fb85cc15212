"""Palettes, and a random jitter of them."""

import cv2
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]


def palette(*colours: str) -> Floats:
    """Read hexadecimal colours such as ``"e4572e"`` into a (k, 3) float32 RGB array, values 0 to 255."""
    return np.array([list(bytes.fromhex(colour)) for colour in colours], np.float32)


def jitter(colours: Floats, rng: np.random.Generator, *, hue: float, light: float, saturation: float) -> Floats:
    """Shift all colours of a palette by the same random step in hue, lightness and saturation.

    Args:
        colours: (k, 3) RGB, 0 to 255.
        rng: Random generator of the step; always three draws.
        hue: Largest shift of the hue, degrees either way.
        light: Largest change of a mid-grey's lightness, as a fraction of the full range; white and black do not change.
        saturation: Largest relative change of the saturation.

    Returns:
        (k, 3) float32 RGB, 0 to 255.
    """
    turn, lift, gain = rng.uniform(-1.0, 1.0, 3)
    hls = cv2.cvtColor(colours[None] / 255.0, cv2.COLOR_RGB2HLS)[0]
    hls[:, 0] = (hls[:, 0] + hue * turn) % 360.0
    hls[:, 1] += light * lift * 4.0 * hls[:, 1] * (1.0 - hls[:, 1])
    hls[:, 2] = np.clip(hls[:, 2] * (1.0 + saturation * gain), 0.0, 1.0)
    moved: Floats = cv2.cvtColor(hls[None], cv2.COLOR_HLS2RGB)[0] * 255.0
    return moved
