import numpy as np
import pytest
from PIL import Image

INKS = {"apple": (220, 30, 30), "kiwi": (30, 220, 30), "plum": (40, 40, 220)}
GROUNDS = {"apple": (90, 60, 60), "kiwi": (60, 90, 60), "plum": (60, 60, 90)}


@pytest.fixture
def own(tmp_path):
    """Ten images of each of three classes: a bright block on the class's dark background, and its mask."""
    rng = np.random.default_rng(0)
    for name, ink in INKS.items():
        for i in range(10):
            pixels = np.empty((40, 60, 3), np.uint8)
            pixels[:] = GROUNDS[name]
            mask = np.zeros((40, 60), np.uint8)
            x, y = int(rng.integers(4, 40)), int(rng.integers(4, 24))
            pixels[y : y + 12, x : x + 12] = ink
            mask[y : y + 12, x : x + 12] = 255
            for kind, array in (("images", pixels), ("masks", mask)):
                place = tmp_path / "own" / kind / name
                place.mkdir(parents=True, exist_ok=True)
                Image.fromarray(array).save(place / f"{i}.png")
    return tmp_path / "own"
