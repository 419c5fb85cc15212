"""apply_network gives the same masks in processes, and removes its file."""

import pytest
from PIL import Image

from castlit.saliency.algorithms.registry import METHODS
from castlit.saliency.pipeline.apply_network import apply_network
from castlit.saliency.pipeline.one_mask import Recipe, mask_name


@pytest.fixture
def photos(tmp_path, blot):
    names = []
    for i in range(5):
        image, _ = blot((60, 90), (15 + 5 * i, 12, 45 + 5 * i, 40), (60, 140, 70), (200, 60, 50), seed=i)
        Image.fromarray(image).save(tmp_path / f"{i}.png")
        names.append(f"{i}.png")
    (tmp_path / "bad.png").write_bytes(b"no image")
    return tmp_path, [*names[:3], "bad.png", *names[3:]]


def test_processes_give_the_same_masks(photos):
    folder, names = photos
    scratch = folder / "scratch" / "predictor.pickle"
    masks = {}
    for workers in (0, 2):
        recipe = Recipe(folder, folder / f"masks{workers}", "m", 64, 1024)
        outcomes = list(apply_network(recipe, METHODS["fast"], iter(names), workers, scratch))
        assert [outcome.name for outcome in outcomes] == names
        assert [bool(outcome.failure) for outcome in outcomes] == [False] * 3 + [True] + [False] * 2
        assert not scratch.exists()
        good = [name for name in names if name != "bad.png"]
        masks[workers] = [(recipe.output / mask_name(name)).read_bytes() for name in good]
    assert masks[0] == masks[2]


def test_interruption_removes_the_file(photos):
    folder, names = photos
    scratch = folder / "predictor.pickle"
    recipe = Recipe(folder, folder / "masks", "m", 64, 1024)
    outcomes = apply_network(recipe, METHODS["fast"], iter(names), 1, scratch)
    next(outcomes)
    assert scratch.exists()
    outcomes.close()
    assert not scratch.exists()
