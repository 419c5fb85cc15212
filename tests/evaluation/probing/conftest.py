import numpy as np
import pytest
from PIL import Image

INKS = {"apple": (220, 60, 60), "kiwi": (60, 220, 60), "plum": (60, 60, 220)}


@pytest.fixture
def folders(tmp_path):
    """ImageNet's layout: 8 + 4 images of each of three classes, each of its class's colour, with noise."""
    rng = np.random.default_rng(0)
    for split, count in (("train", 8), ("val", 4)):
        for name, ink in INKS.items():
            place = tmp_path / "imagenet" / split / name
            place.mkdir(parents=True)
            for i in range(count):
                pixels = np.clip(np.array(ink) + rng.normal(0, 20, (36, 48, 3)), 0, 255).astype(np.uint8)
                Image.fromarray(pixels).save(place / f"{i}.jpg", quality=95)
    return tmp_path / "imagenet"
