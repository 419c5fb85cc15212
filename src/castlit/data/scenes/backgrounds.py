"""The ten background classes: a name, a palette and a texture each."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from castlit.data.scenes import made, nature
from castlit.data.scenes.colour import Floats, jitter, palette
from castlit.data.scenes.textures import Bytes


class _Kind(NamedTuple):
    paint: Callable[[np.random.Generator, int, Floats], Floats | Bytes]
    colours: Floats


_KINDS: dict[str, _Kind] = {
    "sea": _Kind(nature.sea, palette("1f6fb2", "3a93d0", "6fbbe6", "e8f8ff")),
    "meadow": _Kind(nature.meadow, palette("4c8a34", "6cae41", "a4d465", "ffffff", "ffd23f")),
    "knit": _Kind(made.knit, palette("8d5fa8", "b88ad0", "d9b8ea", "fff0f6")),
    "planks": _Kind(made.planks, palette("4a2d1c", "8a5a36", "b98555")),
    "pines": _Kind(nature.pines, palette("f6fafe", "d3e4f2", "4c9385", "2c6263", "a9c9de")),
    "tiles": _Kind(made.tiles, palette("f2efe6", "7fd0c0", "f3faf4", "2f9a94")),
    "dunes": _Kind(nature.dunes, palette("d29a55", "ecc27e", "fbe3ae")),
    "night": _Kind(nature.night, palette("1b1d4a", "3d3480", "6a64bd", "f6f0d8")),
    "bricks": _Kind(made.bricks, palette("e3d2bf", "a8452f", "cf6d4c")),
    "metal": _Kind(made.metal, palette("6d7a86", "9aa7b1", "cdd6dc")),
}
BACKGROUNDS: tuple[str, ...] = tuple(_KINDS)


def render_background(background_class: int, rng: np.random.Generator, size: int) -> Floats:
    """Paint one background.

    Args:
        background_class: Index into BACKGROUNDS.
        rng: Random generator of phase, angle, frequency and colours; the draws do not depend on ``size``.
        size: Side of the square picture, pixels.

    Returns:
        (size, size, 3) float32 RGB, 0 to 255.
    """
    kind = _KINDS[BACKGROUNDS[background_class]]
    colours = jitter(kind.colours, rng, hue=7.0, light=0.06, saturation=0.12)
    return kind.paint(rng, size, colours).astype(np.float32, copy=False)
