"""A small VOCdevkit."""

import numpy as np
import pytest
from PIL import Image

COLOURS = {"cat": (200, 40, 40), "dog": (40, 200, 40), "person": (40, 40, 200)}


@pytest.fixture
def devkit(tmp_path):
    """VOC2007 in its own layout: 24 + 24 images of one to two patches; a class is a colour."""
    top = tmp_path / "VOCdevkit" / "VOC2007"
    main = top / "ImageSets" / "Main"
    main.mkdir(parents=True)
    (top / "JPEGImages").mkdir()
    rng = np.random.default_rng(0)
    for split in ("trainval", "test"):
        lists = {name: [] for name in COLOURS}
        for i in range(24):
            pixels = rng.integers(90, 130, (48, 64, 3)).astype(np.uint8)
            there = {list(COLOURS)[i % 3], *(name for name in COLOURS if rng.random() < 0.2)}
            for place, name in enumerate(sorted(there)):
                pixels[8:40, 2 + 20 * place : 20 + 20 * place] = COLOURS[name]
            Image.fromarray(pixels).save(top / "JPEGImages" / f"{split}{i:03}.jpg", quality=95)
            for name, lines in lists.items():
                lines.append(f"{split}{i:03} {' 1' if name in there else '-1'}")
        for name, lines in lists.items():
            (main / f"{name}_{split}.txt").write_text("\n".join(lines) + "\n")
        (main / f"{split}.txt").write_text("\n".join(line.split()[0] for line in lines) + "\n")
    return tmp_path / "VOCdevkit"
