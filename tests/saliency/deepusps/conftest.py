"""Small photographs for a small training."""

import pytest
from PIL import Image

TINY = {"backbone": {"name": "tiny_resnet"}, "width": 8, "size": 48, "batch_size": 4, "epochs": 2, "final_epochs": 3}


@pytest.fixture(scope="session")
def tiny():
    """Settings of a training that takes seconds."""
    return TINY


@pytest.fixture(scope="session")
def photographs(tmp_path_factory, blot):
    """Ten files: eight images of a block, one of a single colour, and one that is no image."""
    folder = tmp_path_factory.mktemp("photographs")
    for i in range(8):
        place = (8 + 3 * i, 10 + i, 30 + 3 * i, 30 + i)
        image, _ = blot((48, 64), place, (60, 140, 70), (200, 60, 50), seed=i)
        Image.fromarray(image).save(folder / f"{i}.png")
    Image.new("RGB", (64, 48), (90, 90, 90)).save(folder / "uniform.png")
    (folder / "broken.png").write_bytes(b"no image")
    return sorted(folder.iterdir())
